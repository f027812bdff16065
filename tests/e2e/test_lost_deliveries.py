"""Webhooks that are lost, repeated and out of order, or that nobody can send, change nothing about how tickets end."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bot.standin.client import process
from schemas.ticket import TicketState
from tests.e2e.world import NOWHERE, World, Zygote, world

TICKETS = max(3, int(100 * float(os.environ.get("INTERLOCK_SOAK", "0"))))
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
        tried = await scene.github.control("deliveries")
        assert not losses or {True, False} == {one["redelivery"] for one in tried if one["status"] == "OK"}
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


@pytest.mark.slow
async def test_after_a_week_away_labels_answers_and_ends_are_found(tmp_path: Path, zygote: Zygote) -> None:
    """GitHub lists deliveries for three days; these are older."""
    first, second, third = WORDS[:3]
    files = {**FILES, ".github/interlock.yml": POLICY + "questions:\n  deadline_hours: 400\n"}
    async with world(tmp_path, zygote, files, PLAYBOOK, INTERLOCK_SANDBOX="off") as scene:
        await scene.start()
        answered, ended = await scene.label(f"Note {first}", "x"), await scene.label(f"Note {second}", "x")
        for person in (answered, ended):
            await said(scene, person.issue, f"Which {first if person is answered else second}?")
        await scene.stop()
        missed = await scene.label(f"Note {third}", "x")
        path = "/repos/octo/app/issues"
        await scene.github.as_user("alice", "POST", f"{path}/{answered.issue}/comments", {"body": "best judgement"})
        await scene.github.as_user("bob", "PATCH", f"{path}/{ended.issue}", {"state": "closed"})
        await scene.github.control("clock", {"advance": 8 * 86400})
        await scene.start(hours=8 * 24)
        await said(scene, missed.issue, f"Which {third}?")
        async with asyncio.timeout(60):
            while {one.issue: one.state for one in await scene.tickets()}[ended.issue] is not TicketState.CANCELLED:
                await asyncio.sleep(0.05)
            while not (ticket := next(one for one in await scene.tickets() if one.issue == answered.issue)).tasks:
                await asyncio.sleep(0.05)
        assert [question.answer.text for question in ticket.questions if question.answer] == ["best judgement"]


async def said(scene: World, issue: int, words: str) -> None:
    """Until the bot has said so in a comment."""
    async with asyncio.timeout(60):
        sequence = 0
        while not any(words in comment["body"] for comment in await scene.comments(issue)):
            sequence = await scene.github.wait(sequence, 5.0)


@pytest.mark.slow
async def test_the_command_polls_and_listens_on_the_admin_port_alone(tmp_path: Path, zygote: Zygote) -> None:
    async with world(tmp_path, zygote, FILES, PLAYBOOK, INTERLOCK_SANDBOX="off") as scene:
        await scene.github.control("app", {"webhook_url": NOWHERE})
        scene.environment.pop("INTERLOCK_WEBHOOK_SECRET")
        command = ("bot.cli.main", "serve", "--poll")
        async with process(*command, env=scene.environment, log=tmp_path / "bot.log") as (child, line):
            words = line.split()
            assert words[:2] == ["polling", scene.github.url] and words[2] == "admin"
            async with aiohttp.ClientSession() as session, session.get(f"{words[3]}/healthz") as answer:
                assert answer.status == 200
            sockets = {
                os.readlink(fd) for fd in Path(f"/proc/{child.pid}/fd").iterdir() if fd.exists() or fd.is_symlink()
            }
            rows = [row.split() for row in Path(f"/proc/{child.pid}/net/tcp").read_text().splitlines()[1:]]
            assert len([row for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]) == 1
            person = await scene.label(f"Note {WORDS[0]}", "x")
            await said(scene, person.issue, f"Which {WORDS[0]}?")
