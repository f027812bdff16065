"""Two `interlock merge` on one ref, killed at random and at every fault point: each request comes to its one end."""

from __future__ import annotations

import os
import random
import re
import select
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from bot.merge import lander, landing
from bot.store import queue, store
from schemas.lane import Checked, Composed, Confirmed, HeadRead
from tests.merge.duel import LONGEST, Duel, Zygote, scene

SOAK = float(os.environ.get("INTERLOCK_SOAK", "1"))
KILLS = 25
LONGEST_PAUSE = 0.4
WORLDS = 5
CHECK = "test -f common/0.txt"


def _points() -> list[str]:
    """Every fault point that a run of the queue can pass, from the sources; those of its end last."""
    steps = [Path(str(module.__file__)).read_text() for module in (lander, landing)]
    pushed = re.findall(r'faults\.reach\("(land:(?:compose|check|push):[^"]+)"', "".join(steps))  # without GitHub
    modules = [Path(str(module.__file__)).read_text() for module in (store, queue)]
    names = list(chain.from_iterable(re.findall(r'database\.write\(f?"([^"]+)"', text) for text in modules))
    names.remove("lane:{event.kind}")
    names += [f"lane:{event.model_fields['kind'].default}" for event in (Composed, Checked, Confirmed, HeadRead)]
    found = [*pushed, *(f"commit:{name}:{when}" for name in names for when in ("before", "after"))]
    return sorted(found, key=lambda point: "release-lane" in point or "retry" in point)


POINTS = _points()


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote.open() as found:
        yield found


def duel(folder: Path, zygote: Zygote, seed: int = 0, *, plain: int = 2, there: int = 2, check: str = "") -> Duel:
    folder.mkdir(exist_ok=True)
    return Duel(folder, zygote, scene(folder, random.Random(seed), plain, there), check)


async def test_both_at_once_without_a_kill(tmp_path: Path, zygote: Zygote) -> None:
    """Every point of `POINTS` is passed and no other; who starts leaves the other one's check alone."""
    fight = duel(tmp_path, zygote, check=f"sleep 0.2 && {CHECK}")
    left, right = fight.sides.values()
    seen = tmp_path / "seen"
    os.mkfifo(seen)
    handle = os.open(seen, os.O_RDWR)
    fight.start(left, seen=seen)
    noted = ""
    while "land:check:before" not in noted:
        assert select.select([handle], [], [], LONGEST)[0]
        noted += os.read(handle, 65536).decode()
    fight.run(right)
    assert fight.gone(left) and left.errors == ""
    noted += os.read(handle, 65536).decode()
    os.close(handle)
    assert set(noted.split()) == set(POINTS)
    await fight.end()


@pytest.mark.parametrize("world", range(WORLDS))
async def test_both_killed_at_every_fault_point_in_turn(tmp_path: Path, zygote: Zygote, world: int) -> None:
    """After each death of one side the other goes on to the same point, on top of what was left there."""
    checked = [point for point in POINTS if "check:" in point or "verdict" in point]
    plain = [point for point in POINTS if point not in checked]
    points, check = (checked, CHECK) if world == 0 else (plain[world - 1 :: WORLDS - 1], "")
    fight = duel(tmp_path, zygote, world, check=check)
    for point in points:
        for side in fight.sides.values():
            fight.run(side, die_at=point)
            await fight.look(side)
        await fight.look(*fight.sides.values())
    for side in fight.sides.values():
        fight.run(side)
    await fight.end()


@pytest.mark.slow
@pytest.mark.timeout(60 + 60 * SOAK)
@pytest.mark.parametrize("half", range(2))
async def test_killed_at_random(tmp_path: Path, zygote: Zygote, half: int) -> None:
    dice = random.Random(half)
    kills = rounds = 0
    while kills < KILLS * SOAK / 2:
        fight = duel(tmp_path / str(rounds), zygote, dice.randrange(1000), plain=4, there=4)
        rounds += 1
        while waiting := [side for side in fight.sides.values() if side.report is None]:
            for side in waiting:
                if side.handle < 0:
                    fight.start(side)
            if not fight.wait(*waiting, seconds=dice.uniform(0, LONGEST_PAUSE)):
                victims = dice.choice([waiting, waiting[:1], waiting[-1:]])
                kills += sum([fight.killed(side) for side in victims])
            for side in fight.wait(*(side for side in waiting if side.handle >= 0), seconds=0):
                assert fight.gone(side) and side.errors == ""
            await fight.look(*(side for side in waiting if side.handle < 0))
        await fight.end()
    print(f"half {half}: {kills} kills in {rounds} rounds")


@pytest.mark.parametrize(("first", "point"), [("left", "land:push:after"), ("right", "commit:lane:head_read:before")])
async def test_what_landed_before_the_death_is_found_below_the_others(
    tmp_path: Path, zygote: Zygote, first: str, point: str
) -> None:
    """Killed between the ref's move and its settling; the other side lands on top of it and ends."""
    fight = duel(tmp_path, zygote)
    one = fight.sides[first]
    (other,) = (side for side in fight.sides.values() if side is not one)
    fight.run(one, die_at=point)
    counts = await fight.look(one)
    assert counts[first]["landing"] == len(fight.history) > 0
    below = len(fight.history)
    fight.run(other)
    await fight.look(one, other)
    assert len(fight.history) > below
    fight.run(one)
    await fight.end()


async def test_a_ref_that_moves_after_it_was_read(tmp_path: Path, zygote: Zygote) -> None:
    """The other side lands between the reading and the writing: what it landed stays."""
    fight = duel(tmp_path, zygote)
    left, right = fight.sides.values()
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    fight.start(left, wait_at=("land:push:before", gate))
    with gate.open("w"):  # from when it is there
        fight.run(right)
        await fight.look(right)
    assert fight.gone(left) and left.errors == ""
    await fight.end()


@pytest.mark.slow
async def test_a_ref_that_moves_after_the_death(tmp_path: Path, zygote: Zygote) -> None:
    """git outlives who started it: meanwhile its lock is named to who comes next, and what it moved is landed."""
    fight = duel(tmp_path, zygote)
    left, right = fight.sides.values()
    reached, gate, hook = tmp_path / "reached", tmp_path / "gate", fight.scene.git_dir / "hooks/reference-transaction"
    os.mkfifo(reached)
    os.mkfifo(gate)
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\necho $1 >{reached}\n[ $1 = prepared ] && read word <{gate}\nexit 0\n")
    hook.chmod(0o755)
    handle = os.open(reached, os.O_RDWR)
    fight.start(left)
    assert select.select([handle], [], [], LONGEST)[0] and os.read(handle, 100) == b"prepared\n"
    assert fight.killed(left)
    for side in (left, right):
        fight.start(side)  # a lock that stays is told of after three seconds
    for side in (left, right):
        assert not fight.gone(side)
        assert side.errors.count("\n") == 1 and "main.lock" in side.errors
        await fight.look(side)
    assert fight.history == []
    gate.write_text("go on\n")
    assert select.select([handle], [], [], LONGEST)[0] and os.read(handle, 100).endswith(b"committed\n")
    os.close(handle)
    hook.unlink()
    for side in (right, left):
        fight.run(side)
        await fight.look(left, right)
    await fight.end()


@pytest.mark.parametrize("broken", [["trailers"], ["trailers", "ancestors"]], ids="+".join)
async def test_with_a_recovery_check_off_it_is_red(tmp_path: Path, zygote: Zygote, broken: list[str]) -> None:
    """The test of the test: what would be lost or doubled is seen."""
    fight = duel(tmp_path, zygote)
    fight.broken = broken
    left, right = fight.sides.values()
    fight.run(left, die_at="land:push:after")
    fight.run(right)
    fight.run(left)
    with pytest.raises(AssertionError, match=r"landed twice|is on the ref and"):
        await fight.end()
