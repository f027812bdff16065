"""Deliveries on their way into the database: all that wait are stored by one statement.

Each statement hands the interpreter's lock to the writer's thread and back; with one a delivery that costs more than
storing them does (measured: a third of the receiver's CPU).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from bot.store.connection import Connection

LIMIT: Final = 256
"""How many share a statement at most."""

GATHER_SECONDS: Final = 0.002
"""How long the first one waits for others: where a flush is quick, a commit for each would be most of the work."""


class Arrival(NamedTuple):
    """One delivery; `body` is deflated, `digest` is of what came, `at` milliseconds since the epoch."""

    guid: str
    event: str
    body: bytes
    digest: str
    at: int


class Arrivals:
    """All callers are on one event loop; `write` is the writer's."""

    def __init__(self, write: Callable[..., Awaitable[Any]]) -> None:
        self._write = write
        self._waiting: list[tuple[Arrival, asyncio.Future[bool]]] = []
        self._storing: asyncio.Task[None] | None = None

    async def keep(self, arrival: Arrival) -> bool:
        """Whether it is new, once it is on disk. Cancelling the caller does not undo it. Raises Transient."""
        stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((arrival, stored))
        if self._storing is None or self._storing.done():
            self._storing = asyncio.create_task(self._store_waiting())
        return await stored

    async def _store_waiting(self) -> None:
        while self._waiting:
            await asyncio.sleep(GATHER_SECONDS)
            taken, self._waiting = self._waiting[:LIMIT], self._waiting[LIMIT:]
            error: Exception | None = None
            new: set[str] = set()
            try:
                new = await self._write("delivery", partial(_insert, [arrival for arrival, _ in taken]))
            except Exception as failed:  # whatever it is, each of them is told
                error = failed
            for arrival, stored in taken:
                if stored.done():  # its caller was cancelled
                    continue
                if error is not None:
                    stored.set_exception(error)
                else:
                    stored.set_result(arrival.guid in new)


def _insert(arrivals: Sequence[Arrival], conn: Connection) -> set[str]:
    """Store those that are new; returns their guids."""
    # GitHub's signature does not cover the guid, so a replay may come under a new one. Buttons are left out: pressing one
    # again says the same thing, and means it.
    first = {(one.event, one.guid if one.event == "check_run" else one.digest): one for one in reversed(arrivals)}
    rows = ", ".join(["(?, ?, ?, ?, ?)"] * len(first))
    sql = f"""INSERT INTO deliveries (guid, event, body, digest, received_at, due_at)
        SELECT column1, column2, column3, column4, column5, column5 FROM (VALUES {rows}) WHERE NOT EXISTS (
            SELECT 1 FROM deliveries WHERE digest = column4 AND event = column2 AND event <> 'check_run')
        ON CONFLICT DO NOTHING RETURNING guid"""
    return {row["guid"] for row in conn.execute(sql, [value for one in reversed(first.values()) for value in one])}
