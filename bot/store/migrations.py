"""From an empty or older database to the present schema. A newer one is refused, an older one copied."""

import contextlib
from collections.abc import Callable, Mapping
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
