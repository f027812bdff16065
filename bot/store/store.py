"""The store whole, on one database: `bot.ports.Store` for the loop and `bot.ports.Queue` for the lander."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bot.ports import Clock, Faults, no_faults
from bot.store.audit import AuditLog
from bot.store.connection import Connection, update, upsert
from bot.store.database import open_database
from bot.store.inbox import Inbox
from bot.store.operating import Operating
from bot.store.outbox import ATTEMPTS, Outbox
from bot.store.queue import QueueTables
from bot.store.tickets import Tickets
from bot.store.trace import Traces
from bot.store.views import Views


class SqliteStore(Inbox, Tickets, Outbox, QueueTables, Operating, AuditLog, Views, Traces):
    """All durable state of one process."""

    async def meta(self, key: str) -> str | None:
        """A fact remembered about this database, such as the repository that it is for."""
        row = await self.database.row("SELECT value FROM meta WHERE key = ?", key)
        return row["value"] if row else None

    async def set_meta(self, key: str, value: str) -> None:
        """Remember a fact about this database."""
        await self.database.write("meta", lambda conn: upsert(conn, "meta", "key", key=key, value=value))


def _take_back(conn: Connection) -> None:
    """At opening, every lease is of an earlier process, and void: the process lock says that it is gone."""
    conn.execute("""UPDATE outbox SET state = 'pending', owner = '', interrupted = interrupted + 1,
        attempts = attempts - 1 WHERE state = 'leased'""")
    update(conn, "lanes", "owner <> ''", owner="", boot_id="", expires=0)


@asynccontextmanager
async def open_store(
    path: Path, clock: Clock, faults: Faults = no_faults, *, exclusive: bool = True, attempts: int = ATTEMPTS
) -> AsyncIterator[SqliteStore]:
    """Open the store at `path`; recovery from a crash is the same thing. Not exclusive: for reading only.

    `attempts` is how often an effect may fail before its ticket is told. Raises Misconfigured when another
    process holds the file, it is of another release, or it is no database of ours.
    """
    async with open_database(path, faults, exclusive=exclusive) as database:
        if exclusive:
            await database.write("take-back", _take_back)
        yield SqliteStore(database, clock, attempts)
