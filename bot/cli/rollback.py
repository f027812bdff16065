"""`interlock rollback`: take a landed change back, by its inverse as one more change request that lands like any other."""

import asyncio
import json
import sys
import tempfile
from itertools import count
from pathlib import Path
from typing import Any

import click

from bot.cli import merge as landing
from bot.cli.place import Place, at_place, opened
from bot.cli.text import echo_json, one_line
from bot.errors import Misconfigured, Rejected
from bot.merge.local import LocalRemote
from bot.merge.objects import Commit, Objects
from bot.merge.rollback import Inverse, Unwritable, carrying, invert, label, named, refusal, request
from bot.store.operating import unknown
from bot.store.store import SqliteStore
from schemas.change_request import ChangeRequest
from schemas.lane import EntryState

THREADS = 2
LONGEST = 180
"""Characters of the change's id that the rollback's id keeps; an id has 200 at most."""


@click.command()
@click.argument("what", metavar="ENTRY_OR_CHANGE")
@click.option("--with-dependants", is_flag=True, help="take out as well what later changed the same lines")
@click.option("--target", help="the branch, if the queue has several")
@click.option("--check", help="a shell command that must exit 0 on what lands")
@at_place
@click.option("--json", "as_json", is_flag=True, help="one JSON document")
def rollback(
    place: Place, what: str, with_dependants: bool, target: str | None, check: str | None, as_json: bool
) -> None:
    """Take back a landed change (or OWNER/NAME#N: all commits of a ticket) of a local repository."""
    if place.git_dir is None:
        raise Misconfigured(
            "a ticket is rolled back by the comment /interlock rollback on its issue; for a local repository name it with --repo"
        )
    report = asyncio.run(_run(place, place.git_dir, what, target, check, with_dependants=with_dependants))
    if as_json:
        echo_json(report)
    else:
        click.echo(_text(report))
    if report["state"] not in ("landed", "noop"):
        click.echo(f"interlock: {what}: {one_line(report['reason'], 2000)}", err=True)
        sys.exit(1)


async def _run(
    place: Place, git_dir: Path, what: str, target: str | None, check: str | None, *, with_dependants: bool
) -> dict[str, Any]:
    async with opened(place) as store:
        lane = await _lane(store, target)
        ref = lane.partition(":")[2]
        head = await LocalRemote(git_dir, ref).head(ref)
        if head is None:
            raise Misconfigured(f"{ref} does not exist in {git_dir}: name another --target")
        objects = Objects(git_dir)
        targets = await asyncio.to_thread(carrying, objects, head, named(what))
        if not targets:
            raise await _why_none(store, lane, what)
        inverse = await asyncio.to_thread(invert, objects, head, targets)
        report: dict[str, Any] = {
            "id": None, "state": "refused", "commit": None, "reason": "", "head": head,
            "taken": _listed(inverse.taken), "dependants": _listed(inverse.dependants),
        }  # fmt: skip
        if why := refusal(objects, head, inverse, with_dependants=with_dependants):
            gone = inverse.tree == objects.tree_of(head)
            way = "; --with-dependants takes them as well" if inverse.dependants and not with_dependants else ""
            return {**report, "state": "noop" if gone else "refused", "reason": why + ("" if gone else way)}
        change = await _request(store, lane, objects, what, head, inverse)
    landed = await _landed(git_dir, place.database, ref, change, check)
    return {**report, "id": change.id, **landed}


async def _lane(store: SqliteStore, target: str | None) -> str:
    """The queue's one lane, or the one that is named. Raises Misconfigured."""
    lanes = [lane for lane in await store.lane_keys() if target in (None, (ref := lane[6:]), ref[11:])]
    if len(lanes) != 1:
        found = ", ".join(lane[6:] for lane in lanes or await store.lane_keys())
        raise Misconfigured(f"name one branch of this queue with --target: {found}")
    return lanes[0]


async def _why_none(store: SqliteStore, lane: str, what: str) -> Rejected:
    """Why the branch has no such change."""
    known = await store.entries_like(name=what)
    if not known:
        return unknown(what, [entry.id for entry in await store.report(lane)])
    return Rejected(f"{what} is {known[-1][0].state} in the queue, and no commit of it is on {lane[6:]}")


async def _request(
    store: SqliteStore, lane: str, objects: Objects, what: str, head: str, inverse: Inverse
) -> ChangeRequest:
    """Under the first id that is free. Raises Rejected."""
    for number in count(1):
        name = f"rollback/{what[:LONGEST]}" + (f".{number}" if number > 1 else "")
        try:
            change = request(objects, name, head, inverse)
        except Unwritable as problem:
            raise Rejected(str(problem)) from None
        known = await store.entries(lane, [name], whole=True)
        if not known or (known[0].change == change and known[0].state is EntryState.QUEUED):
            return change
    raise AssertionError("count never ends")


async def _landed(git_dir: Path, database: Path, ref: str, change: ChangeRequest, check: str | None) -> dict[str, Any]:
    """By the lander of `interlock merge`, whatever else waits in the lane; the state of this change."""
    with tempfile.TemporaryDirectory(prefix="interlock-rollback-") as folder:
        file = Path(folder, "rollback.json")
        file.write_text(json.dumps(change.model_dump(mode="json", by_alias=True)), "utf-8")
        report, stopped = await landing._run(
            git_dir, ref, Path(folder), THREADS, landing._rules(check, None, None), database
        )
    about: dict[str, Any] = {"head": report["head"], "state": "noop", "reason": "nothing of it was left"}
    if change.id in report["open"]:
        about |= {"state": "open", "reason": stopped}
    for state in ("landed", "rework", "quarantined"):
        for row in report[state]:
            if row["id"] == change.id:
                about |= {"state": state, "commit": row.get("commit"), "reason": row.get("reason", "")}
    return about


def _listed(commits: tuple[Commit, ...]) -> list[dict[str, str]]:
    return [{"commit": commit.oid, "change": label(commit).partition(" (")[2][:-1]} for commit in commits]


def _text(report: dict[str, Any]) -> str:
    rows = [f"taken out  {one['commit'][:12]}  {one_line(one['change'])}" for one in report["taken"]]
    if report["state"] == "landed":
        return "\n".join([*rows, f"landed     {report['id']} as {report['commit'][:12]}"])
    return f"{report['state']}  {one_line(report['reason'], 2000)}"
