"""The lander: performs a lane's steps one after the other and stores what each gave.

Recovery is the only start path: it loads the lane and goes on with the step that the lane is at. Git work runs in
threads; nothing here remembers anything between two steps.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import assert_never

import pygit2

from bot.errors import Stale, Transient
from bot.merge.compose import Start, compose
from bot.merge.trees import changes_between, open_repository, tree_of
from bot.ports import Checker, CheckVerdict, Clock, Confirmer, Faults, Queue, Remote
from bot.rules import lanes
from bot.rules.lanes import Step
from schemas.base import CheckCommand, Evidence, Sha
from schemas.lane import Checked, ComposeResult, Confirmed, Entry, HeadRead, Lane, LaneEvent, Outcome, Train
from schemas.lease import Lease

log = logging.getLogger("interlock.lander")

LEASE_SECONDS = 120.0
BACKOFF_SECONDS = 2.0

OnStep = Callable[[Lane, LaneEvent], None]


def checks_digest(commands: Sequence[CheckCommand]) -> str:
    """What a kept verdict is about, besides the tree."""
    text = json.dumps([(c.name, c.command, c.timeout_seconds) for c in commands])
    return hashlib.sha256(text.encode()).hexdigest()


class Lander:
    """One for a process; `drive` may run for several lanes at once, never twice for one (the lane's lease)."""

    def __init__(
        self,
        *,
        queue: Queue,
        remote: Callable[[str], Awaitable[Remote]],
        checker: Checker,
        confirmer: Confirmer,
        clock: Clock,
        owner: str,
        faults: Faults,
        threads: int = 2,
        on_step: OnStep | None = None,
    ) -> None:
        self._queue, self._remote, self._checker, self._confirmer = queue, remote, checker, confirmer
        self._clock, self._owner, self._faults, self._threads = clock, owner, faults, threads
        self._on_step = on_step

    async def drive(self, lane: str) -> None:
        """Take the lane forward until nothing is due. Raises Transient when GitHub or git cannot be reached."""
        lease = await self._queue.lease_lane(lane, self._owner, LEASE_SECONDS)
        if lease is None:
            return
        try:
            while await self._step(lease):
                pass
        except Stale as error:
            log.info("lane.stale", extra={"lane": lane, "error": str(error)})
        finally:
            await self._queue.release_lane(lease)

    async def _step(self, lease: Lease) -> bool:
        lane = await self._queue.lane(lease.key)
        now = self._clock.wall()
        due = await self._queue.due_entries(lease.key, lane.window, now) if lane.train is None else []
        step = lanes.next_step(lane, bool(due))
        if step is None:
            return False
        remote = await self._remote(lease.key)
        entries = list(due)
        if lane.train is not None:
            entries = list(await self._queue.entries(lease.key, [c.entry for c in lane.train.carriages]))
        event = await self._perform(step, lease, lane, remote, entries)
        decision = lanes.decide(lane, event, {entry.id: entry for entry in entries})
        await self._queue.decide(lease, event, decision, self._clock.wall())
        log.info("lane.step", extra={"lane": lane.key, "step": step, "why": decision.why})
        if self._on_step:
            self._on_step(decision.lane, event)
        if isinstance(event, HeadRead) and not event.contains and decision.lane.train is not None:
            await self._clock.sleep(BACKOFF_SECONDS)
        return True

    async def _perform(self, step: Step, lease: Lease, lane: Lane, remote: Remote, entries: list[Entry]) -> LaneEvent:
        match step:
            case Step.COMPOSE:
                return await self._compose(lease, lane, remote, entries)
            case Step.CHECK:
                assert lane.train is not None
                return await self._check(lane.train, remote, entries)
            case Step.CONFIRM:
                assert lane.train is not None
                return await self._confirm(lane.train, entries)
            case Step.LAND:
                return await self._land(lane, remote)
            case _:
                assert_never(step)

    # --- compose -----------------------------------------------------------------------------------------------------
    async def _compose(self, lease: Lease, lane: Lane, remote: Remote, entries: list[Entry]) -> LaneEvent:
        old = await remote.head(lane.ref)
        await self._queue.begin(lease, [entry.id for entry in entries], self._clock.wall())
        fork = lane.fork or next((e.fork for e in entries if e.fork), None)
        base = old or fork or next((e.change.base for e in entries if e.change is not None), None)
        if base is None:
            raise Transient(f"{lane.ref} does not exist on the remote")
        heads: dict[str, str | None] = {}
        refused: dict[str, str] = {}
        for entry in entries:
            if entry.series is None:
                continue
            head = await remote.head(f"refs/heads/{entry.series.branch}")
            heads[entry.id] = head
            if head is not None and head != entry.series.tip and (entry.series.branch, head) not in lane.own_heads:
                refused[entry.id] = f"the branch {entry.series.branch} changed after the approval"
        taken = [entry for entry in entries if entry.id not in refused]
        # A series knows itself where its own branch forked; the base lane's fork would only lengthen the walk.
        walk_to = _walk_end(entries, fork)
        start = Start(old=old, base=base, fork=walk_to)
        self._faults.reach("land:compose:before")
        composed = await asyncio.to_thread(compose, remote.git_dir, start, taken, heads, self._threads)
        self._faults.reach("land:compose:after")
        results = [*composed.results]
        for name, reason in refused.items():
            results.append(_refused(name, reason))
        return composed.model_copy(update={"results": tuple(results)})

    # --- check -------------------------------------------------------------------------------------------------------
    async def _check(self, train: Train, remote: Remote, entries: list[Entry]) -> LaneEvent:
        commands = list({check.command: check for entry in entries for check in entry.checks}.values())
        if not commands or all(entry.rebase is not None for entry in entries):
            return Checked(outcome="green", verdict="no checks")
        verdict = await self._verdict(remote, train.tree, commands)
        if verdict.outcome == "green":
            return Checked(outcome="green", verdict=verdict.summary or "checks passed")
        base_red = False
        if verdict.outcome == "red" and len(entries) == 1:
            base_tree = await asyncio.to_thread(_tree, remote, train.base)
            base_red = await self._base_red(remote, base_tree, verdict, commands, entries[0])
        return Checked(outcome=verdict.outcome, base_red=base_red, evidence=verdict.evidence)

    async def _base_red(
        self, remote: Remote, tree: Sha, red: CheckVerdict, commands: list[CheckCommand], entry: Entry
    ) -> bool:
        """Whether the failing check fails on the head as well. A check that this very change introduces (its file
        does not exist before) is not the head's fault: only checks of a series, the repository's own, are asked."""
        if entry.series is None:
            return False
        failed = [c for c in commands if red.evidence is None or c.name == red.evidence.check] or commands
        return (await self._verdict(remote, tree, failed)).outcome == "red"

    async def _verdict(self, remote: Remote, tree: Sha, commands: list[CheckCommand]) -> CheckVerdict:
        digest = checks_digest(commands)
        kept = await self._queue.verdict(tree, digest)
        if kept is not None:
            return kept
        self._faults.reach("land:check:before")
        verdict = await self._checker.check(remote.git_dir, tree, commands)
        self._faults.reach("land:check:after")
        await self._queue.keep_verdict(tree, digest, verdict, self._clock.wall())
        return verdict

    # --- confirm -----------------------------------------------------------------------------------------------------
    async def _confirm(self, train: Train, entries: list[Entry]) -> LaneEvent:
        refused: list[tuple[str, str]] = []
        carriages = {carriage.entry: carriage for carriage in train.carriages}
        for entry in entries:
            if entry.state in ("cancelled", "superseded"):
                refused.append((entry.id, "it was withdrawn"))
                continue
            answer = await self._confirmer.confirm(entry, carriages[entry.id])
            if answer.status == "unknown":
                return Confirmed(unknown=answer.reason or "approvals could not be read")
            if answer.status == "refused":
                refused.append((entry.id, answer.reason))
        return Confirmed(refused=tuple(refused))

    # --- land --------------------------------------------------------------------------------------------------------
    async def _land(self, lane: Lane, remote: Remote) -> LaneEvent:
        intent, train = lanes.pending_intent(lane), lane.train
        assert intent is not None and train is not None
        refusal = ""
        head = await remote.head(intent.ref)
        if head == intent.expected_old and not await asyncio.to_thread(_contains, remote, head, intent.new_oid):
            await asyncio.to_thread(_verify, remote, train)
            self._faults.reach("land:push:before")
            pushed = await remote.push(intent.ref, intent.expected_old, intent.new_oid, force=intent.force)
            self._faults.reach("land:push:after")
            refusal = pushed.message if pushed.status == "refused" else ""
            head = await remote.head(intent.ref)
        contains = await asyncio.to_thread(_contains, remote, head, intent.new_oid)
        return HeadRead(ref=intent.ref, head=head, contains=contains, refusal=refusal)


def _walk_end(entries: list[Entry], fork: str | None) -> str | None:
    return next((entry.series.fork for entry in entries if entry.series is not None), fork)


def _refused(entry: str, reason: str) -> ComposeResult:
    return ComposeResult(entry=entry, outcome=Outcome.POLICY, evidence=Evidence(reason=reason))


def _tree(remote: Remote, commit: Sha) -> Sha:
    return str(tree_of(open_repository(remote.git_dir), commit).id)


def _contains(remote: Remote, head: Sha | None, commit: Sha) -> bool:
    if head is None:
        return False
    if head == commit:
        return True
    repo = open_repository(remote.git_dir)
    return commit in repo and repo.descendant_of(head, commit)


def _verify(remote: Remote, train: Train) -> None:
    """What is pushed is what was checked: the tip's tree, and each change's own paths and no others."""
    repo = open_repository(remote.git_dir)
    if str(tree_of(repo, train.tip).id) != train.tree:
        raise Stale("the tip's tree is not the one that was checked")
    for carriage in train.carriages:
        commit = repo[carriage.commit].peel(pygit2.Commit)
        if len(carriage.commits) != 1 or not carriage.paths or not commit.parent_ids or carriage.rung == "rebase":
            continue
        touched = changes_between(repo, tree_of(repo, str(commit.parent_ids[0])), commit.tree)
        if not set(touched) <= set(carriage.paths) and carriage.rung != "merge-tree":
            raise Stale(f"{carriage.entry} touches files that it did not name")
