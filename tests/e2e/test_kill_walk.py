"""kill -9 at every durable step in turn, and at random: the same end, every act on GitHub exactly once.

The witness is the stand-in, a process of its own that no kill touches: what it holds and what it was asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections import Counter
from pathlib import Path

import pytest

from bot.clock import SystemClock
from bot.standin.client import SAMPLE, process
from bot.store.store import open_store
from schemas.ticket import TicketState
from tests.e2e.test_main_job import FILES, PLAYBOOK
from tests.e2e.world import ROOT, World, Zygote, alive, world

SHARES = 4
RANDOM_KILLS = 14
ROUNDS = 4


async def assert_exactly_once(scene: World) -> None:
    """The same end as without any kill, and nothing twice."""
    commits = [c for c in await scene.get("/commits?sha=main&per_page=100") if c["sha"] != scene.repo.head]
    trailers = Counter(
        line for commit in commits for line in commit["commit"]["message"].splitlines() if line.startswith("Task: ")
    )
    assert trailers == {f"Task: octo/app#1/{n}": 1 for n in (1, 2, 3)}
    assert len(commits) == 3
    assert commits[0]["commit"]["tree"]["sha"] == EXPECTED_TREE[0], "the base branch holds something else"
    comments = await scene.comments(1)
    firsts = Counter(comment["body"].splitlines()[0] for comment in comments)
    assert max(firsts.values()) == 1, firsts
    assert len(comments) == 3
    assert len(await scene.get("/pulls?state=all")) == 1
    pull = (await scene.get("/pulls?state=all"))[0]
    assert pull["merged_at"] is not None
    runs = [
        run
        for commit in commits
        for run in (await scene.get(f"/commits/{commit['sha']}/check-runs?filter=all"))["check_runs"]
    ]
    assert max(Counter((run["name"], run["head_sha"]) for run in runs).values()) == 1
    assert {run["conclusion"] for run in runs} == {"success"}
    await scene.stop()
    async with open_store(scene.folder / "data" / "interlock.db", SystemClock()) as store:
        assert not (await store.verify()).faults
        ticket = (await store.tickets())[0]
        assert ticket.state is TicketState.DONE
        entries = await store.report_rows()
        assert Counter(entry.state for entry in entries)["landed"] == 4  # three changes, one series


EXPECTED_TREE: list[str] = []
POINTS: list[str] = []


async def clean_run(folder: Path, zygote: Zygote) -> list[str]:
    """Without a kill: what the end looks like, and the fault points on the way. Once for each test process."""
    if POINTS:
        return POINTS
    async with world(folder, zygote, FILES, PLAYBOOK) as scene:
        await scene.start(seen=str(folder / "seen"))
        await scene.until_closed(await scene.label("Make the list useful", "Outside the terminal."))
        await scene.quiet()
        EXPECTED_TREE[:] = [(await scene.get("/commits?sha=main"))[0]["commit"]["tree"]["sha"]]
        await assert_exactly_once(scene)
    POINTS[:] = (folder / "seen").read_text().split()
    return POINTS


@pytest.mark.slow
@pytest.mark.parametrize("share", range(SHARES))
async def test_killed_at_every_durable_step_in_turn(tmp_path: Path, zygote: Zygote, share: int) -> None:
    points = await clean_run(tmp_path / "clean", zygote)
    folder = tmp_path / "walk"
    async with world(folder, zygote, FILES, PLAYBOOK) as scene:
        scene.orders = {"walk": str(folder / "died"), "share": [share, SHARES]}
        await scene.start()
        while not alive(scene.pid):
            await scene.start()
        await scene.until_closed(
            await scene.label("Make the list useful", "Outside the terminal."), seconds=150, revive=True
        )
        await scene.quiet()
        while not alive(scene.pid):
            await scene.start()
            await scene.quiet()
        scene.orders = {}
        await assert_exactly_once(scene)
        died = (folder / "died").read_text().split()
        assert len(died) == len(set(died)) > len(points) // SHARES // 2
        print(f"share {share}: killed at {len(died)} of {len(points)} points, {scene.starts} starts")


@pytest.mark.slow
@pytest.mark.parametrize("round_", range(ROUNDS))
async def test_killed_at_random(tmp_path: Path, zygote: Zygote, round_: int) -> None:
    await clean_run(tmp_path / "clean", zygote)
    dice = random.Random(round_)
    folder = tmp_path / "random"
    async with world(folder, zygote, FILES, PLAYBOOK) as scene:
        await scene.start()
        kills = 0

        async def killer() -> None:
            nonlocal kills
            while kills < RANDOM_KILLS:
                await asyncio.sleep(dice.uniform(0.02, 0.5))
                if alive(scene.pid):
                    scene.kill()
                    kills += 1

        person = await scene.label("Make the list useful", "Outside the terminal.")
        killing = asyncio.create_task(killer())
        await scene.until_closed(person, seconds=120, revive=True)
        killing.cancel()
        if not alive(scene.pid):
            await scene.start()
        await scene.quiet()
        await assert_exactly_once(scene)
        print(f"round {round_}: {kills} kills, {scene.starts} starts")


@pytest.mark.slow
async def test_without_looking_up_what_was_written_the_walk_is_red(tmp_path: Path, zygote: Zygote) -> None:
    """The test of the test: one recovery check switched off is seen."""
    await clean_run(tmp_path / "clean", zygote)
    folder = tmp_path / "broken"
    async with world(folder, zygote, FILES, PLAYBOOK) as scene:
        scene.orders = {"walk": str(folder / "died"), "only": ["github:comment:after"], "broken": ["lookup"]}
        await scene.start()
        person = await scene.label("Make the list useful", "Outside the terminal.")
        await scene.until_closed(person, revive=True)
        await scene.quiet()
        assert (folder / "died").read_text().split() == ["github:comment:after"]
        with pytest.raises(AssertionError):
            await assert_exactly_once(scene)


@pytest.mark.slow
@pytest.mark.cli
async def test_killed_with_the_real_agent_at_work(tmp_path: Path, zygote: Zygote) -> None:
    """The real Copilot CLI under the same kills: its processes die with the bot, the next run starts anew."""
    await clean_run(tmp_path / "clean", zygote)
    folder = tmp_path / "cli"
    async with contextlib.AsyncExitStack() as stack:
        folder.mkdir()
        model = process(
            "bot.standin.model", "--playbook", str(SAMPLE / "playbook.json"), env={"PATH": os.environ["PATH"]},
            log=folder / "model.log", cwd=ROOT,
        )  # fmt: skip
        _, url = await stack.enter_async_context(model)
        copilot = {"COPILOT_PROVIDER_BASE_URL": url, "COPILOT_MODEL": "scripted"}
        scene = await stack.enter_async_context(world(folder, zygote, FILES, None, **copilot))
        points = ["run:engineer:before", "run:developer:before", "run:developer:after", "land:push:after"]
        scene.orders = {"walk": str(folder / "died"), "only": points}
        await scene.start()
        person = await scene.label("Make the list useful", "Outside the terminal.")
        killing = asyncio.create_task(_kill_when_an_agent_works(scene))
        await scene.until_closed(person, seconds=120, revive=True)
        assert await killing >= 2
        await scene.quiet()
        assert set((folder / "died").read_text().split()) == set(points)
        await assert_exactly_once(scene)


async def _kill_when_an_agent_works(scene: World) -> int:
    """kill -9 twice in the middle of an agent's session: its transcript has begun to grow."""
    kills, known = 0, set[str]()
    while kills < 2:
        await asyncio.sleep(0.05)
        fresh = {path.name for path in (scene.folder / "data" / "logs").glob("*.jsonl") if path.stat().st_size} - known
        if fresh and alive(scene.pid):
            known |= fresh
            scene.kill()
            kills += 1
    return kills
