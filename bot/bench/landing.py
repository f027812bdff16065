"""`interlock bench merge`: CPU a landed change, by us and by the peers, in interleaved rounds on the same steps."""

import asyncio
import shutil
import subprocess
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pygit2

from bot.bench import floor
from bot.bench.peers import Am, MergeTree, Peer, WholeIndex, cpu_of_children
from bot.bench.workload import REF, Step, Workload
from bot.merge.commits import Landed
from bot.merge.compose import Start, compose
from bot.merge.objects import Objects
from schemas.base import Instant
from schemas.change_request import ChangeRequest
from schemas.lane import Entry

TRAIN = 32
SLOW_STEPS = 32
_SAME, _WHOLE = "interlock on the peers' steps", "the whole queue"


@dataclass(frozen=True)
class Lap:
    """One contestant in one round: CPU and wall milliseconds a step."""

    cpu: float
    wall: float


Durable = Callable[[Workload, Path, Sequence[Step]], Coroutine[Any, Any, Lap]]


class Ours:
    """The engine of the merge queue: from the request's JSON to the moved ref, in trains, durable or not."""

    name = "interlock"

    def __init__(self, work: Workload, folder: Path, at: Instant) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run(
            ["git", "clone", "-q", "--bare", "--shared", str(work.folder), str(folder)], check=True, capture_output=True
        )
        self._folder, self._at, self._head, self._fork = folder, at, work.start, work.start
        self._refs = pygit2.Repository(str(folder))
        self._landed = Landed()

    def run(self, steps: Sequence[Step]) -> str:
        """Land these steps; the tree at the end. Raises AssertionError if one does not land as it must."""
        for at in range(0, len(steps), TRAIN):
            train = steps[at : at + TRAIN]
            while train:
                train = train[self._land(train) :]
        return Objects(self._folder).tree_of(self._head)

    def _land(self, train: Sequence[Step]) -> int:
        entries = []
        for seq, step in enumerate(train):
            change = ChangeRequest.model_validate_json(step.line)
            entries.append(Entry(id=change.id, lane="bench", seq=seq, accepted=self._at, change=change))
        made = compose(
            self._folder, Start(self._head, self._head, self._fork, {}), entries, threads=1, landed=self._landed
        )
        landed = [result.carriage for result in made.results if result.carriage is not None]
        if not landed or len(landed) < len(made.results):
            raise AssertionError(f"a step did not land: {[r for r in made.results if r.carriage is None][:1]}")
        for carriage, step in zip(landed, train, strict=False):
            if carriage.tree != step.wanted:
                raise AssertionError(f"{carriage.entry} landed as another tree")
        self._refs.references[REF].set_target(pygit2.Oid(hex=landed[-1].commit))
        self._head = landed[-1].commit
        return len(landed)


def our_lap(ours: Ours, steps: Sequence[Step]) -> Lap:
    """Land all steps: CPU of this process, and of the children that it waited for."""
    cpu, children, wall = time.process_time(), cpu_of_children(), time.perf_counter()
    if ours.run(steps) != steps[-1].wanted:
        raise AssertionError("interlock ended on another tree")
    used = time.process_time() - cpu + cpu_of_children() - children
    return Lap(used / len(steps) * 1000, (time.perf_counter() - wall) / len(steps) * 1000)


def peer_lap(peer: Peer, steps: Sequence[Step], *, children_only: bool) -> Lap:
    """Land the steps one by one; what `ready` does is not counted, nor our own driving of child processes."""
    cpu = wall = 0.0
    for step in steps:
        peer.ready(step)
        own, children, began = time.process_time(), cpu_of_children(), time.perf_counter()
        tree = peer.land(step)
        wall += time.perf_counter() - began
        cpu += cpu_of_children() - children + (0.0 if children_only else time.process_time() - own)
        if tree and tree != step.wanted:
            raise AssertionError(f"{peer.name} ended on another tree")
    if isinstance(peer, Am) and peer.tree() != steps[-1].wanted:
        raise AssertionError("git am ended on another tree")
    return Lap(cpu / len(steps) * 1000, wall / len(steps) * 1000)


def compare(
    work: Workload, scratch: Path, at: Instant, durable: Durable, *, rounds: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """All contestants on one workload. Peers get fewer steps, the first ones; the ratios are to ours on just these."""
    steps = list(work.steps)
    slow = steps[: SLOW_STEPS if work.files > 20_000 else max(SLOW_STEPS, min(100, len(steps)))]
    laps: dict[str, list[Lap]] = {}
    for number in range(rounds):
        laps.setdefault("interlock", []).append(our_lap(Ours(work, scratch / "ours", at), steps))
        same = laps["interlock"][-1] if len(slow) == len(steps) else our_lap(Ours(work, scratch / "ours", at), slow)
        laps.setdefault(_SAME, []).append(same)
        laps.setdefault(_WHOLE, []).append(asyncio.run(durable(work, scratch / "whole", slow)))
        peers: list[Peer] = [
            Am(work, scratch / "am"),
            MergeTree(work, scratch / "mt"),
            WholeIndex(work, scratch / "index"),
        ]
        for peer in peers:
            laps.setdefault(peer.name, []).append(peer_lap(peer, slow, children_only=not isinstance(peer, WholeIndex)))
        say(
            f"{work.name}, round {number + 1} of {rounds}: "
            + ", ".join(f"{name} {done[-1].cpu:.2f} ms" for name, done in laps.items())
        )
    lowest = floor.objects(work, steps)
    floors = [floor.measure(work, lowest) / len(steps) * 1000 for _ in range(rounds)]
    return {
        "workload": work.name, "files": work.files, "steps": len(steps), "peer_steps": len(slow),
        "interlock": _summary(laps["interlock"]), "floor_cpu_ms": round(median(floors), 3),
        "times_the_floor": round(median(lap.cpu for lap in laps["interlock"]) / median(floors), 2),
        "durable": {**_summary(laps[_WHOLE]), **_walls(laps[Am.name], laps[_WHOLE])},
        "peers": [
            {"name": name, **_summary(found), **_ratio(found, laps[_SAME])}
            for name, found in laps.items() if name not in ("interlock", _SAME, _WHOLE)
        ],
    }  # fmt: skip


def growth(small: Workload, large: Workload, scratch: Path, at: Instant, *, rounds: int) -> dict[str, Any]:
    """What a change costs on the large tree beside the small one, CPU, round by round on as many changes of each."""
    count = min(len(small.steps), len(large.steps))
    laps: dict[str, list[Lap]] = {small.name: [], large.name: []}
    for _ in range(rounds):
        for work in (small, large):
            laps[work.name].append(our_lap(Ours(work, scratch / "ours", at), work.steps[:count]))
    few, many = laps.values()
    return {"changes": count, **{name: _summary(found) for name, found in laps.items()}, **_ratio(many, few)}


def _summary(laps: Sequence[Lap]) -> dict[str, float]:
    return {"cpu_ms": round(median(lap.cpu for lap in laps), 3), "wall_ms": round(median(lap.wall for lap in laps), 3)}


def _walls(peer: Sequence[Lap], ours: Sequence[Lap]) -> dict[str, float]:
    ratios = [one.wall / other.wall for one, other in zip(peer, ours, strict=True)]
    return {"git_am_wall": round(median(ratios), 1), "lowest": round(min(ratios), 1), "highest": round(max(ratios), 1)}


def _ratio(peer: Sequence[Lap], ours: Sequence[Lap]) -> dict[str, float]:
    ratios = [one.cpu / other.cpu for one, other in zip(peer, ours, strict=True)]
    return {"ratio": round(median(ratios), 2), "lowest": round(min(ratios), 2), "highest": round(max(ratios), 2)}
