"""Whether the queue grows slower with what waits in it and with what it remembers.

A cycle enqueues a few entries, finds the busy lanes, leases the lane, takes what is due, lands it and gives the lane
back: at a constant depth, on files that were filled beforehand by SQL through the store's own writer. A row of the
audit chain comes with its two texts, ten of them with an entry that was landed long ago. The rows filled in hash
nothing: only what a cycle reads is as it would be.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from bot.bench import durable
from bot.bench.laps import Lap, Watch
from bot.bench.sketch import LANE, Sketch
from bot.clock import SystemClock
from bot.store.connection import Connection
from bot.store.store import SqliteStore, open_store

DEPTHS: Final = (10, 1_000, 100_000)
ROWS: Final = (0, 100_000, 1_000_000)
SMALLER: Final = 10
"""By how much the sizes are smaller unless the whole is asked for."""
TRAIN: Final = 8
"""Entries in a cycle, at each depth, so that the same work is compared."""
CYCLES: Final = 20
WARMING: Final = 2
WAITING: Final = "waiting entries"

_FILL_AUDIT: Final = """INSERT INTO audit WITH RECURSIVE n (seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM n WHERE seq < ?)
    SELECT seq, 1750000000000 + seq, 'old:refs/heads/' || (seq % 1000), 'checked', hex(randomblob(32)),
    hex(randomblob(32)), 'open', 'open', 'checks passed', '', hex(randomblob(32)), hex(randomblob(32)) FROM n"""
_FILL_TEXTS: Final = """INSERT INTO texts SELECT event, 'what happened, of which this stands for a few hundred bytes', 0
    FROM audit UNION ALL SELECT decision, 'what it meant, of which this stands for a few hundred bytes', 0 FROM audit"""
_FILL_ENTRIES: Final = """INSERT INTO entries (lane, id, ticket, task, state, priority, accepted_at, due_at, settled_at, digest)
    SELECT ?, 'old' || seq, 'octo/app#' || seq, '', 'landed', 0, at, at, at, event FROM audit WHERE seq % 10 = 0"""
_FILL_BODIES: Final = "INSERT INTO entry_bodies SELECT seq, '{}', '' FROM entries WHERE state = 'landed'"


def fill(conn: Connection, rows: int) -> None:
    """So many rows of history, in the caller's transaction."""
    if rows:
        conn.execute(_FILL_AUDIT, (rows,))
        conn.execute(_FILL_TEXTS)
        conn.execute(_FILL_ENTRIES, (LANE,))
        conn.execute(_FILL_BODIES)


class Growing:
    """One store of some depth and history, on which cycles are measured."""

    def __init__(self, store: SqliteStore) -> None:
        self._store, self._sketch, self._next = store, Sketch(), 0

    async def prepare(self, depth: int, rows: int) -> None:
        """Fill it."""
        await self._store.database.write("fill", lambda conn: fill(conn, rows))
        for first in range(0, depth, 1000):
            await self._enqueue(min(1000, depth - first))
        await self._store.database.rows("PRAGMA wal_checkpoint(TRUNCATE)")

    async def _enqueue(self, count: int) -> None:
        await self._store.enqueue(durable.entries(self._next, count), SystemClock().wall())
        self._next += count

    async def lap(self, cycles: int) -> Lap:
        """So many cycles."""
        watch = Watch()
        for _ in range(cycles):
            with watch:
                await self._enqueue(TRAIN)
                assert await self._store.busy_lanes(SystemClock().wall()) == [LANE]
                lease, due = await durable.take(self._store, TRAIN)
                await durable.settle(self._store, lease, self._sketch, due)
                await self._store.release_lane(lease)
            assert len(due) == TRAIN
        return watch.lap(cycles * TRAIN)


def sizes(full: bool) -> dict[str, Sequence[tuple[int, int]]]:
    """(depth, rows) of each step of the two axes."""
    less = 1 if full else SMALLER
    depths = tuple(depth if depth == DEPTHS[0] else depth // less for depth in DEPTHS)
    return {WAITING: [(depth, 0) for depth in depths], "audit rows": [(DEPTHS[0], rows // less) for rows in ROWS]}


async def measure(
    folder: Path, axis: str, steps: Sequence[tuple[int, int]], *, rounds: int
) -> Sequence[tuple[int, Sequence[Lap]]]:
    """Each size of an axis with a lap a round; the sizes take turns. What is in `folder` is removed."""
    async with AsyncExitStack() as stack:
        stores = []
        for depth, rows in steps:
            path = folder / f"{depth}-{rows}" / "queue.db"
            store = Growing(await stack.enter_async_context(open_store(path, SystemClock())))
            await store.prepare(depth, rows)
            await store.lap(WARMING)
            stores.append(store)
        laps: list[list[Lap]] = [[] for _ in steps]
        for number in range(rounds):
            for index in _turns(len(stores), number):
                laps[index].append(await stores[index].lap(CYCLES))
    shutil.rmtree(folder)
    return [(depth if axis == WAITING else rows, found) for (depth, rows), found in zip(steps, laps, strict=True)]


def _turns(count: int, number: int) -> Iterator[int]:
    """Each round begins with another one, so that none always follows the same neighbour."""
    return ((number + index) % count for index in range(count))
