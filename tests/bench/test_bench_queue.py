"""`interlock bench queue`: peers on the same work, a simulation that cannot land what is bad, and a queue that is fair."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bot.bench import durable, policies, queue, waiting
from bot.bench.sketch import LANE, Sketch
from schemas.lane import EntryState
from tests.e2e.world import ROOT
from tests.store.parts import T0, entry, opened

OTHER = "2:refs/heads/main"
BENCH = [sys.executable, "-m", "bot.cli.main", "bench", "queue"]


@pytest.mark.slow
def test_the_command_measures_ours_and_huey_s_and_simulates_all_policies() -> None:
    words = ["--changes", "64", "--rounds", "2", "--seeds", "2", "--json"]
    done = subprocess.run([*BENCH, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    rows = found["dequeue"]["rows"]
    assert len(rows) == 6 and all(one["times_huey"]["lowest"] <= one["times_huey"]["ratio"] for one in rows)
    for sizes in found["growth"]["axes"].values():
        assert len(sizes) == 3 and sizes[0]["times_first"]["wall"]["ratio"] == 1.0
    days = found["waiting"]["rows"]
    assert {one["policy"] for one in days} == set(queue.POLICIES) and len(days) == 2 * 3 * len(queue.POLICIES)
    assert "times huey" in queue.text(found)


def test_without_huey_its_rows_are_left_out_and_said(tmp_path: Path) -> None:
    (tmp_path / "huey").mkdir()
    (tmp_path / "huey" / "__init__.py").write_text("raise ImportError")
    script = f"""
import sys; sys.path.insert(0, {str(tmp_path)!r})
from pathlib import Path
from bot.bench import queue
found = queue.dequeue(Path({str(tmp_path)!r}), changes=32, rounds=1, say=print)
assert len(found["rows"]) == 4 and all(one["times_huey"] is None for one in found["rows"])
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "huey is not installed" in done.stdout


# --- the simulation ---------------------------------------------------------------------------------------------------
def day(name: str, seed: int, slots: int, per_hour: float | None = None, count: int = 60) -> waiting.World:
    changes = waiting.arrivals(random.Random(seed), count, per_hour)
    return waiting.World(changes, slots, random.Random(f"runs {seed}")).play(queue.POLICIES[name]())


@pytest.mark.parametrize("name", queue.POLICIES)
def test_every_change_ends_and_nothing_bad_lands(name: str) -> None:
    for seed in range(6):
        for slots in (1, 4, 16):
            world = day(name, seed, slots, 12.0 if seed % 2 else None)
            assert not any(change.bad for change in world.landed)
            assert {*world.landed, *world.ejected} == set(world.changes)
            assert all(at >= change.at for change, at in world.landed.items())


@pytest.mark.parametrize("name", queue.POLICIES)
def test_the_same_seed_gives_the_same_day(name: str) -> None:
    one, two = day(name, 3, 4), day(name, 3, 4)
    assert (one.landed, one.runs, one.minutes) == (two.landed, two.runs, two.minutes)


@pytest.mark.parametrize("name", queue.POLICIES)
def test_without_flakes_no_good_change_is_sent_back(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "FLAKY", 0.0)
    for seed in range(4):
        world = day(name, seed, 4)
        assert all(change.bad for change in world.ejected)


def test_serial_has_one_run_at_a_time_and_a_train_uses_all_slots() -> None:
    serial, train = day("serial (bors)", 1, 16), day("train (Zuul)", 1, 16)
    assert serial.runs == 60 and serial.now == pytest.approx(serial.minutes)
    assert train.now < serial.now / 2


def test_what_was_not_checked_cannot_be_landed() -> None:
    changes = [waiting.Change(n, 0.0, False) for n in range(3)]

    class Hasty(policies.Serial):
        """Lands the second on a run that did not know of the first."""

        def turn(self, world: waiting.World) -> None:
            if world.runs == 0:
                self.asked = [world.check([change]) for change in world.waiting]
            for run in self.asked:
                if run.green:
                    world.land(run)

    with pytest.raises(AssertionError):
        waiting.World(changes, 3, random.Random(7)).play(Hasty())


# --- fairness ---------------------------------------------------------------------------------------------------------
async def test_a_stream_of_high_priority_starves_nobody(tmp_path: Path) -> None:
    """Twice as many urgent entries arrive as can be landed; a plain one waits for those of its first five hours only."""
    step, priority = timedelta(minutes=10), 5
    async with opened(tmp_path) as store:
        await store.enqueue([entry("plain", LANE)], T0)
        sketch, order = Sketch(), []
        for n in range(120):
            at = T0 + (n + 1) * step
            await store.enqueue([entry(f"urgent-{n}-{m}", LANE, priority=priority) for m in range(2)], at)
            lease, due = await durable.take(store, 1)
            order += [one.id for one in due]
            await durable.settle(store, lease, sketch, due)
            await store.release_lane(lease)
            if order[-1] == "plain":
                break
        ahead = 2 * int(timedelta(hours=priority) / step) - 2
        # Accepted in the same second and priority for priority as old as it: the order given decides.
        assert order[-1] == "plain" and ahead <= order.index("plain") <= ahead + 2


async def test_two_lanes_progress_side_by_side(tmp_path: Path) -> None:
    """While one repository's lane waits for its check, with its lease held, the other one lands all that it has."""
    async with opened(tmp_path) as store:
        for lane in (LANE, OTHER):
            await store.enqueue([entry(f"c{n}", lane) for n in range(6)], T0)
        assert await store.busy_lanes(T0) == [LANE, OTHER]
        checked = asyncio.Event()

        async def drive(lane: str, wait: asyncio.Event | None) -> None:
            sketch = Sketch()
            lease, due = await durable.take(store, 2, lane)
            while due:
                if wait:
                    await wait.wait()
                await durable.settle(store, lease, sketch, due)
                await store.release_lane(lease)
                lease, due = await durable.take(store, 2, lane)
            await store.release_lane(lease)

        slow = asyncio.create_task(drive(LANE, checked))
        await drive(OTHER, None)
        assert {one.state for one in await store.report(OTHER)} == {EntryState.LANDED}
        assert {one.state for one in await store.report(LANE)} == {EntryState.QUEUED}
        checked.set()
        await slow
        assert {one.state for one in await store.report(LANE)} == {EntryState.LANDED}
