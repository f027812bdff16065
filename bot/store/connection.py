"""SQLite connections of the one kind that this package uses, and what SQLite's errors mean for a caller.

SQLite is pysqlite3's: the interpreter's own may carry the WAL-reset corruption bug (3.7.0 to 3.51.2,
https://sqlite.org/wal.html). It has the standard library's interface, so the type checker is shown that one.
"""

from __future__ import annotations

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
IntegrityError = sqlite.IntegrityError

BUSY_MS: Final = 10_000
"""How long a statement waits for another process that backs the file up or checkpoints it."""

_STORAGE: Final = frozenset({5, 6, 7, 8, 10, 11, 13, 14, 15, 26})
"""SQLITE_BUSY, LOCKED, NOMEM, READONLY, IOERR, CORRUPT, FULL, CANTOPEN, PROTOCOL, NOTADB: the file failed,
not the statement (https://sqlite.org/rescode.html)."""


def connect_writer(path: Path) -> Connection:
    """The connection that writes: WAL, and every commit on disk when it returns (synchronous=FULL)."""
    connection = _connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")  # what was erased is overwritten, not only forgotten
    connection.execute("PRAGMA journal_size_limit = 67108864")
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
