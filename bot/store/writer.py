"""The one writer: a thread with one connection that commits what waits together as one transaction.

Each piece of work runs inside a savepoint of its own, so that its failure undoes only itself; the group's
commit (synchronous=FULL) is shared, and nobody is told before it is on disk. Work is plain synchronous code:
there is no await inside a transaction.
"""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from bot.errors import Transient
from bot.ports import Faults
from bot.store.connection import Connection, Error, as_transient, is_storage

T = TypeVar("T")
Name = str | Callable[[Connection], str]
"""What an operation is called at its fault points; a function is asked in the transaction before the work."""

GROUP_LIMIT: Final = 256
"""How many pieces of work share a commit at most, so that the first of them does not wait for long."""


@dataclass
class _Write:
    name: Name
    work: Callable[[Connection], Any]
    done: asyncio.Future[Any]
    result: Any = None
    problem: BaseException | None = None


class Writer:
    """Runs from its making until `close`; owns `connection` from then on. All callers are on one event loop."""

    def __init__(self, connection: Connection, faults: Faults) -> None:
        self._connection, self._faults = connection, faults
        self._waiting: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._closed = False
        # A daemon: a process that dies with work waiting is a crash like any other, and recovered as one.
        self._thread = threading.Thread(target=self._run, name="sqlite-writer", daemon=True)
        self._thread.start()

    async def write(self, name: Name, work: Callable[[Connection], T]) -> T:
        """Run `work(connection)` and return its result once it is on disk.

        Cancelling the caller does not undo the work. Raises what `work` raises; Transient when the file fails
        (disk full, I/O error), and then nothing was written.
        """
        if self._closed:
            raise Transient("the store is closed: open it again")
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.put(_Write(name, work, done))
        return await done

    async def close(self) -> None:
        """Finish what waits, then let go of the connection."""
        if not self._closed:
            self._closed = True
            self._waiting.put(None)
        await asyncio.to_thread(self._thread.join)

    # --- on the thread --------------------------------------------------------------------------------------
    def _run(self) -> None:
        group: list[_Write] = []
        for write in iter(self._waiting.get, None):
            group.append(write)
            if len(group) == GROUP_LIMIT or self._waiting.empty():
                self._finish(group)
                group = []
        if group:  # what came in just before the end
            self._finish(group)
        self._connection.close()

    def _finish(self, group: list[_Write]) -> None:
        self._commit(group)
        with contextlib.suppress(RuntimeError):  # the event loop has been closed meanwhile
            group[0].done.get_loop().call_soon_threadsafe(_resolve, group)  # one wake-up for all

    def _commit(self, group: list[_Write]) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            names = [self._one(write) for write in group]
            for name in names:
                self._faults.reach(f"commit:{name}:before")
            self._connection.execute("COMMIT")
            for name in names:
                self._faults.reach(f"commit:{name}:after")
        except BaseException as error:  # whatever it is, nobody may wait for ever for a thread that has died
            with contextlib.suppress(Error):
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            problem = as_transient(error, "written") if isinstance(error, Error) else error
            for write in group:
                write.problem = problem

    def _one(self, write: _Write) -> str:
        """Run one piece of work; returns its name. Raises only when the file failed."""
        name = write.name if isinstance(write.name, str) else write.name(self._connection)
        self._connection.execute("SAVEPOINT one")
        try:
            write.result = write.work(self._connection)
        except Exception as error:
            if is_storage(error):
                raise
            write.problem = error
            self._connection.execute("ROLLBACK TO one")
        self._connection.execute("RELEASE one")
        return name


def _resolve(writes: list[_Write]) -> None:
    for write in writes:
        if write.done.done():  # its caller was cancelled
            continue
        if write.problem is not None:
            write.done.set_exception(write.problem)
        else:
            write.done.set_result(write.result)
