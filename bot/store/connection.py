"""SQLite as this package uses it: its connections, what its errors mean, rows with named values, instants.

A column's name is always a keyword in our own code, never data; values are bound.

SQLite is pysqlite3's: the interpreter's own may carry the WAL-reset corruption bug (3.7.0 to 3.51.2,
https://sqlite.org/wal.html). It has the standard library's interface, so the type checker is shown that one.
"""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bot.errors import InterlockError, Transient

if TYPE_CHECKING:
    import sqlite3 as sqlite
else:
    from pysqlite3 import dbapi2 as sqlite

Connection = sqlite.Connection
Row = sqlite.Row
Error = sqlite.Error
SQLITE: Final = sqlite.sqlite_version
Value = str | bytes | int | float | None

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

BUSY_MS: Final = 10_000
"""How long a statement waits for another process that backs the file up or checkpoints it."""

_STORAGE: Final = frozenset({5, 6, 7, 8, 10, 11, 13, 14, 15, 26})
"""SQLITE_BUSY, LOCKED, NOMEM, READONLY, IOERR, CORRUPT, FULL, CANTOPEN, PROTOCOL, NOTADB: the file failed,
not the statement (https://sqlite.org/rescode.html)."""


def connect_writer(path: Path) -> Connection:
    """The connection that writes: WAL, and every commit on disk when it returns (synchronous=FULL)."""
    connection = _connect(path)
    # secure_delete: what was erased is overwritten, not only forgotten.
    connection.executescript("""PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
        PRAGMA secure_delete = ON; PRAGMA journal_size_limit = 67108864""")
    return connection


def connect_reader(path: Path) -> Connection:
    """A connection that sees what is committed and cannot write."""
    connection = _connect(path)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _connect(path: Path) -> Connection:
    connection = sqlite.connect(str(path), isolation_level=None, check_same_thread=False, timeout=BUSY_MS / 1000)
    connection.row_factory = Row
    return connection


def is_storage(error: BaseException) -> bool:
    """Whether the file failed: then nothing of the transaction counts, whoever caused it."""
    # Extended codes carry the plain one in their low byte.
    return isinstance(error, Error) and (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _STORAGE


def as_transient(error: BaseException, doing: str) -> InterlockError:
    """What a caller is told when the file failed."""
    return Transient(f"the database could not be {doing} ({error}): check the disk's free space and its health")


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """Within it, a file that fails raises Transient; any other error of a statement stays what it is."""
    try:
        yield
    except Error as error:
        if is_storage(error):
            raise as_transient(error, "read") from error
        raise


# --- rows and values --------------------------------------------------------------------------------------------------
def to_ms(moment: datetime) -> int:
    """Milliseconds since the epoch, rounded down; in integers, so that no float moves an instant."""
    return (moment - EPOCH) // timedelta(milliseconds=1)


def from_ms(milliseconds: int) -> datetime:
    """The aware instant, in UTC."""
    return EPOCH + timedelta(milliseconds=milliseconds)


def insert(conn: Connection, table: str, known: str = "", /, **values: Value) -> sqlite.Cursor:
    """Add a row; `known` is the clause for when one of the same unique key is there, which is an error without one."""
    sql = f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join('?' * len(values))}) {known}"
    return conn.execute(sql, tuple(values.values()))


def insert_new(conn: Connection, table: str, /, **values: Value) -> bool:
    """Add a row unless one of the same unique key is there; returns whether it was added."""
    return insert(conn, table, "ON CONFLICT DO NOTHING", **values).rowcount == 1


def upsert(conn: Connection, table: str, key: str, /, **values: Value) -> None:
    """Add a row, or change these columns of the one that has the same `key` (a column, or several with commas)."""
    changes = ", ".join(f"{column} = excluded.{column}" for column in values if column not in key.split(", "))
    insert(conn, table, f"ON CONFLICT ({key}) DO UPDATE SET {changes}", **values)


def update(conn: Connection, table: str, where: str, /, *where_values: Value, **values: Value) -> int:
    """Change these columns where the condition holds; returns in how many rows."""
    changes = ", ".join(f"{column} = ?" for column in values)
    return conn.execute(f"UPDATE {table} SET {changes} WHERE {where}", (*values.values(), *where_values)).rowcount
