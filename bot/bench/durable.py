"""What taking work off a durable queue costs: our store beside huey's SQLite storage, on files of one file system.

huey deletes a task as it hands it out, one transaction a task: no lease, no record of what came of it, and a consumer
that dies has lost it. Ours hands out a train under a lease, writes that it was begun, and forgets nothing before the
landing is settled with an audit row. So two things are measured: handing out alone, and the whole way to landed.
"""

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bot.bench.laps import Lap, Watch, share
from bot.bench.sketch import LANE, Sketch
from bot.clock import SystemClock
from bot.ports import Lease
from bot.rules import lanes
from bot.store.store import SqliteStore, open_store
from schemas import lane as q
from schemas.change_request import ChangeRequest

TRAIN = 32
PAYLOAD = 1024
OWNER = "bench"


def change(name: str) -> ChangeRequest:
    """A change request whose JSON is as long as huey's payload, about."""
    spare = PAYLOAD - 200
    patch = [{"op": "add", "path": "notes.txt", "content": "x" * spare, "encoding": "utf-8"}]
    return ChangeRequest.model_validate(
        {"version": 1, "id": name, "base": "a" * 40, "title": "Note", "summary": "", "patch": patch}
    )


def entries(first: int, count: int) -> list[q.NewEntry]:
    """So many entries, named by their numbers."""
    return [q.NewEntry(id=f"c{n}", lane=LANE, change=change(f"c{n}")) for n in range(first, first + count)]


async def take(
    store: SqliteStore, train: int, lane: str = LANE, lease: Lease | None = None
) -> tuple[Lease, Sequence[q.Entry]]:
    """Lease a lane, unless it is leased, and take the next train of entries: what the lander does before it composes."""
    lease = lease or await store.lease_lane(lane, OWNER, 60.0)
    assert lease is not None
    now = SystemClock().wall()
    due = await store.due_entries(lane, train, now)
    await store.begin(lease, [entry.id for entry in due], now)
    return lease, due


async def settle(store: SqliteStore, lease: Lease, sketch: Sketch, due: Sequence[q.Entry]) -> None:
    """From composed to landed, each step a decision of the lane in a transaction of its own; no git, green checks."""
    event: q.LaneEvent = sketch.compose(due)
    while True:
        decision = lanes.decide(await store.lane(lease.key), event, {entry.id: entry for entry in due})
        await store.decide(lease, event, decision, SystemClock().wall())
        lane = decision.lane
        if lane.train is None:
            return
        due = await store.entries(lease.key, [carriage.entry for carriage in lane.train.carriages])
        match lane.train.state:
            case q.TrainState.COMPOSED:
                event = q.Checked(outcome="green", length=len(lane.train.carriages), verdict="checks passed")
            case q.TrainState.CHECKED:
                event = q.Confirmed()
            case _:
                event = sketch.push(lane)


async def our_laps(path: Path, changes: int, train: int) -> tuple[Lap, Lap]:
    """Handing out alone, and the whole cycle, of the same entries in one go."""
    async with open_store(path, SystemClock()) as store:
        await store.enqueue(entries(0, changes), SystemClock().wall())
        sketch, taking, rest = Sketch(), Watch(), Watch()
        done, held = 0, None
        while done < changes:
            with taking:
                lease, due = await take(store, train, lease=held)
            held = lease if train > 1 else None  # a lander keeps its lease while there is more to take
            done += len(due)
            with rest:
                await settle(store, lease, sketch, due)
                if held is None or done == changes:
                    await store.release_lane(lease)
        landed = sum(entry.state is q.EntryState.LANDED for entry in await store.report(LANE))
        assert landed == changes, f"{landed} of {changes} landed"
    return taking.lap(changes), taking.beside(rest).lap(changes)


def fsync_us(path: Path) -> float:
    """The median of appending 4 KB and having them on the disk: what no durable queue can go below, once a commit."""
    watch = Watch()
    with path.open("ab", buffering=0) as file:
        for _ in range(100):
            with watch:
                file.write(b"x" * 4096)
                os.fsync(file.fileno())
    return share(watch.walls, 0.5) * 1e6


def huey_storage() -> Any | None:
    """The module of huey's storages; None where huey is not installed."""
    try:
        return importlib.import_module("huey.storage")
    except ImportError:
        return None


def huey_lap(storage: Any, path: Path, changes: int, *, fsync: bool) -> Lap:
    """Dequeue every task, one transaction each, as huey's consumer does."""
    queue = storage.SqliteStorage("bench", str(path), fsync=fsync)
    payload = b"x" * PAYLOAD
    for _ in range(changes):
        queue.enqueue(payload)
    watch = Watch()
    for _ in range(changes):
        with watch:
            found = queue.dequeue()
        assert found == payload
    queue.close()
    return watch.lap(changes)
