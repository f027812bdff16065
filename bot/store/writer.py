"""The one writer: a thread with one connection that commits what waits together as one transaction.

Each piece of work runs inside a savepoint of its own, so that its failure undoes only itself; the group's
commit (synchronous=FULL) is shared, and nobody is told before it is on disk. Work is plain synchronous code:
there is no await inside a transaction.
"""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from bot.errors import Transient
from bot.ports import Faults
from bot.store.connection import Connection, Error, as_transient, is_storage

T = TypeVar("T")

GROUP_LIMIT: Final = 256
"""How many pieces of work share a commit at most, so that the first of them does not wait for long."""


@dataclass
class _Write:
    name: str
    work: Callable[[Connection], Any]
    done: asyncio.Future[Any]
    result: Any = None
    problem: BaseException | None = None


class Writer:
    """Nobody else may use `connection` until `close` has returned. All callers are on one event loop."""

    def __init__(self, connection: Connection, faults: Faults) -> None:
        self._connection, self._faults = connection, faults
        self._thread = ThreadPoolExecutor(1, "sqlite-writer")
        self._waiting: list[_Write] = []
        self._committing: asyncio.Task[None] | None = None
        self._closed = False

    async def write(self, name: str, work: Callable[[Connection], T]) -> T:
        """Run `work(connection)` and return its result once it is on disk.

        Cancelling the caller does not undo the work. Raises what `work` raises; Transient when the file fails
        (disk full, I/O error), and then nothing was written.
        """
        if self._closed:
            raise Transient("the store is closed: open it again")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._waiting.append(_Write(name, work, done))
        if self._committing is None or self._committing.done():
            self._committing = loop.create_task(self._commit_waiting())
        return await done

    async def close(self) -> None:
        """Finish what waits."""
        self._closed = True
        with self._thread:  # which has ended behind this, even if we are cancelled
            if self._committing is not None:
                await asyncio.wait({self._committing})

    async def _commit_waiting(self) -> None:
        """Group after group, until nothing waits; what comes in during a commit is the next group."""
        while self._waiting:
            group, self._waiting = self._waiting[:GROUP_LIMIT], self._waiting[GROUP_LIMIT:]
            await asyncio.get_running_loop().run_in_executor(self._thread, self._commit, group)
            for write in group:
                if write.done.done():  # its caller was cancelled
                    continue
                if write.problem is not None:
                    write.done.set_exception(write.problem)
                else:
                    write.done.set_result(write.result)

    # --- on the thread --------------------------------------------------------------------------------------
    def _commit(self, group: list[_Write]) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for write in group:
                self._run(write)
            for write in group:
                self._faults.reach(f"commit:{write.name}:before")
            self._connection.execute("COMMIT")
            for write in group:
                self._faults.reach(f"commit:{write.name}:after")
        except BaseException as error:  # whatever it is, nobody may wait for ever
            with contextlib.suppress(Error):
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            problem = as_transient(error, "written") if isinstance(error, Error) else error
            for write in group:
                write.problem = problem

    def _run(self, write: _Write) -> None:
        """One piece of work. Raises only when the file failed."""
        self._connection.execute("SAVEPOINT one")
        try:
            write.result = write.work(self._connection)
        except Exception as error:
            if is_storage(error):
                raise
            write.problem = error
            self._connection.execute("ROLLBACK TO one")
        self._connection.execute("RELEASE one")
