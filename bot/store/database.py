"""One SQLite file: the process lock, the schema's version, the writer, and readers on connections of their own.

One process a database: it holds an exclusive flock on `<file>.lock`, so a lease of any other owner is void as
soon as the file is open. Another process may open it for reading only.
"""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, TypeVar

import aiosqlite
from pydantic import BaseModel

from bot.disk import keep_names
from bot.errors import Misconfigured
from bot.ports import Clock, Faults
from bot.store.connection import SQLITE, Connection, Error, Row, connect_reader, connect_writer, reading
from bot.store.writer import Writer

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)
READERS: Final = 3

VERSION: Final = 2
"""`PRAGMA user_version` of the schema in schema.sql."""

Step = Callable[[Connection], None]


def _keep_failures(conn: Connection) -> None:
    """An entry's last failure stays when it moves on, and is counted; its change request stands by itself."""
    conn.execute("ALTER TABLE entry_bodies ADD COLUMN change TEXT NOT NULL DEFAULT ''")
    conn.execute("""UPDATE entry_bodies SET change = COALESCE(json_extract(body, '$.change'), ''),
        body = json_remove(body, '$.change')""")
    conn.execute("ALTER TABLE lanes ADD COLUMN due_at INTEGER NOT NULL DEFAULT 0")
    conn.execute("UPDATE entries SET digest = ''")  # which were made otherwise
    conn.execute("ALTER TABLE entries ADD COLUMN content TEXT NOT NULL DEFAULT ''")
    conn.execute("CREATE INDEX entries_set_aside ON entries (lane, content) WHERE state = 'quarantined'")
    conn.execute("ALTER TABLE entries ADD COLUMN failures INTEGER NOT NULL DEFAULT 0")
    conn.execute("ALTER TABLE entries ADD COLUMN failed_at INTEGER")
    conn.execute("""UPDATE entries SET failures = MAX(attempts, 1), failed_at = COALESCE(settled_at, due_at)
        WHERE error <> ''""")
    conn.execute("CREATE INDEX entries_failed ON entries (failed_at) WHERE failed_at IS NOT NULL")


STEPS: Final[Mapping[int, Step]] = {1: _keep_failures}
"""From version N to N + 1, filled as releases change the schema; schema.sql is always the newest one."""


class InUse(Misconfigured):
    """Another process holds the database."""


class Database:
    """What `open_database` has opened: reading by SQL, writing by functions of the connection."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.readers: asyncio.LifoQueue[aiosqlite.Connection] = asyncio.LifoQueue()
        self.writer: Writer | None = None

    async def write(self, name: str, work: Callable[[Connection], T]) -> T:
        """See bot.store.writer. Raises Misconfigured on a database that was opened for reading."""
        if self.writer is None:
            raise Misconfigured(f"{self.path} was opened for reading only: send the command to the running server")
        return await self.writer.write(name, work)

    async def rows(self, sql: str, *values: Any) -> list[Row]:
        """All rows of a query, of what is committed now. Raises Transient when the file cannot be read."""
        reader = await self.readers.get()
        try:
            with reading():
                return list(await reader.execute_fetchall(sql, values))
        finally:
            self.readers.put_nowait(reader)

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


class Part:
    """What every part of the store works with. `owner` names this process and no other one, for its leases."""

    def __init__(self, database: Database, clock: Clock, attempts: int) -> None:
        self.database, self._clock, self._attempts = database, clock, attempts
        self.owner = f"{os.getpid()}@{clock.boot_id()}:{clock.boot():.6f}"


# --- opening ----------------------------------------------------------------------------------------------------------
@contextlib.asynccontextmanager
async def open_database(path: Path, faults: Faults, *, exclusive: bool) -> AsyncIterator[Database]:
    """Lock, migrate, start; at the end, finish the writes that wait and let go of the file. A crash needs no end.

    Not exclusive: for reading, whoever holds it. Raises Misconfigured when another process holds it, it is of
    another release, or no database of ours.
    """
    database = Database(path)
    async with contextlib.AsyncExitStack() as stack:
        try:
            connection = stack.enter_context(_locked(path) if exclusive else _shared(path))
        except Error as error:
            raise Misconfigured(f"{path} cannot be opened as a database ({error}): restore a backup of it") from error
        for _ in range(READERS):
            # aiosqlite.connect() would take the interpreter's own SQLite; its Connection takes any connector.
            reader = aiosqlite.Connection(partial(connect_reader, path), iter_chunk_size=64)
            database.readers.put_nowait(await stack.enter_async_context(reader))
        if exclusive:
            database.writer = Writer(connection, faults)
            stack.push_async_callback(database.writer.close)
        yield database


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[Connection]:
    """The lock, and the connection that writes."""
    missing = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    keep_names(*(folder.parent for folder in missing))  # SQLite sees to the names in its own directory only
    with _take_lock(path), contextlib.closing(connect_writer(path)) as connection:
        migrate(connection, path)
        yield connection


@contextlib.contextmanager
def _shared(path: Path) -> Iterator[Connection]:
    if not path.exists():
        raise Misconfigured(f"there is no database at {path}: start the server once, or name another directory")
    with contextlib.closing(connect_reader(path)) as connection:
        found = _version_of(connection)
        if found != VERSION:
            advice = (
                "start the server (or interlock merge) once, which upgrades it"
                if found < VERSION
                else "use the release that wrote it"
            )
            raise Misconfigured(f"{path} has schema {found}, this release reads {VERSION}: {advice}")
        yield connection


class Examined(NamedTuple):
    """`trouble` is what is wrong with the file, else `said` is what is right; `version` is SQLite's."""

    version: str
    said: str
    trouble: str = ""


def examined(path: Path) -> Examined:
    """A look at the file beside whoever has it open. It is checked whole only while nobody has."""
    version = SQLITE
    if not path.exists():
        return Examined(version, f"{path} will be made")
    try:
        lock = path.with_name(f"{path.name}.lock")
        # Asking for the lock ourselves could make a server that starts just now give up.
        if lock.exists() and f":{lock.stat().st_ino} " in Path("/proc/locks").read_text():
            return Examined(version, f"{path}, in use by process {lock.read_text().strip()}")
        with contextlib.closing(connect_reader(path)) as connection:
            found = _version_of(connection)
            faults = [str(row[0]) for row in connection.execute("PRAGMA quick_check(3)") if row[0] != "ok"]
    except (Error, OSError) as error:
        return Examined(version, "", f"{path} cannot be read ({error})")
    if found > VERSION:
        return Examined(
            version, "", f"{path} was written by a newer release (schema {found}, this one knows {VERSION})"
        )
    upgrade = "" if found == VERSION else f", schema {found}: the server's start copies and upgrades it"
    return Examined(version, f"{path} is sound{upgrade}", f"{path} is damaged: {'; '.join(faults)}" if faults else "")


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
        raise InUse(message) from error
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def migrate(connection: Connection, path: Path, *, version: int = VERSION, steps: Mapping[int, Step] = STEPS) -> None:
    """From an empty or older database to the schema of `version`, in one transaction.

    An older one is copied first, to `<file>.schema-<old>`. Raises Misconfigured for a database of a newer
    release, or a file that is not ours.
    """
    found = _version_of(connection)
    if found > version:
        raise Misconfigured(
            f"{path} was written by a newer release (schema {found}, this one knows {version}): "
            "install that release again, or restore the copy made before its upgrade"
        )
    if found == version:
        return
    if found:
        target = path.with_name(f"{path.name}.schema-{found}")
        target.unlink(missing_ok=True)  # a half-made older one
        with contextlib.closing(connect_writer(target)) as copy:
            connection.backup(copy)  # through SQLite itself, which sees the write-ahead log
    elif connection.execute("SELECT 1 FROM sqlite_schema").fetchone():
        raise Misconfigured(f"{path} is a database of another program: name another file")
    schema = "" if found else (Path(__file__).parent / "schema.sql").read_text("utf-8")
    with connection:  # commits, or undoes all of it
        connection.executescript("BEGIN IMMEDIATE;" + schema)
        for old in range(found or version, version):
            steps[old](connection)
        connection.execute(f"PRAGMA user_version = {version}")


def _version_of(connection: Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
