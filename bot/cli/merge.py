"""`interlock merge`: the merge queue alone, on a local repository, without GitHub. The local ref is the remote."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from bot.cli import requests
from bot.cli.requests import Given
from bot.clock import SystemClock
from bot.errors import Misconfigured
from bot.merge.lander import Lander
from bot.merge.local import LocalRemote
from bot.ports import Confirmation, Remote
from bot.runners.checks import SandboxChecker
from bot.runners.sandbox import Sandbox, area_for
from bot.store.store import SqliteStore, open_store
from schemas.base import CheckCommand
from schemas.lane import Carriage, Entry, EntryState, ErrorClass, NewEntry

PROGRESS_EVERY = 1000


@dataclass(frozen=True)
class Job:
    """What one call of `interlock merge` was asked for."""

    remote: LocalRemote
    ref: str
    given: tuple[Given, ...]
    check: str | None
    threads: int
    database: Path


class Everybody:
    """`bot.ports.Confirmer`: without GitHub there is nobody to ask."""

    async def confirm(self, entry: Entry, carriage: Carriage) -> Confirmation:
        """Always."""
        return Confirmation("ok")


class Stopwatch:
    """`bot.ports.Faults` that only measures how long composing took, in seconds."""

    def __init__(self) -> None:
        self.seconds, self._began = 0.0, 0.0

    def reach(self, point: str) -> None:
        """The lander passes these two points around each composition."""
        if point == "land:compose:before":
            self._began = time.perf_counter()
        elif point == "land:compose:after":
            self.seconds += time.perf_counter() - self._began


@click.command()
@click.option(
    "--repo", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True, help="bare or not"
)
@click.option("--target", required=True, help="the branch or full ref to land on")
@click.option(
    "--requests", "source", type=click.Path(path_type=Path), required=True, help="a folder of .json, or a .jsonl"
)
@click.option("--threads", type=click.IntRange(1, 64), default=2, show_default=True)
@click.option("--check", help="a shell command that must exit 0 on what lands")
@click.option(
    "--rungs", type=click.Choice(["line"]), default="line", show_default=True, help="how conflicts are resolved"
)
@click.option("--db", "database", type=click.Path(path_type=Path, dir_okay=False), help="[default: in the git dir]")
@click.option("--json", "as_json", is_flag=True)
def merge(
    repo: Path,
    target: str,
    source: Path,
    threads: int,
    check: str | None,
    rungs: str,
    database: Path | None,
    as_json: bool,
) -> None:
    """Land change requests on a local branch, each exactly once; run it again after a crash and it goes on."""
    ref = target if target.startswith("refs/") else f"refs/heads/{target}"
    remote = LocalRemote(repo, ref)
    given = tuple(requests.read(source))
    place = database or remote.git_dir / "interlock" / "queue.db"
    report = asyncio.run(run(Job(remote, ref, given, check, threads, place)))
    click.echo(json.dumps(report, indent=2) if as_json else _text(report))
    sys.exit(1 if report["rework"] or report["quarantined"] else 0)


async def run(job: Job) -> dict[str, Any]:
    """Do it; the report of contract.md."""
    began = time.perf_counter()
    clock, stopwatch = SystemClock(), Stopwatch()
    lane = f"local:{job.ref}"
    if await job.remote.head(job.ref) is None and not any(g.change for g in job.given):
        raise Misconfigured(f"{job.ref} does not exist in {job.remote.git_dir}")
    async with open_store(job.database, clock) as store:
        await _same_repository(store, str(job.remote.git_dir))
        sandbox = Sandbox("required", area_for(job.database.parent.resolve())) if job.check else None
        if sandbox is not None and (problems := await sandbox.self_test()):
            raise Misconfigured("; ".join(problems))

        async def remote(_: str) -> Remote:
            return job.remote

        lander = Lander(
            queue=store, remote=remote, checker=SandboxChecker(sandbox, clock) if sandbox else NoChecks(),
            confirmer=Everybody(), clock=clock, owner=store.owner, faults=stopwatch, threads=job.threads,
        )  # fmt: skip
        refused = await _enqueue(store, job, lane, clock.wall())
        await _drive(store, lander, lane, clock)
        entries = await store.report(lane)
    seconds = {"seconds": round(time.perf_counter() - began, 3), "compose_seconds": round(stopwatch.seconds, 3)}
    return {**_report(entries, refused), "head": await job.remote.head(job.ref), **seconds}


class NoChecks:
    """`bot.ports.Checker` for a queue without checks; the lander never asks it."""

    async def check(self, git_dir: Path, tree: str, commands: Sequence[CheckCommand]) -> Any:
        """Never called: entries carry no commands."""
        raise Misconfigured("an entry of an earlier run has a check: run with --check again")


async def _same_repository(store: SqliteStore, git_dir: str) -> None:
    known = await store.meta("repository")
    if known is None:
        await store.set_meta("repository", git_dir)
    elif known != git_dir:
        raise Misconfigured(f"this database is the queue of {known}: name another one with --db")


async def _enqueue(store: SqliteStore, job: Job, lane: str, now: datetime) -> list[Given]:
    checks = (CheckCommand(name="check", command=job.check),) if job.check else ()
    valid = [g for g in job.given if g.change is not None]
    entries = [
        NewEntry(id=g.id, lane=lane, change=g.change, owns=g.change.owns, checks=checks) for g in valid if g.change
    ]
    answers = await store.enqueue(entries, now)
    taken = {
        given.id: Given(given.id, None, "the id is known with another content: give a new change a new id")
        for given, (_, same) in zip(valid, answers, strict=True)
        if not same
    }
    return [given for given in job.given if given.change is None] + list(taken.values())


async def _drive(store: SqliteStore, lander: Lander, lane: str, clock: SystemClock) -> None:
    """Passes over everything that waits; conflicts are tried again after each until a pass lands nothing."""
    landed = -1
    while True:
        await lander.drive(lane)
        due = await store.next_due()
        if due is not None:
            await clock.sleep(max((due - clock.wall()).total_seconds(), 0.05))
            continue
        entries = await store.report(lane)
        done = sum(entry.state in (EntryState.LANDED, EntryState.NOOP) for entry in entries)
        print(f"{done} of {len(entries)} landed", file=sys.stderr) if len(entries) >= PROGRESS_EVERY else None
        conflicts = [e.id for e in entries if e.state is EntryState.REWORK and e.error_class is ErrorClass.CONFLICT]
        if done == landed or not conflicts:
            return
        landed = done
        await store.retry(lane, conflicts, clock.wall())


def _report(entries: Sequence[Entry], refused: Sequence[Given]) -> dict[str, Any]:
    def of(state: EntryState) -> list[Entry]:
        return [entry for entry in entries if entry.state is state]

    def evidence(entry: Entry) -> dict[str, Any] | None:
        return entry.evidence.model_dump(mode="json", exclude_none=True) if entry.evidence else None

    wrong = [{"id": g.id, "class": "invalid", "reason": g.reason, "evidence": None} for g in refused]
    return {
        "submitted": len(entries) + len(refused),
        "landed": [{"id": entry.id, "commit": entry.commit} for entry in of(EntryState.LANDED)],
        "noop": [entry.id for entry in of(EntryState.NOOP)],
        "rework": [{"id": e.id, "reason": e.error, "evidence": evidence(e)} for e in of(EntryState.REWORK)],
        "quarantined": [
            {"id": e.id, "class": e.error_class, "reason": e.error, "evidence": evidence(e)}
            for e in of(EntryState.QUARANTINED)
        ]
        + wrong,
    }


def _text(report: dict[str, Any]) -> str:
    lines = [f"landed       {row['id']} as {row['commit'][:12]}" for row in report["landed"]]
    lines += [f"noop         {name}" for name in report["noop"]]
    lines += [f"rework       {row['id']}: {row['reason']}" for row in report["rework"]]
    lines += [f"quarantined  {row['id']} ({row['class']}): {row['reason']}" for row in report["quarantined"]]
    counts = ", ".join(f"{len(report[name])} {name}" for name in ("landed", "noop", "rework", "quarantined"))
    return "\n".join([*lines, f"{report['submitted']} submitted: {counts}; head {report['head']}"])
