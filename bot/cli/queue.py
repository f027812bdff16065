"""`interlock queue`: what waits, what failed and why, and an operator's acts on it."""

import asyncio
import getpass
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence

import click

from bot.cli.configuration import read_settings
from bot.cli.place import Place, at_place, opened
from bot.cli.text import echo_json, one_line, plain, when
from bot.clock import SystemClock
from bot.errors import Misconfigured, Rejected
from bot.store.database import InUse
from bot.store.views import EntryDetail, EntryRow, LaneRow
from schemas.commands import Command, Done, Verb

SHOWN = 20
"""How many entries of a lane, failures or lanes are listed without --all."""
EVERYTHING = 2**62
TEXT_LINES = 40
ANSWER_SECONDS = 30.0

as_json = click.option("--json", "as_json", is_flag=True, help="one JSON document")
everything = click.option("--all", "everything", is_flag=True, help="however many there are")


@click.group()
def queue() -> None:
    """The merge queue: of the bot, running or not, or (with --repo) of a local repository."""


@queue.command("list")
@at_place
@everything
@as_json
def list_(place: Place, everything: bool, as_json: bool) -> None:
    """Lanes, and what waits in them, in the order in which it lands."""
    lanes = asyncio.run(_lanes(place, EVERYTHING if everything else SHOWN))
    shown = lanes if everything else lanes[:SHOWN]
    if as_json:
        echo_json({"lanes": [lane.model_dump(mode="json") for lane in shown], "more_lanes": len(lanes) - len(shown)})
        return
    for lane in shown:
        click.echo("\n".join(_lane_lines(lane)))
    if len(lanes) > len(shown):
        click.echo(f"{len(lanes) - len(shown)} more lanes: --all shows them")
    if not lanes:
        click.echo("nothing was ever queued")


@queue.command()
@click.argument("entry", required=False)
@click.option("--lane", default="", help="of entries with one id")
@at_place
@everything
@as_json
def show(place: Place, entry: str | None, lane: str, everything: bool, as_json: bool) -> None:
    """One entry; or, without one, every entry that ever failed."""
    if entry:
        found = asyncio.run(_detail(place, entry, lane))
        if as_json:
            echo_json(found.model_dump(mode="json"))
        else:
            click.echo("\n".join(_detail_lines(found)))
        return
    rows, many = asyncio.run(_failed(place, EVERYTHING if everything else SHOWN))
    if as_json:
        echo_json({"failed": [row.model_dump(mode="json") for row in rows], "more": many - len(rows)})
        return
    for row in rows:
        at = f", last {when(row.failed)}" if row.failed else ""
        click.echo(f"{_entry_line(row)}  in {row.lane}{at}")
    click.echo(f"{many - len(rows)} more: --all shows them" if many > len(rows) else f"{many} failed")


def _act(verb: Verb, what: str) -> None:
    @queue.command(verb, help=what)
    @click.argument("entry", metavar="ENTRY_OR_LANE" if verb == "release" else "ENTRY")
    @click.option("--lane", default="", help="of entries with one id")
    @click.option("--by", help="who does it [default: the login name]")
    @at_place
    @as_json
    def act(place: Place, entry: str, lane: str, by: str | None, as_json: bool) -> None:
        try:
            command = Command(command=verb, entry=entry, lane=lane, by=by or _login())
        except ValueError as error:
            raise Misconfigured(f"an id, a lane and a name are one line of text, not too long: {error}") from None
        done = asyncio.run(_operate(place, command))
        if as_json:
            echo_json(done.model_dump(mode="json"))
        else:
            later = ": it lands with the next interlock merge" if place.git_dir and done.after == "queued" else ""
            click.echo(f"{done.entry or done.lane}: {done.before} -> {done.after}, {done.why}{later}")


_act("retry", "Queue an entry again that is in rework or quarantine.")
_act("release", "Let an entry go on that is held or in quarantine; or a lane that is paused.")
_act("drop", "Take an open entry out of the queue. What is landing is not called back.")


# --- reading and writing ----------------------------------------------------------------------------------------------
async def _lanes(place: Place, limit: int) -> Sequence[LaneRow]:
    async with opened(place) as store:
        return await store.lane_rows(limit)


async def _detail(place: Place, entry: str, lane: str) -> EntryDetail:
    async with opened(place) as store:
        return await store.entry_detail(entry, lane)


async def _failed(place: Place, limit: int) -> tuple[Sequence[EntryRow], int]:
    async with opened(place) as store:
        return await store.failed_rows(limit)


async def _operate(place: Place, command: Command) -> Done:
    """Under the lock of the file; by the running server, if that holds it. Raises Rejected, Misconfigured."""
    try:
        async with opened(place, exclusive=True) as store:
            return await store.operate(command, SystemClock().wall())
    except InUse:
        if place.git_dir:
            raise
        return await asyncio.to_thread(_post, command)


def _post(command: Command) -> Done:
    """`POST /commands` of the running server."""
    settings = read_settings()
    host = "127.0.0.1" if settings.admin_host in ("", "0.0.0.0", "::") else settings.admin_host
    url = f"http://{f'[{host}]' if ':' in host else host}:{settings.admin_port}/commands"
    token = settings.api_token.get_secret_value()
    if not token:
        raise Misconfigured("the server runs: set API_TOKEN (for the server as well), which commands to it need")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, command.model_dump_json().encode(), headers, method="POST")
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request, timeout=ANSWER_SECONDS) as answer:
            return Done.model_validate_json(answer.read())
    except urllib.error.HTTPError as error:
        text = error.read().decode("utf-8", "replace")
        if error.code == 401:
            raise Misconfigured("the server has another API_TOKEN, or none: give both the same one") from None
        try:
            raise Rejected(json.loads(text)["message"]) from None
        except (ValueError, KeyError, TypeError):
            raise Rejected(f"the server answered {error.code}: {text[:200]}") from None
    except OSError as error:
        mend = "set ADMIN_HOST and ADMIN_PORT as the server has them"
        raise Misconfigured(f"the server has the database, and there is no answer at {url} ({error}): {mend}") from None


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"uid-{os.getuid()}"


# --- for people -------------------------------------------------------------------------------------------------------
def _lane_lines(lane: LaneRow) -> Iterator[str]:
    why = f" ({one_line(lane.why)})" if lane.why else ""
    head = f", head {lane.head[:12]}" if lane.head else ""
    yield f"{lane.key}  {lane.state}{why}, window {lane.window}{head}"
    if lane.train:
        yield f"  train    {lane.train.state}, {len(lane.train.carriages)} entries on {lane.train.base[:12]}"
    yield from (f"  {_entry_line(row)}" for row in lane.open)
    if lane.more:
        yield f"  ... {lane.more} more wait: --all shows them"
    if lane.at_rest:
        yield f"  at rest  {', '.join(f'{count} {state}' for state, count in sorted(lane.at_rest.items()))}"


def _entry_line(row: EntryRow) -> str:
    parts = [f"{row.state:<11} {row.id}"]
    if row.attempts:
        parts.append(f"failed {row.attempts} times, {row.error_class or 'no class'}: {one_line(row.error)}")
    if row.next_try and row.next_try > SystemClock().wall():
        parts.append(f"next try {row.next_try:%H:%M:%S}")
    if row.commit:
        parts.append(f"as {row.commit[:12]}")
    return "  ".join(parts)


def _detail_lines(found: EntryDetail) -> Iterator[str]:
    settled = f", at rest since {when(found.settled)}" if found.settled else f", {found.behind} before it"
    yield f"{found.id}  {found.state} ({found.kind}) in {found.lane}{settled}"
    rows = {
        "ticket": found.ticket, "task": found.task, "accepted": when(found.accepted),
        "priority": found.priority or "", "checks": ", ".join(found.checks), "held for": "; ".join(found.held),
        "released": f"by {found.released_by}" if found.released_by else "", "commit": found.commit,
        "tries": f"{found.deliveries}, {found.attempts} failed",
        "class": found.error_class, "failed": when(found.failed) if found.failed else "",
        "error": one_line(found.error), "next try": when(found.next_try) if found.next_try else "",
    }  # fmt: skip
    yield from (f"  {name:<9} {value}" for name, value in rows.items() if value)
    evidence = found.evidence.model_dump(exclude={"reason"}, exclude_none=True) if found.evidence else {}
    for name, value in evidence.items():
        first, *rest = plain(str(value)).splitlines() or [""]
        if first or rest:
            yield f"  {name:<9} {first}"
            yield from (f"            {line}" for line in rest[:TEXT_LINES])
            if len(rest) > TEXT_LINES:
                yield f"            ... {len(rest) - TEXT_LINES} more lines: --json has them"
