"""`interlock audit`: the chain of every decision, read from the database file."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TextIO, TypeVar

import click

from bot.cli.configuration import read_settings
from bot.clock import SystemClock
from bot.store.store import SqliteStore, open_store

T = TypeVar("T")


@click.group()
def audit() -> None:
    """What was decided, by whom and why."""


@audit.command()
@click.option("--json", "as_json", is_flag=True)
def verify(as_json: bool) -> None:
    """Recompute the chain. Exit 1 if anything was changed."""
    found = asyncio.run(_read(SqliteStore.verify))
    if as_json:
        click.echo(json.dumps({"records": found.records, "verified": not found.faults, "faults": list(found.faults)}))
    else:
        for fault in found.faults:
            click.echo(fault, err=True)
        click.echo(f"{found.records} records, {'verified' if not found.faults else 'CHANGED'}")
    raise SystemExit(1 if found.faults else 0)


@audit.command()
@click.argument("file", type=click.File("w", encoding="utf-8"))
def export(file: TextIO) -> None:
    """Write the chain to FILE (-: stdout), one JSON document a line; docs/audit-log.md says how to check it."""
    click.echo(f"{asyncio.run(_read(lambda store: store.export(file)))} records", err=True)


async def _read(what: Callable[[SqliteStore], Awaitable[T]]) -> T:
    """Of the data directory, whether its server runs or not. Raises Misconfigured if there is no database."""
    async with open_store(read_settings().data_dir / "interlock.db", SystemClock(), exclusive=False) as store:
        return await what(store)
