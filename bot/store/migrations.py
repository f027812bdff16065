"""From an empty or older database to the present schema; a newer one is refused, an older one is copied first."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from bot.errors import Misconfigured

VERSION: Final = 1

STEPS: Final[dict[int, Callable[[Any], None]]] = {}
"""From version N to N + 1. Filled as releases change the schema."""


def migrate(connection: Any, path: Path) -> None:
    """Bring the schema up to VERSION in one transaction. Raises Misconfigured for a database of a newer release."""
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if found > VERSION:
        raise Misconfigured(
            f"{path} was written by a newer release (schema {found}, this one knows {VERSION}): "
            "install that release again, or restore the copy made before its upgrade"
        )
    if found == VERSION:
        return
    if found:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copy2(path, path.with_name(f"{path.name}.schema-{found}"))
    connection.execute("BEGIN IMMEDIATE")
    try:
        if found == 0:
            schema = (Path(__file__).parent / "schema.sql").read_text("utf-8")
            for statement in _statements(schema):
                connection.execute(statement)
        for version in range(found or VERSION, VERSION):
            STEPS[version](connection)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> list[str]:
    """Split at blank-line-free statement ends; triggers hold semicolons and stand on one line each."""
    found: list[str] = []
    pending: list[str] = []
    for line in script.splitlines():
        if not line.strip():
            continue
        pending.append(line)
        if line.rstrip().endswith(";") and (not pending[0].startswith("CREATE TRIGGER") or line.rstrip().endswith("END;")):
            found.append("\n".join(pending))
            pending = []
    return found
