"""`interlock audit`: the chain of every decision, read from the database file."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import TextIO, TypeVar

import click

from bot.cli.place import Place, at_place, opened
from bot.cli.text import echo_json, one_line, plain, when
from bot.store.operating import unknown
from bot.store.store import SqliteStore
from schemas.audit import AuditRow

T = TypeVar("T")


@click.group()
def audit() -> None:
    """What was decided, by whom and why."""


@audit.command()
@click.option("--subject", default="", help="a ticket or a lane")
@click.option("--last", type=click.IntRange(1), default=50, show_default=True, help="how many rows")
@at_place
@click.option("--json", "as_json", is_flag=True)
def show(place: Place, subject: str, last: int, as_json: bool) -> None:
    """The newest rows, oldest first: when, about what, what happened, what it led to, who and why."""
    rows, many = asyncio.run(_read(place, lambda store: _newest(store, subject, last)))
    if as_json:
        found = [{**row.model_dump(mode="json"), "erased": erased} for row, erased in rows]
        echo_json({"rows": found, "more": many - len(rows)})
        return
    if many > len(rows):
        click.echo(f"... {many - len(rows)} rows before: --last N shows more")
    for row, erased in rows:
        state = row.after if row.before in ("", row.after) else f"{row.before} -> {row.after}"
        about = "" if subject else f"  {row.subject}"
        who = f"  by {plain(row.actor)}" if row.actor else ""
        gone = "  (its texts were erased)" if erased else ""
        click.echo(f"{row.seq:>6}  {when(row.at)}{about}  {row.kind}  {state}{who}  {one_line(row.why, 400)}{gone}")


async def _newest(store: SqliteStore, subject: str, last: int) -> tuple[Sequence[tuple[AuditRow, bool]], int]:
    """Raises Rejected for a subject that the chain does not know, with near ones."""
    rows, many = await store.newest(subject, last)
    if subject and not rows:
        raise unknown(subject, await store.subjects())
    return rows, many


@audit.command()
@at_place
@click.option("--json", "as_json", is_flag=True)
def verify(place: Place, as_json: bool) -> None:
    """Recompute the chain. Exit 1 if anything was changed."""
    found = asyncio.run(_read(place, SqliteStore.verify))
    if as_json:
        click.echo(json.dumps({"records": found.records, "verified": not found.faults, "faults": list(found.faults)}))
    else:
        for fault in found.faults:
            click.echo(fault, err=True)
        click.echo(f"{found.records} records, {'verified' if not found.faults else 'CHANGED'}")
    raise SystemExit(1 if found.faults else 0)


@audit.command()
@click.argument("file", type=click.File("w", encoding="utf-8"))
@at_place
def export(place: Place, file: TextIO) -> None:
    """Write the chain to FILE (-: stdout), one JSON document a line; docs/audit-log.md says how to check it."""
    click.echo(f"{asyncio.run(_read(place, lambda store: store.export(file)))} records", err=True)


async def _read(place: Place, what: Callable[[SqliteStore], Awaitable[T]]) -> T:
    """Whether somebody works on it or not. Raises Misconfigured if there is no database."""
    async with opened(place) as store:
        return await what(store)
