"""`interlock replay`: compose what has landed anew from the records, and decide tickets anew; everything must come out equal."""

import asyncio
import re
import sys
from typing import Any

import click
from pydantic import TypeAdapter

from bot.cli.configuration import read_settings
from bot.cli.place import Place, at_place, opened
from bot.cli.text import echo_json, one_line
from bot.merge.commits import Landed
from bot.merge.replay import Difference, Fold, again, beside
from bot.pipeline import stages
from bot.store.operating import unknown
from bot.store.store import SqliteStore
from schemas.decision import Decision
from schemas.events import Event
from schemas.ticket import Ticket

EVENT: TypeAdapter[Event] = TypeAdapter(Event)
PROGRESS_EVERY = 100
_INSTANT = re.compile(r'(T\d\d:\d\d:\d\d)(?:\.(\d{3})\d*)?(?=Z"|\+00:00")')


@click.command()
@click.option("--ticket", help="its lanes, and its decisions")
@click.option("--lane", help="one lane")
@at_place
@click.option("--json", "as_json", is_flag=True, help="one JSON document")
def replay(place: Place, ticket: str | None, lane: str | None, as_json: bool) -> None:
    """Compose landed trains anew, beside the repository, and require the same commits. Exit 1 at the first difference."""
    report = asyncio.run(_run(place, ticket, lane))
    difference = report["difference"]
    if as_json:
        echo_json(report)
    else:
        counts = ", ".join(f"{report[name]} {name}" for name in ("trains", "commits", "decisions"))
        click.echo(f"{counts} came out the same" if not difference else f"{counts} came out the same before that")
    if difference:
        click.echo(f"interlock: {difference['where']}: {one_line(difference['what'], 2000)}", err=True)
    sys.exit(1 if difference else 0)


async def _run(place: Place, ticket: str | None, lane: str | None) -> dict[str, Any]:
    async with opened(place) as store:
        lanes, tickets, only = await _asked(store, ticket, lane)
        report: dict[str, Any] = {"lanes": lanes, "trains": 0, "commits": 0, "decisions": 0, "difference": None}
        for key in lanes:
            await _lane(place, store, key, only, report)
            if report["difference"]:
                return report
        for name in tickets:
            await _decisions(store, name, report)
            if report["difference"]:
                return report
        return report


async def _asked(store: SqliteStore, ticket: str | None, lane: str | None) -> tuple[list[str], list[str], str]:
    """Lanes, tickets, and whose trains alone are wanted of a lane that several tickets share ("": everybody's)."""
    lanes = list(await store.lane_keys())
    if lane is not None:
        if lane not in lanes:
            raise unknown(lane, lanes)
        return [lane], [], ""
    if ticket is not None:
        known = await store.ticket(ticket)
        if known is None:
            raise unknown(ticket, [one.id for one in await store.tickets()])
        return [key for key in (known.lane, known.base_lane) if key in lanes], [ticket], ticket
    return lanes, [one.id for one in await store.tickets()], ""


# --- trains -----------------------------------------------------------------------------------------------------------
async def _lane(place: Place, store: SqliteStore, key: str, only: str, report: dict[str, Any]) -> None:
    """Every landed train of a lane, in order."""
    fold, seen, driver = Fold(), Landed(), read_settings().merge_driver
    with beside(place.git_dir_of(key)) as scratch:
        async for link in store.links(key):
            try:
                train = fold.add(link.row, link.event, link.decision)
            except LookupError as error:
                report["difference"] = {"where": key, "what": f"it cannot be replayed: {error}"}
                return
            if train is None:
                continue
            entries = {entry.id: entry for entry in await store.entries(key, train.entries, whole=True)}
            if only and all(entry.ticket != only for entry in entries.values()):
                continue
            result = await asyncio.to_thread(again, scratch, train, entries, seen, driver)
            if isinstance(result, Difference):
                where = f"{key}, train {result.train}, {result.entry}"
                report["difference"] = {"where": where, "what": result.what}
                return
            report["trains"] += 1
            report["commits"] += result
            if report["trains"] % PROGRESS_EVERY == 0:
                click.echo(f"{report['trains']} trains, {report['commits']} commits", err=True)


# --- decisions --------------------------------------------------------------------------------------------------------
async def _decisions(store: SqliteStore, name: str, report: dict[str, Any]) -> None:
    """Decide a ticket's events again, each on the ticket as it was stored before."""
    ticket: Ticket | None = None
    async for link in store.links(name):
        row = link.row
        if not row.decision:
            if row.kind == "forgotten":
                report["difference"] = {"where": name, "what": "it cannot be replayed: its texts were erased"}
                return
            continue  # what an agent was shown, and events without a decision
        if link.event is None or link.decision is None:
            what = f"it cannot be replayed: the texts of row {row.seq} were erased"
            report["difference"] = {"where": name, "what": what}
            return
        event, recorded = EVENT.validate_json(link.event), Decision.model_validate_json(link.decision)
        decided = stages.decide(ticket, event, row.at, int(event.ticket.partition("~")[2] or 1))
        if isinstance(decided, str) or _same(decided) != _same(recorded):
            what = decided if isinstance(decided, str) else _first_difference(recorded, decided)
            report["difference"] = {"where": f"{name}, row {row.seq} ({row.kind})", "what": what}
            return
        ticket = recorded.ticket
        report["decisions"] += 1


def _same(decision: Decision) -> str:
    """Its JSON with instants cut to the millisecond: the chain keeps no more of when it was decided."""
    return _INSTANT.sub(lambda found: f"{found[1]}.{found[2] or '000'}", decision.model_dump_json(by_alias=True))


def _first_difference(recorded: Decision, decided: Decision) -> str:
    """The first field that came out otherwise."""
    for part, one, two in (("ticket", recorded.ticket, decided.ticket), ("decision", recorded, decided)):
        for name in type(one).model_fields:
            was, now = getattr(one, name), getattr(two, name)
            if was != now and name != "ticket":
                return f"the {part}'s {name} was {one_line(str(was))} and now is {one_line(str(now))}"
    return "its instants differ"
