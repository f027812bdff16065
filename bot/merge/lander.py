"""The lander: performs a lane's steps one after the other and stores what each gave.

Recovery is the only start path: it loads the lane and goes on with the step that the lane is at. Git work runs in
threads; nothing here remembers anything between two steps.
"""

import asyncio
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from bot.errors import Rejected, Stale, Transient
from bot.merge.ci import look
from bot.merge.commits import Landed
from bot.merge.compose import Start, compose
from bot.merge.landing import Landing, Landings
from bot.merge.objects import Objects
from bot.ports import Checker, CheckVerdict, Ci, Clock, Confirmer, Faults, Lease, Queue, Remote
from bot.rules import lanes, probes
from bot.rules.lane_turn import FROZEN_SECONDS
from schemas import lane as q
from schemas.base import Environment, Evidence, Sha

log = logging.getLogger("interlock.lander")

LEASE_SECONDS = 120.0
BACKOFF_SECONDS = 2.0
TOLD = 1000
"""How many entries behind a train that is parked are told at once."""
FROZEN = q.LaneState.FROZEN


@dataclass(frozen=True, kw_only=True)
class Lander:
    """One for a process; `drive` may run for several lanes at once, never twice for one (the lane's lease)."""

    queue: Queue
    remote: Callable[[str], Awaitable[Remote]]
    checker: Checker
    confirmer: Confirmer
    clock: Clock
    owner: str
    faults: Faults
    threads: int = 2
    driver: str = ""
    ci: Ci | None = None
    landing: Landing | None = None
    prober: Checker | None = None
    """Looks for whoever made a train red. With slots of its own, no lane's search keeps another lane's train waiting."""
    landed: dict[str, Landed] = field(default_factory=dict)
    """What each lane's branch was seen to hold, so that its history is walked once."""
    begun: dict[str, set[str]] = field(default_factory=dict)
    """For each lane the entries that were counted as begun and have no outcome yet."""
    on_step: Callable[[q.Lane, q.LaneEvent], None] | None = None
    looks_again: bool = False
    """Whether a frozen lane is tried although its head has not moved: whoever started us asks for that."""

    @property
    def _ways(self) -> Landings:
        return Landings(confirmer=self.confirmer, landing=self.landing, clock=self.clock, faults=self.faults)

    async def drive(self, lane: str) -> None:
        """Take the lane forward until nothing is due. Raises Transient when GitHub or git cannot be reached."""
        lease = await self.queue.lease_lane(lane, self.owner, LEASE_SECONDS)
        if lease is None:
            return
        try:
            ahead: _Ahead | None = None
            more = True
            while more:
                more, ahead = await self._step(lease, ahead)
        except Stale as error:
            log.info("lane.stale", extra={"lane": lane, "error": str(error)})
        except Rejected as error:
            log.warning("lane.unreachable", extra={"lane": lane, "error": str(error)})
            await self._set_aside(lease, str(error))
        finally:
            await self.queue.release_lane(lease)

    async def _set_aside(self, lease: Lease, why: str) -> None:
        """Whatever the lane holds leaves the queue: it cannot be worked on."""
        lane, now = await self.queue.lane(lease.key), self.clock.wall()
        waiting = await self.queue.due_ids(lease.key, TOLD, now)
        train = [carriage.entry for carriage in lane.train.carriages] if lane.train else []
        entries = await self.queue.entries(lease.key, [*train, *waiting])
        event = q.Unreachable(reason=why)
        await self.queue.decide(lease, event, lanes.decide(lane, event, {one.id: one for one in entries}), now)

    async def _step(self, lease: Lease, ahead: "_Ahead | None") -> "tuple[bool, _Ahead | None]":
        """One step, stored; whether there may be another, and the train that was composed ahead meanwhile."""
        lane = await self.queue.lane(lease.key)
        train = lane.train
        if (lane.state is q.LaneState.PAUSED and train is None) or (
            lane.due is not None and lane.due > self.clock.wall()
        ):
            return False, None
        remote = await self.remote(lease.key)
        used = ahead is not None and train is None and await self._fits(lease, lane, remote, ahead)
        if train is None and not used:
            thaw = timedelta(seconds=FROZEN_SECONDS if self.looks_again and lane.state is FROZEN else 0)
            entries = await self.queue.due_entries(lease.key, lane.window, self.clock.wall() + thaw)
            if not entries:
                return False, None
        else:
            ids = ahead.ids if ahead is not None and used else [one.entry for one in train.carriages] if train else []
            entries = await self.queue.entries(lease.key, ids)
        event: q.LaneEvent
        match train:
            case None if ahead is not None and used:
                step, event = "compose", ahead.composed
            case None:
                step, event = "compose", await self._compose(lease, lane, remote, entries)
            case q.Train(state=q.TrainState.COMPOSED):
                step = "check"
                event = await self._check(train, remote, entries)
                if event.outcome == "green":
                    event = await look(self.ci, self.clock.wall(), lane.key, train, event, entries)
                if event.outcome == "late":  # whoever waits behind this train hears of it too
                    behind = await self.queue.due_entries(lease.key, TOLD, self.clock.wall())
                    entries = [*entries, *behind]
            case q.Train(state=q.TrainState.CHECKED):
                step, event = "confirm", await self._ways.confirm(lane, train, remote, entries)
            case q.Train(way="merge_queue"):
                step, event = "queue", await self._ways.follow(lane, train, remote, entries)
            case q.Train():
                step = "land"
                composing = asyncio.ensure_future(self._compose_ahead(lease, lane, train, remote, ahead))
                try:
                    event = await self._ways.land(lane, train, remote, entries[-1].landing)
                finally:
                    await asyncio.wait({composing})
                ahead = composing.result()
        decision = lanes.decide(lane, event, {entry.id: entry for entry in entries})
        await self.queue.decide(lease, event, decision, self.clock.wall())
        if step == "compose":
            self.begun.get(lease.key, set()).difference_update(entry.id for entry in entries)
        log.info("lane.step", extra={"lane": lane.key, "step": step, "why": decision.why})
        if self.on_step:
            self.on_step(decision.lane, event)
        if isinstance(event, q.HeadRead) and not event.contains and decision.lane.train is not None:
            await self.clock.sleep(BACKOFF_SECONDS)
        return decision.lane.state is not FROZEN, ahead if step == "land" else None

    async def _compose_ahead(
        self, lease: Lease, lane: q.Lane, train: q.Train, remote: Remote, ahead: "_Ahead | None"
    ) -> "_Ahead | None":
        """The next train on the tip that is being pushed. It is forgotten unless that tip becomes the head.

        Series and rebases wait: where their branches stand is asked when it is their turn. So does what follows commits that
        GitHub made: they are not here yet.
        """
        entries = await self.queue.due_entries(lease.key, lane.window, self.clock.wall())
        if train.way != "push" or not entries or any(entry.change is None for entry in entries):
            return ahead
        ids = [entry.id for entry in entries]
        if ahead is not None and (ahead.ids, ahead.composed.base) == (ids, train.tip):
            return ahead
        await self._begin(lease, ids)
        start = Start(old=train.tip, base=train.tip, fork=lane.fork or entries[0].fork, branch_heads={})
        seen = self.landed.setdefault(lane.key, Landed())
        composed = await asyncio.to_thread(compose, remote.git_dir, start, entries, self.threads, seen, self.driver)
        return _Ahead(ids, composed)

    async def _begin(self, lease: Lease, ids: Sequence[str]) -> None:
        """Count these as begun, each once however often it is composed before it has an outcome: composing anew because
        GitHub was away, or for another head, is no crash."""
        begun = self.begun.setdefault(lease.key, set())
        await self.queue.begin(lease, [name for name in ids if name not in begun], self.clock.wall())
        begun.update(ids)

    async def _fits(self, lease: Lease, lane: q.Lane, remote: Remote, ahead: "_Ahead") -> bool:
        """Whether what was composed ahead stands on today's head, and nobody has come before it or left."""
        due = await self.queue.due_ids(lease.key, len(ahead.ids), self.clock.wall())
        return list(due) == ahead.ids and await remote.head(lane.ref) == ahead.composed.old

    async def _compose(self, lease: Lease, lane: q.Lane, remote: Remote, entries: Sequence[q.Entry]) -> q.Composed:
        old = await remote.head(lane.ref)
        ids = [entry.id for entry in entries]
        await self._begin(lease, ids)
        fork = lane.fork or next((e.fork for e in entries if e.fork), None)
        base = old or fork or next((e.change.base for e in entries if e.change is not None), None)
        if base is None:
            raise Transient(f"{lane.ref} does not exist on the remote")
        approved = {entry.id: entry.series for entry in entries if entry.series is not None}
        if approved and old is None:
            raise Rejected(f"the branch {lane.ref.removeprefix('refs/heads/')} does not exist any more")
        heads = {name: await remote.head(f"refs/heads/{series.branch}") for name, series in approved.items()}
        refused: dict[str, q.ComposeResult] = {}
        for name, series in approved.items():
            if heads[name] not in (None, series.tip) and (series.branch, heads[name]) not in lane.own_heads:
                evidence = Evidence(reason=f"the branch {series.branch} changed after the approval", other=heads[name])
                refused[name] = q.ComposeResult(entry=name, outcome=q.Outcome.POLICY, evidence=evidence)
        taken = [entry for entry in entries if entry.id not in refused]
        # A series knows itself where its own branch forked; the base lane's fork would only lengthen the walk.
        walk_to = next((series.fork for series in approved.values()), fork)
        start = Start(old=old, base=base, fork=walk_to, branch_heads=heads)
        seen = self.landed.setdefault(lane.key, Landed())
        self.faults.reach("land:compose:before")
        composed = await asyncio.to_thread(compose, remote.git_dir, start, taken, self.threads, seen, self.driver)
        self.faults.reach("land:compose:after")
        results = (*composed.results, *refused.values())
        return composed.model_copy(update={"results": results, "look_again": self.looks_again})

    async def _check(self, train: q.Train, remote: Remote, entries: Sequence[q.Entry]) -> q.Checked:
        """One run of the checks on the prefix that the lane asks about next."""
        probe = probes.due(train, entries)
        if probe is None:
            raise Stale("it is known already who made the train red")
        length = probe.length
        if not probe.checks:
            return q.Checked(outcome="green", length=length, verdict=probes.NO_CHECKS)
        tree = train.carriages[length - 1].tree if length else await asyncio.to_thread(_tree, remote, train.base)
        newest = entries[max(length - 1, 0)].environment  # the policy as the last of them knew it
        found = await self._verdict(remote, tree, probe, train.search, newest)
        verdict = found.summary or "checks passed" if found.outcome == "green" else ""
        return q.Checked(outcome=found.outcome, length=length, evidence=found.evidence, verdict=verdict)

    async def _verdict(
        self, remote: Remote, tree: Sha, probe: probes.Probe, search: q.Search, environment: Environment
    ) -> CheckVerdict:
        """Green is kept by tree and checks, whatever their order. Red is not: it is believed by the lane alone, and
        whoever asks for another try of the same tree (a change sent again, a head that was red) means another run."""
        asked = json.dumps(sorted((c.name, c.command, c.timeout_seconds) for c in probe.checks))
        if environment.setup:
            asked += environment.model_dump_json()
        digest = hashlib.sha256(asked.encode()).hexdigest()
        kept = await self.queue.verdict(tree, digest)
        if kept is not None and kept.outcome == "green":
            return kept
        self.faults.reach("land:check:before")
        searching = search.red is not None or search.suspects
        checker = self.prober if searching and self.prober else self.checker
        verdict = await checker.check(remote.git_dir, tree, probe.checks, environment)
        self.faults.reach("land:check:after")
        if verdict.outcome == "green":
            said = (verdict.summary or "checks passed") + probes.flaky(search, probe)
            verdict = verdict._replace(summary=said, evidence=None)
            await self.queue.keep_verdict(tree, digest, verdict, self.clock.wall())
        return verdict


@dataclass(frozen=True)
class _Ahead:
    """A train composed while another one was pushed: its entries, and what came of them."""

    ids: list[str]
    composed: q.Composed


def _tree(remote: Remote, commit: Sha) -> Sha:
    return Objects(remote.git_dir).tree_of(commit)
