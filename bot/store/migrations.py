"""From an empty or older database to the present schema. A newer one is refused, an older one copied."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from bot.errors import Misconfigured
from bot.store.connection import Connection, connect_writer

VERSION: Final = 1
"""`PRAGMA user_version` of the schema in schema.sql."""

Step = Callable[[Connection], None]
STEPS: Final[Mapping[int, Step]] = {}
"""From version N to N + 1, filled as releases change the schema; schema.sql is always the newest one."""


def migrate(connection: Connection, path: Path, *, version: int = VERSION, steps: Mapping[int, Step] = STEPS) -> None:
    """Bring the schema up to `version` in one transaction; the copy made first is `<file>.schema-<old>`.

    Raises Misconfigured for a database of a newer release, or a file that is not ours.
    """
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if found > version:
        raise Misconfigured(
            f"{path} was written by a newer release (schema {found}, this one knows {version}): "
            "install that release again, or restore the copy made before its upgrade"
        )
    if found == version:
        return
    if found:
        _copy(connection, path.with_name(f"{path.name}.schema-{found}"))
    elif connection.execute("SELECT 1 FROM sqlite_schema").fetchone():
        raise Misconfigured(f"{path} is a database of another program: name another file")
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not found:
            for statement in statements((Path(__file__).parent / "schema.sql").read_text("utf-8")):
                connection.execute(statement)
        for old in range(found or version, version):
            steps[old](connection)
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _copy(connection: Connection, target: Path) -> None:
    """A copy through SQLite itself, which sees the write-ahead log; a half-made older one is overwritten."""
    target.unlink(missing_ok=True)
    with contextlib.closing(connect_writer(target)) as copy:
        connection.backup(copy)


def statements(script: str) -> Iterator[str]:
    """The statements of a script (executescript() would commit the transaction under way)."""
    pending: list[str] = []
    for line in script.splitlines():
        text = line.rstrip()
        if not text or (not pending and text.startswith("--")):
            continue
        pending.append(text)
        if text.endswith("END;") or (text.endswith(";") and not pending[0].startswith("CREATE TRIGGER")):
            yield "\n".join(pending)
            pending = []
