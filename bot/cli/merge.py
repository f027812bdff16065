"""`interlock merge`: the merge queue alone, on a local repository, without GitHub. The local ref is the remote."""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

from bot.cli.configuration import read_settings
from bot.cli.options import FOLDER
from bot.cli.requests import Refused, read
from bot.clock import SystemClock
from bot.errors import Misconfigured
from bot.merge.lander import Lander
from bot.merge.local import LocalRemote
from bot.ports import Checker, CheckVerdict, Clock, Confirmation, Remote
from bot.rules import policy as policies
from bot.rules import risk
from bot.runners.checks import SandboxChecker
from bot.runners.environment import Environments
from bot.runners.layers import Trees
from bot.runners.sandbox import Sandbox, area_for, emptied
from bot.store.store import SqliteStore, open_store
from schemas import lane as q
from schemas.base import CheckCommand, Environment
from schemas.change_request import ChangeRequest
from schemas.policy import Policy

UpTo = Literal["line", "safe", "driver"]
PROGRESS_EVERY = 250
DECIDED = (
    q.EntryState.LANDED, q.EntryState.NOOP, q.EntryState.REWORK, q.EntryState.QUARANTINED, q.EntryState.HELD
)  # fmt: skip
TAKEN = "the id is known with another content: give a new change a new id"


class Everybody:
    """`bot.ports.Confirmer`: without GitHub there is nobody to ask."""

    async def confirm(self, entry: q.Entry, carriage: q.Carriage) -> Confirmation:
        """Always."""
        return Confirmation("ok")


class NoChecks:
    """`bot.ports.Checker` for a call without --check."""

    async def check(
        self, git_dir: Path, tree: str, commands: Sequence[CheckCommand], environment: Environment
    ) -> CheckVerdict:
        """Only an entry of an earlier run carries commands."""
        raise Misconfigured("an entry of an earlier run has a check: run with --check again")


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


class Progress:
    """`Lander.on_step`: a line on stderr now and then, in long runs."""

    def __init__(self, submitted: int) -> None:
        self._submitted, self._landed, self._said, self._train = submitted, 0, 0, 0

    def __call__(self, lane: q.Lane, event: q.LaneEvent) -> None:
        """A train whose tip is on the branch has landed."""
        if isinstance(event, q.Composed):
            self._train = sum(result.outcome is q.Outcome.COMPOSED for result in event.results)
        elif isinstance(event, q.HeadRead) and event.contains and lane.train is None:
            self._landed += self._train
            if self._landed - self._said >= PROGRESS_EVERY:
                self._said = self._landed
                click.echo(f"{self._landed} landed of {self._submitted} submitted now", err=True)


@click.command()
@click.option("--repo", type=FOLDER, required=True, help="bare or not")
@click.option("--target", required=True, help="the branch or full ref to land on")
@click.option("--requests", type=click.Path(path_type=Path), required=True, help="a folder of .json, or a .jsonl")
@click.option("--threads", type=click.IntRange(1, 64), default=2, show_default=True)
@click.option("--check", help="a shell command that must exit 0 on what lands")
@click.option(
    "--rungs", type=click.Choice(["line", "safe", "driver"]), help="how far a conflict may climb; needs --check"
)
@click.option("--policy", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="an interlock.yml: its protected paths hold, its checks, rungs and union files count")  # fmt: skip
@click.option("--db", type=click.Path(path_type=Path, dir_okay=False), help="[default: in the git dir]")
@click.option("--json", "as_json", is_flag=True)
def merge(
    repo: Path, target: str, requests: Path, threads: int, check: str | None, rungs: UpTo | None, policy: Path | None,
    db: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Land change requests on a local branch, each exactly once; run it again after a crash and it goes on."""
    report, stopped = asyncio.run(_run(repo, target, requests, threads, _rules(check, rungs, policy), db))
    click.echo(json.dumps(report, indent=2) if as_json else _text(report))
    if stopped:
        click.echo(f"interlock: {stopped}", err=True)
    sys.exit(1 if stopped or report["rework"] or report["quarantined"] or report["open"] else 0)


@dataclass(frozen=True)
class Rules:
    """What the options ask of every request."""

    checks: tuple[CheckCommand, ...]
    rungs: q.Rungs
    driver: str
    policy: Policy | None

    def entry(self, lane: str, change: ChangeRequest) -> q.NewEntry:
        """A request as it enters the queue; a policy may hold it for a person."""
        held: tuple[str, ...] = ()
        environment = Environment()
        if self.policy is not None:
            held = risk.holds(change.patch, protected=self.policy.protected, tested=bool(self.checks))
            environment = self.policy.environment
        return q.NewEntry(
            id=change.id, lane=lane, change=change, owns=change.owns, checks=self.checks, rungs=self.rungs, held=held,
            environment=environment,
        )  # fmt: skip


def _rules(check: str | None, rungs: UpTo | None, file: Path | None) -> Rules:
    """Raises Misconfigured for a broken policy, or rungs that nothing stands behind."""
    policy = policies.read(file.read_bytes()) if file else None
    if isinstance(policy, str):
        raise Misconfigured(f"{file}: {policy}")
    own = (CheckCommand(name="check", command=check, standing=True),) if check else ()
    checks = (*own, *(policy.checks if policy else ()))
    upto: UpTo = rungs or (policy.rungs if policy else "line")
    driver = read_settings().merge_driver if upto == "driver" else ""
    if upto == "driver" and not driver:
        raise Misconfigured("--rungs driver needs a merge driver: set INTERLOCK_MERGE_DRIVER to its command")
    return Rules(checks, q.Rungs(upto=upto, union=policy.union if policy else ()), driver, policy)


async def _run(
    repo: Path, target: str, requests: Path, threads: int, rules: Rules, db: Path | None
) -> tuple[dict[str, Any], str]:
    """Do it; the report of contract.md, and why it stopped early if it did."""
    began = time.perf_counter()
    clock, stopwatch = SystemClock(), Stopwatch()
    ref = target if target.startswith("refs/") else f"refs/heads/{target}"
    lane, local = f"local:{ref}", LocalRemote(repo, ref)
    database = db or local.git_dir / "interlock" / "queue.db"
    given = list(read(requests))
    changes = [one for one in given if isinstance(one, ChangeRequest)]
    if await local.head(ref) is None and not changes:
        raise Misconfigured(f"{ref} does not exist in {local.git_dir}")

    async def remote(_: str) -> Remote:
        return local

    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(database, clock))
        known = await store.meta("repository")
        if known not in (None, str(local.git_dir)):
            raise Misconfigured(f"this database is the queue of {known}: name another one with --db")
        await store.set_meta("repository", str(local.git_dir))
        checker: Checker = NoChecks()
        if rules.checks:
            sandbox = Sandbox("required", area_for(Path(f"{database.resolve()}.work")))
            stack.enter_context(emptied(sandbox.area))
            if problems := await sandbox.self_test():
                raise Misconfigured("; ".join(problems))
            trees = Trees(sandbox)
            environments = Environments(
                sandbox, trees, sandbox.area.parent / "environments", read_settings().registries
            )
            checker = SandboxChecker(sandbox, trees, environments, clock)
        lander = Lander(
            queue=store, remote=remote, checker=checker,
            confirmer=Everybody(), clock=clock, owner=store.owner, faults=stopwatch, threads=threads,
            looks_again=True, driver=rules.driver, on_step=Progress(len(changes)),
        )  # fmt: skip
        entries = [rules.entry(lane, change) for change in changes]
        taken = dict.fromkeys(name for name, same in await store.enqueue(entries, clock.wall()) if not same)
        refused = [one for one in given if isinstance(one, Refused)] + [Refused(name, TAKEN) for name in taken]
        stopped = await drive(store, lander, lane, clock)
        report = _report(await store.report(lane), refused)
    seconds = {"seconds": round(time.perf_counter() - began, 3), "compose_seconds": round(stopwatch.seconds, 3)}
    return {**report, "head": await local.head(ref), **seconds}, stopped


async def drive(store: SqliteStore, lander: Lander, lane: str, clock: Clock) -> str:
    """Passes over everything that waits; conflicts are tried again after each until a pass lands nothing.

    A sentence for the person if the lane stops before that, else nothing.
    """
    landed = -1
    while True:
        await lander.drive(lane)
        found = await store.lane(lane)
        if found.state is not q.LaneState.OPEN:
            return f"{found.why}: mend that first, then run this again and it goes on"
        entries = await store.report(lane)
        due = [entry.next_try for entry in entries if entry.state is q.EntryState.QUEUED and entry.next_try]
        if due:
            await clock.sleep(max((min(due) - clock.wall()).total_seconds(), 0.05))
            continue
        done = sum(entry.state in (q.EntryState.LANDED, q.EntryState.NOOP) for entry in entries)
        rework = [entry for entry in entries if entry.state is q.EntryState.REWORK]
        conflicts = [entry.id for entry in rework if entry.error_class is q.ErrorClass.CONFLICT]
        if done == landed or not conflicts:
            return ""
        landed = done
        await store.retry(lane, conflicts, clock.wall())


def _report(entries: Sequence[q.Entry], refused: Sequence[Refused]) -> dict[str, Any]:
    by_state = {state: [entry for entry in entries if entry.state is state] for state in q.EntryState}

    def why(entry: q.Entry) -> dict[str, Any]:
        evidence = entry.evidence.model_dump(mode="json", exclude_none=True) if entry.evidence else None
        return {"reason": entry.error, "evidence": evidence}

    quarantined = [{"id": e.id, "class": e.error_class, **why(e)} for e in by_state[q.EntryState.QUARANTINED]]
    held = [
        {
            "id": entry.id,
            "class": "policy",
            "reason": f"a person must release it: {'; '.join(entry.held)}",
            "evidence": None,
        }
        for entry in by_state[q.EntryState.HELD]
    ]
    invalid = [{"id": one.id, "class": "invalid", "reason": one.reason, "evidence": None} for one in refused]
    return {
        "submitted": len(entries) + len(refused),
        "landed": [{"id": entry.id, "commit": entry.commit} for entry in by_state[q.EntryState.LANDED]],
        "noop": [entry.id for entry in by_state[q.EntryState.NOOP]],
        "rework": [{"id": entry.id, **why(entry)} for entry in by_state[q.EntryState.REWORK]],
        "quarantined": quarantined + held + invalid,
        "open": [entry.id for entry in entries if entry.state not in DECIDED],
    }


def _text(report: dict[str, Any]) -> str:
    lines = [f"landed       {row['id']} as {row['commit'][:12]}" for row in report["landed"]]
    lines += [f"noop         {name}" for name in report["noop"]]
    lines += [f"rework       {row['id']}: {row['reason']}" for row in report["rework"]]
    lines += [f"quarantined  {row['id']} ({row['class']}): {row['reason']}" for row in report["quarantined"]]
    lines += [f"open         {name}" for name in report["open"]]
    counts = ", ".join(f"{len(report[name])} {name}" for name in ("landed", "noop", "rework", "quarantined", "open"))
    return "\n".join([*lines, f"{report['submitted']} submitted: {counts}; head {report['head']}"])
