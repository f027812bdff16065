"""One SQLite file: the process lock, the writer, and readers on connections of their own.

One process a database: it holds an exclusive flock on `<file>.lock`, so a lease of any other owner is void as
soon as the file is open. Another process may open it for reading only.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import aiosqlite
from pydantic import BaseModel

from bot.errors import Misconfigured
from bot.ports import Clock, Faults
from bot.store.connection import Connection, Error, Row, connect_reader, connect_writer, reading
from bot.store.migrations import VERSION, migrate
from bot.store.writer import Name, Writer

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)
READERS: Final = 3


class Database:
    """Open with `await Database.open(path, faults)`, close with `await close()`; a crash needs neither."""

    def __init__(self, path: Path, lock: IO[str] | None, writer: Writer | None) -> None:
        self.path, self._lock, self._writer = path, lock, writer
        self._readers: asyncio.LifoQueue[aiosqlite.Connection] = asyncio.LifoQueue()

    @classmethod
    async def open(cls, path: Path, faults: Faults, *, exclusive: bool = True) -> Database:
        """Lock, migrate, start. Not exclusive: for reading, whoever holds it.

        Raises Misconfigured when another process holds it, it is of another release, or no database of ours.
        """
        try:
            database = await asyncio.to_thread(cls._open_exclusive if exclusive else cls._open_shared, path, faults)
        except Error as error:
            raise Misconfigured(f"{path} cannot be opened as a database ({error}): restore a backup of it") from error
        for _ in range(READERS):
            # aiosqlite.connect() would take the interpreter's own SQLite; its Connection takes any connector.
            reader = aiosqlite.Connection(partial(connect_reader, path), iter_chunk_size=64)
            database._readers.put_nowait(await reader)
        return database

    @classmethod
    def _open_exclusive(cls, path: Path, faults: Faults) -> Database:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as undo:
            lock = undo.enter_context(_take_lock(path))
            connection = undo.enter_context(contextlib.closing(connect_writer(path)))
            migrate(connection, path)
            undo.pop_all()
        return cls(path, lock, Writer(connection, faults))

    @classmethod
    def _open_shared(cls, path: Path, faults: Faults) -> Database:
        if not path.exists():
            raise Misconfigured(f"there is no database at {path}: start the server once, or name another directory")
        with contextlib.closing(connect_reader(path)) as connection:
            found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found != VERSION:
            advice = "start the server once, which upgrades it" if found < VERSION else "use the release that wrote it"
            raise Misconfigured(f"{path} has schema {found}, this release reads {VERSION}: {advice}")
        return cls(path, None, None)

    async def close(self) -> None:
        """Finish the writes that wait and let go of the file."""
        if self._writer:
            await self._writer.close()
        for _ in range(READERS):  # those at work are waited for
            await (await self._readers.get()).close()
        if self._lock:
            self._lock.close()

    async def write(self, name: Name, work: Callable[[Connection], T]) -> T:
        """See bot.store.writer. Raises Misconfigured on a database that was opened for reading."""
        if self._writer is None:
            raise Misconfigured(f"{self.path} was opened for reading only: send the command to the running server")
        return await self._writer.write(name, work)

    async def rows(self, sql: str, *values: Any) -> list[Row]:
        """All rows of a query, of what is committed now. Raises Transient when the file cannot be read."""
        reader = await self._readers.get()
        try:
            with reading():
                return list(await reader.execute_fetchall(sql, values))
        finally:
            self._readers.put_nowait(reader)

    async def row(self, sql: str, *values: Any) -> Row | None:
        """The first row, if there is one."""
        found = await self.rows(sql, *values)
        return found[0] if found else None

    async def models(self, kind: type[M], sql: str, *values: Any) -> list[M]:
        """The models whose JSON a query finds in its first column."""
        return [kind.model_validate_json(row[0]) for row in await self.rows(sql, *values)]

    async def scan(self, work: Callable[[Connection], T]) -> T:
        """Run long reading work on a thread and connection of its own, on one snapshot of the file."""

        def run() -> T:
            with reading(), contextlib.closing(connect_reader(self.path)) as connection:
                connection.execute("BEGIN")
                return work(connection)

        return await asyncio.to_thread(run)

    async def empty_log(self) -> None:
        """Move the write-ahead log into the file, so that nothing erased is left in it."""

        def run() -> None:
            with contextlib.closing(connect_writer(self.path)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

        await asyncio.to_thread(run)


class Part:
    """What every part of the store works with."""

    def __init__(self, database: Database, clock: Clock, attempts: int) -> None:
        self.database, self._clock, self._attempts = database, clock, attempts


def _take_lock(path: Path) -> IO[str]:
    try:
        lock = open(f"{path}.lock", "a+", encoding="utf-8")  # noqa: SIM115 (held as long as the database is open)
    except OSError as error:
        message = f"{path}.lock cannot be written ({error}): give this process a directory of its own"
        raise Misconfigured(message) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        with lock:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
        message = f"{path} is in use by process {holder}: stop that one, or give this one another data directory"
        raise Misconfigured(message) from error
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock
