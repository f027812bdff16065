"""Quiet and quick: how few comments and check runs a ticket makes, how soon it shows, and what it says when it waits."""

from __future__ import annotations

import asyncio
import json
import os
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from bot.clock import SystemClock
from bot.store.entries import save_lane
from bot.store.store import open_store
from schemas.lane import LaneState
from tests.e2e.places import FILES, S, approve, place, put, reads, requests, under_review, until, until_state
from tests.e2e.world import World, Zygote, world

SOAK = int(os.environ.get("INTERLOCK_SOAK", "1"))
AT_ONCE = 8 if SOAK == 1 else 50
TASKS = 6 if SOAK == 1 else 20


async def made(scene: World, end: str) -> list[dict[str, Any]]:
    """The bot's POST requests to paths with this end that GitHub took."""
    found = await requests(scene)
    return [one for one in found if one["method"] == "POST" and one["path"].endswith(end) and one["status"] == 201
            and one["who"].endswith("[bot]")]  # fmt: skip


@pytest.mark.slow
async def test_many_labels_at_once_all_show_at_once(tmp_path: Path, zygote: Zygote) -> None:
    names = [f"{number}x" for number in range(AT_ONCE)]
    async with world(tmp_path, zygote, FILES, thinking()) as scene:
        await scene.start()
        first = await scene.label("Put the kettle on", "please")
        await reads(scene, first.issue, "### Interlock")  # it is awake
        people = await asyncio.gather(*(scene.label(f"Put {name}", "please") for name in names))
        for person in people:
            await reads(scene, person.issue, "### Interlock")
        waited = []
        for person in people:
            labelled, shown = await times(scene, person.issue)
            waited.append((shown - labelled).total_seconds())
        waited.sort()
        assert waited[int(len(waited) * 0.95)] < 3 * slowed(), waited
        assert len(await made(scene, "/comments")) == AT_ONCE + 1


def slowed() -> float:
    """How many times slower this machine is than an idle one: the share of a processor that we get, upside down."""
    began, worked = time.monotonic(), time.process_time()
    while time.process_time() - worked < 0.3:
        pass
    return max((time.monotonic() - began) / 0.3, 1.0)


async def times(scene: World, issue: int) -> tuple[datetime, datetime]:
    """When an issue was labelled, and when the bot's first comment on it was there."""
    path = f"/repos/octo/app/issues/{issue}"
    found = [one for one in await requests(scene) if one["method"] == "POST" and one["path"].startswith(f"{path}/")]
    label, comment = (next(one for one in found if one["path"] == f"{path}/{what}") for what in ("labels", "comments"))
    return datetime.fromisoformat(label["at"]), datetime.fromisoformat(comment["at"])


def thinking() -> dict[str, Any]:
    return {"rules": [{"role": "engineer", "steps": [{"hang": 100}]}]}


@pytest.mark.slow
async def test_a_ticket_of_many_tasks_makes_few_check_runs_and_comments(tmp_path: Path, zygote: Zygote) -> None:
    tasks = [
        {"key": f"k{n}", "title": f"Write {n}.txt", "kind": "feature", "brief": "b", "owns": [f"{n}.txt"]}
        for n in range(1, TASKS + 1)
    ]
    scope = {"tool": "submit_scope", "args": {"goal": "All of them", "kind": "feature", "acceptance": ["there"]}}
    rules: list[dict[str, Any]] = [
        {"role": "engineer", "steps": [{"calls": [scope]}]},
        {"role": "orchestrator", "steps": [{"calls": [{"tool": "submit_plan", "args": {"tasks": tasks}}]}]},
    ]
    for n in range(1, TASKS + 1):
        write = {"tool": "create", "args": {"path": f"{{cwd}}/{n}.txt", "file_text": f"{n}\n"}}
        finish = {"tool": "finish", "args": {"summary": "written"}}
        rules.append({"role": "developer", "match": f'"title": "Write {n}.txt"', "steps": [{"calls": [write, finish]}]})
    files = {**FILES, ".github/interlock.yml": f"max_tasks: 20\n{FILES['.github/interlock.yml']}"}
    async with world(tmp_path, zygote, files, {"rules": rules}) as scene:
        await scene.start()
        person = await scene.label("All of them", "please")
        found = await until(scene, person.issue, lambda it: it.state is S.REVIEWING and it.pull_request, seconds=120)
        await approve(scene, found)
        done = await until_state(scene, person.issue, S.DONE)
        await scene.quiet()
        assert len(done.landed) == TASKS and done.pull_request
        runs = [json.loads(one["body"]) for one in await made(scene, "/check-runs")]
        assert TASKS < len(runs) <= 2 * TASKS + 5
        assert len({(run["name"], run["head_sha"]) for run in runs}) == len(runs)  # each is made once, then edited
        assert len(await made(scene, f"/issues/{person.issue}/comments")) <= 3
        assert not await made(scene, f"/issues/{done.pull_request.number}/comments")


@pytest.mark.slow
async def test_a_silent_ticket_says_what_it_waits_on_and_a_paused_lane_is_told(tmp_path: Path, zygote: Zygote) -> None:
    async with place(tmp_path, zygote, "Ab") as scene:
        thinks = await put(scene, "b")
        await until(scene, thinks, lambda it: it.agent_running)
        (found,) = await under_review(scene, "A")
        await scene.stop()
        await pause(scene, found.base_lane)
        scene.orders["hours"] = 0.1
        await scene.github.control("clock", {"advance": 360})
        await scene.start()
        await reads(scene, thinks, "Nothing new since 20", "UTC: waits for the Engineer.")
        silent = await until(scene, thinks, lambda it: it.silent)
        assert silent.speaks_at is None  # said once
        await approve(scene, found)
        await reads(scene, found.issue, "Interlock · landing", "stopped by hand for the afternoon")
        await until(scene, found.issue, lambda it: it.state is S.LANDING and not it.landed)


async def pause(scene: World, key: str) -> None:
    """The lane as an earlier ticket's CI may have left it."""
    async with open_store(scene.folder / "data" / "interlock.db", SystemClock()) as store:
        lane = await store.lane(key)
        paused = lane.model_copy(update={"state": LaneState.PAUSED, "why": "stopped by hand for the afternoon"})
        await store.database.write("put", lambda conn: save_lane(conn, paused))
