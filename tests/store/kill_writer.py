"""Run as a process: writes through the store, and prints what was acknowledged.

Arguments: the directory, a number that no earlier run used, a fault point at which to kill itself ("" for none), and
after how many rounds of each worker to end (without it: never).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from bot.clock import SystemClock
from bot.store.store import SqliteStore, open_store
from schemas.events import Ticked
from tests.store.parts import T0, decide, entry, label, post


class Suicide:
    """Kills this process at one fault point."""

    def __init__(self, point: str) -> None:
        self._point = point

    def reach(self, point: str) -> None:
        if point == self._point:
            os.kill(os.getpid(), signal.SIGKILL)


def acknowledge(*words: str) -> None:
    os.write(1, (" ".join(words) + "\n").encode())


async def deliveries(store: SqliteStore, run: str, worker: int, rounds: int) -> None:
    for number in range(1, rounds + 1):
        guid = f"{run}.{worker}.{number}"
        await store.keep_delivery(guid, "issues", os.urandom(200), T0)
        acknowledge("delivery", guid)


async def tickets(store: SqliteStore, run: str, worker: int, rounds: int) -> None:
    first = int(run) * 100_000 + worker * 10_000 + 1
    for issue in range(first, first + rounds):
        name = f"octo/app#{issue}"
        await store.put([label(f"labelled:{issue}", issue)], T0)
        await decide(store, of=name, effects=(post("hello", name),), enqueue=(entry(name),))
        acknowledge("ticket", name)
        leased = await store.lease(("post_comment",), store.owner, 60, T0)
        assert leased is not None
        acknowledge("leased", leased[0].key, str(leased[0].fence))
        await store.settle(leased[0], Ticked(at=T0), T0, shown=f"shown {name}")
        acknowledge("settled", leased[0].key)


async def main(path: Path, run: str, point: str, rounds: int) -> None:
    async with open_store(path / "interlock.db", SystemClock(), Suicide(point)) as store:
        acknowledge("open")
        async with asyncio.TaskGroup() as group:
            for worker in range(4):
                group.create_task(deliveries(store, run, worker, rounds))
                group.create_task(tickets(store, run, worker, rounds))


asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]) if sys.argv[4:] else sys.maxsize))
