"""A GitHub on a bad day: everything lands, each write is there once, and the budget for content is never used up.

The stand-in answers at random with what GitHub answers on such days, and its clock runs with the bot's. The witness is
what it holds in the end and what it was asked.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bot.clock import SystemClock
from bot.standin.client import git
from bot.store.store import open_store
from schemas.ticket import TicketState
from tests.e2e.world import World, Zygote, world

SOAK = float(os.environ.get("INTERLOCK_SOAK", "1"))
TICKETS = int(4 * SOAK)
PACE = 40.0
"""How fast both clocks run: a minute of waiting takes a second and a half."""
SHARE = 0.06


FILES = {".github/interlock.yml": "checks:\n  - name: there\n    command: test -d parts\n", "parts/none.txt": "none\n"}


def _calls(tool: str, **args: Any) -> dict[str, Any]:
    return {"calls": [{"tool": tool, "args": args}]}


def playbook(tickets: int) -> dict[str, Any]:
    """Each ticket has two tasks, which write a file each."""
    rules = []
    for ticket in range(tickets):
        scope = _calls("submit_scope", goal=f"Part {ticket} is there", kind="feature", acceptance=["it is there"])
        names = [f"{ticket}-{half}" for half in "ab"]
        tasks = [
            {"key": n, "title": f"Write {n}.txt", "kind": "feature", "brief": "One line.", "owns": [f"parts/{n}.txt"]}
            for n in names
        ]
        rules += [
            {"role": "engineer", "match": f"Part {ticket}\\b", "steps": [scope]},
            {"role": "orchestrator", "match": f"Part {ticket} is there", "steps": [_calls("submit_plan", tasks=tasks)]},
        ]
        for name in names:
            write = _calls("create", path=f"{{cwd}}/parts/{name}.txt", file_text=f"{name}\n")
            rules.append(
                {"role": "developer", "match": f"Write {name}.txt", "steps": [write, _calls("finish", summary=name)]}
            )
    return {"rules": rules}


@pytest.mark.slow
async def test_a_bad_day(tmp_path: Path, zygote: Zygote) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    async with world(tmp_path, zygote, FILES, playbook(TICKETS)) as scene:
        await scene.hasten(PACE)
        await scene.github.control("limits", {"on": True})
        await scene.github.control("chaos", {"seed": seed, "share": SHARE})
        await scene.start()
        people = [await scene.label(f"Part {n}", "Two files.") for n in range(TICKETS)]
        await scene.until_closed(*people, seconds=90 + 60 * TICKETS)
        await scene.github.control("chaos", {"share": 0.0})
        await settled(scene)
        await assert_each_write_once(scene, TICKETS)
        said = await scene.github.control("calls")
        met = Counter(call["fault"] for call in said["calls"])
        print(f"{len(said['calls'])} calls, {len(said['created'])} for content, faults {dict(met)}")
        assert said["over"] == 0
        assert most_within([datetime.fromisoformat(at) for at in said["created"]], timedelta(minutes=1)) <= 80
        assert most_within([datetime.fromisoformat(at) for at in said["created"]], timedelta(hours=1)) <= 500
        assert len(said["calls"]) - met[""] > 2 * TICKETS, met


def most_within(instants: list[datetime], window: timedelta) -> int:
    """The most of them that lie within one window."""
    most, first = 0, 0
    for last, at in enumerate(instants):
        while instants[first] <= at - window:
            first += 1
        most = max(most, last - first + 1)
    return most


async def settled(scene: World) -> None:
    """Until no effect waits."""
    async with asyncio.timeout(60):
        sequence = 0
        while await waiting(scene):
            sequence = await scene.github.wait(sequence, 0.5)


async def waiting(scene: World) -> int:
    async with open_store(scene.folder / "data" / "interlock.db", SystemClock(), exclusive=False) as store:
        return sum((await store.snapshot(SystemClock().wall())).effects.values())


async def assert_each_write_once(scene: World, tickets: int) -> None:
    found = await scene.tickets()
    assert [ticket.state for ticket in found] == [TicketState.DONE] * tickets
    commits = await scene.get("/commits?sha=main&per_page=100")
    trailers = Counter(
        line
        for commit in commits
        for line in commit["commit"]["message"].splitlines()
        if line.startswith("Change-Request: ")
    )
    assert trailers == {f"Change-Request: {ticket.id}/{task}.1": 1 for ticket in found for task in (1, 2)}
    files = (await git(scene.bare(), "ls-tree", "-r", "--name-only", "main", "parts/")).split()
    assert len(files) == 2 * tickets + 1
    pulls = await scene.get("/pulls?state=all&per_page=100")
    assert len(pulls) == tickets and all(pull["merged_at"] for pull in pulls)
    for issue in range(1, max(pull["number"] for pull in pulls) + 1):
        firsts = Counter(comment["body"].splitlines()[0] for comment in await scene.comments(issue))
        assert not firsts or max(firsts.values()) == 1, firsts
    for commit in commits:
        runs = (await scene.get(f"/commits/{commit['sha']}/check-runs?filter=all"))["check_runs"]
        names = Counter((run["name"], run["external_id"]) for run in runs)
        assert not names or max(names.values()) == 1, names
