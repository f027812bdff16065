"""Webhooks that are lost, repeated and out of order, or that nobody can send, change nothing about how tickets end."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from schemas.ticket import TicketState
from tests.e2e.world import World, Zygote, world

TICKETS = max(4, int(100 * float(os.environ.get("INTERLOCK_SOAK", "0"))))
WORDS = [f"word-{number:03}" for number in range(TICKETS)]
POLICY = "checks:\n  - name: there\n    command: test -s LIST\n"
FILES = {".github/interlock.yml": POLICY, "LIST": "all\n", **{f"{word}.txt": "empty\n" for word in WORDS}}
LOSSES = {"lose": 0.3, "repeat": 0.2, "shuffle": 0.3, "seed": 7}
QUICK = {"catch_up_seconds": 0.4, "poll_seconds": (0.1, 0.4)}


def _calls(tool: str, **args: Any) -> dict[str, Any]:
    return {"calls": [{"tool": tool, "args": args}]}


def _rules(word: str) -> list[dict[str, Any]]:
    scope = _calls("submit_scope", goal=f"{word} is written down", kind="feature", acceptance=["it is there"])
    ask = _calls("ask_questions", questions=[{"id": "q", "text": f"Which {word}?", "why": "it matters"}])
    task = {"key": "only", "title": f"Write {word}", "kind": "feature", "brief": word, "owns": [f"{word}.txt"]}
    edit = _calls("edit", path=f"{{cwd}}/{word}.txt", old_str="empty\n", new_str=f"{word}\n")
    return [
        {"role": "engineer", "match": f"Note {word}.*best judgement", "steps": [scope]},
        {"role": "engineer", "match": f"Note {word}", "steps": [ask]},
        {"role": "orchestrator", "match": f"{word} is written down", "steps": [_calls("submit_plan", tasks=[task])]},
        {"role": "developer", "match": f"Write {word}", "steps": [edit, _calls("finish", summary=f"Wrote {word}")]},
    ]


PLAYBOOK = {"rules": [rule for word in WORDS for rule in _rules(word)]}


async def ended(folder: Path, zygote: Zygote, losses: Mapping[str, Any], **orders: Any) -> dict[str, Any]:
    """All tickets from label to landed; what has come of them, in words that do not depend on who was first."""
    folder.mkdir()
    async with world(folder, zygote, FILES, PLAYBOOK, INTERLOCK_SANDBOX="off") as scene:
        scene.orders.update(QUICK | orders)
        await scene.start()
        await scene.github.control("losses", losses)
        people = await asyncio.gather(*(scene.label(f"Note {word}", "in its file") for word in WORDS))
        await scene.until_closed(*people, seconds=60 + 6 * TICKETS)
        await scene.github.control("losses", {})
        await settled(scene)
        return await _state(scene)


async def settled(scene: World) -> None:
    """Until each ticket has ended: the issue is closed a moment before that is stored."""
    async with asyncio.timeout(30):
        while not all(ticket.state is TicketState.DONE for ticket in await scene.tickets()):
            await asyncio.sleep(0.05)
    await scene.quiet()


async def _state(scene: World) -> dict[str, Any]:
    issues = [one for one in await scene.get("/issues?state=all&per_page=100") if "pull_request" not in one]
    pulls = await scene.get("/pulls?state=all&per_page=100")
    log = ["git", "-C", str(scene.bare()), "log", "--format=%(trailers:key=Change-Request,valueonly)", "main"]
    landed = subprocess.run(log, capture_output=True, text=True, check=True).stdout.split()
    words = ["git", "-C", str(scene.bare()), "grep", "-h", "word-", "main", "--", "*.txt"]
    return {
        "issues": sorted([(one["title"], one["state"], len(await scene.comments(one["number"]))) for one in issues]),
        "pulls": sorted((pull["merged_at"] is not None, pull["state"]) for pull in pulls),
        "reviews": [len(await scene.get(f"/pulls/{pull['number']}/reviews")) for pull in pulls],
        "landed": sorted(landed),
        "words": sorted(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()),
        "tickets": [(one.state, [task.attempt for task in one.tasks], len(one.questions)) for one in await scene.tickets()],
    }  # fmt: skip


@pytest.mark.slow
async def test_losses_repeats_and_disorder_change_nothing_and_neither_does_polling(
    tmp_path: Path, zygote: Zygote
) -> None:
    plain = await ended(tmp_path / "plain", zygote, {})
    assert plain["words"] == WORDS and len(plain["landed"]) == TICKETS and set(plain["reviews"]) == {1}
    lossy = await ended(tmp_path / "lossy", zygote, LOSSES)
    assert lossy == plain
    polled = await ended(tmp_path / "polled", zygote, {}, poll=True)
    assert polled == plain
