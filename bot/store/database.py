"""One SQLite file: the writer thread with group commit, readers on connections of their own, the process lock.

SQLite is pysqlite3's, since the interpreter's own may carry the WAL-reset bug (3.7.0 to 3.51.2, sqlite.org/wal.html);
aiosqlite is told to use it. Every commit is synchronous=FULL: what a caller was told is on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import queue
import sys
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from pysqlite3 import dbapi2 as sqlite

sys.modules["sqlite3"] = sqlite  # before aiosqlite's first import: it takes whatever is called sqlite3
import aiosqlite  # noqa: E402

from bot.errors import InterlockError, Misconfigured, Stale, Transient  # noqa: E402
from bot.ports import Faults, no_faults  # noqa: E402
from bot.store.migrations import migrate  # noqa: E402

T = TypeVar("T")
Connection = Any
"""A pysqlite3 connection; the package has no types."""

GROUP_LIMIT = 256


@dataclass
class _Write:
    name: str
    work: Callable[[Connection], Any]
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[Any]


class Database:
    """Open with `await Database.open(path)`; close with `await close()` (a crash needs neither)."""

    def __init__(self, path: Path, faults: Faults) -> None:
        self.path = path
        self._faults = faults
        self._writes: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._readers: asyncio.LifoQueue[aiosqlite.Connection] = asyncio.LifoQueue()
        self._thread: threading.Thread | None = None
        self._lock: IO[str] | None = None
        self.listeners: list[Callable[[], None]] = []

    @classmethod
    async def open(cls, path: Path, faults: Faults = no_faults, *, readers: int = 3) -> Database:
        """Lock, migrate and start. Raises Misconfigured when another process has it or it is newer than this code."""
        path.parent.mkdir(parents=True, exist_ok=True)
        database = cls(path, faults)
        database._lock = _take_lock(path)
        connection = await asyncio.to_thread(_connect, path)
        await asyncio.to_thread(migrate, connection, path)
        database._thread = threading.Thread(target=database._write_loop, args=(connection,), name="sqlite", daemon=True)
        database._thread.start()
        for _ in range(readers):
            reader = await aiosqlite.connect(path, isolation_level=None)
            await reader.execute("PRAGMA query_only = ON")
            database._readers.put_nowait(reader)
        return database

    async def close(self) -> None:
        """Finish the writes under way and let go of the file."""
        while not self._readers.empty():
            await self._readers.get_nowait().close()
        if self._thread:
            self._writes.put(None)
            await asyncio.to_thread(self._thread.join)
        if self._lock:
            self._lock.close()

    async def write(self, name: str, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction shared with whatever else waits. Its error undoes only itself.

        Raises what `work` raises; Transient when the disk is full or fails.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._writes.put(_Write(name, work, loop, done))
        return await done

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[aiosqlite.Connection]:
        """A reader that sees what is committed."""
        reader = await self._readers.get()
        try:
            yield reader
        finally:
            self._readers.put_nowait(reader)

    async def rows(self, sql: str, *values: Any) -> list[Any]:
        """All rows of a query."""
        async with self.reading() as reader, reader.execute(sql, values) as cursor:
            return list(await cursor.fetchall())

    async def row(self, sql: str, *values: Any) -> Any | None:
        """The first row, if there is one."""
        found = await self.rows(sql, *values)
        return found[0] if found else None

    # --- the writer thread -------------------------------------------------------------------------------------------
    def _write_loop(self, connection: Connection) -> None:
        while (first := self._writes.get()) is not None:
            group = [first]
            last = False
            while len(group) < GROUP_LIMIT and not self._writes.empty():
                item = self._writes.get()
                if item is None:
                    last = True
                    break
                group.append(item)
            self._commit_group(connection, group)
            if last:
                break
        connection.close()

    def _commit_group(self, connection: Connection, group: list[_Write]) -> None:
        results: list[tuple[_Write, Any, BaseException | None]] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            for write in group:
                results.append((write, *self._one(connection, write)))
            for write in group:
                self._faults.reach(f"commit:{write.name}:before")
            connection.execute("COMMIT")
        except sqlite.Error as error:
            with contextlib.suppress(sqlite.Error):
                connection.execute("ROLLBACK")
            failure = Transient(f"the database could not be written: {error}")
            results = [(write, None, failure) for write in group]
        else:
            for write in group:
                self._faults.reach(f"commit:{write.name}:after")
        for write, result, problem in results:
            _resolve(write, result, problem)
        for listener in self.listeners:
            listener()

    @staticmethod
    def _one(connection: Connection, write: _Write) -> tuple[Any, BaseException | None]:
        connection.execute("SAVEPOINT one")
        try:
            result = write.work(connection)
        except (InterlockError, ValueError, TypeError, KeyError, sqlite.IntegrityError) as error:
            connection.execute("ROLLBACK TO one")
            connection.execute("RELEASE one")
            return None, error
        connection.execute("RELEASE one")
        return result, None


def _resolve(write: _Write, result: Any, problem: BaseException | None) -> None:
    def deliver() -> None:
        if write.done.cancelled():
            return
        if problem is not None:
            write.done.set_exception(problem)
        else:
            write.done.set_result(result)

    with contextlib.suppress(RuntimeError):  # the event loop has been closed meanwhile
        write.loop.call_soon_threadsafe(deliver)


def _connect(path: Path) -> Connection:
    connection = sqlite.connect(str(path), isolation_level=None, check_same_thread=False, timeout=10)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA busy_timeout = 10000")
    connection.row_factory = sqlite.Row
    return connection


def _take_lock(path: Path) -> IO[str]:
    lock = open(f"{path}.lock", "a+", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise Misconfigured(
            f"{path} is in use by process {holder}: stop that one first, or give this one another data directory"
        ) from error
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def check_fence(row: Any | None, fence: int, owner: str) -> None:
    """Refuse a write under a lease that was given to somebody else since. Raises Stale."""
    if row is None or row["fence"] != fence or row["owner"] != owner:
        raise Stale("the lease was lost")
