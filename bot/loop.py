"""The loops: translate deliveries, decide events (serially for each ticket), perform effects, drive lanes, keep time.

Everything is read from the store and woken by it; there is no state here that a restart would miss. The loop knows
the world only through ports.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NoReturn

from bot.errors import Away, InterlockError, Rejected, Stale, Transient
from bot.metrics import Metrics
from bot.pipeline import stages
from bot.ports import Clock, Due, Lease, People, Performed, Performer, Queue, Store
from schemas.decision import Decision
from schemas.effects import Effect
from schemas.events import Act, Addressed, IssueLabelled

log = logging.getLogger("interlock.loop")

LEASE_SECONDS = 60.0
IDLE_SECONDS = 30.0
POSTPONED_SECONDS = 5.0
FIRST_RETRY = 1.0
LAST_RETRY = 300.0
LANE_RETRY = 60.0


class Bell(asyncio.Event):
    """Set when the store has new work; a loop that missed it sees the work on its next look."""

    async def heard(self, seconds: float) -> None:
        """Wait until it is set, or for some seconds at most."""
        # Not asyncio.wait_for, which in Python 3.11 may swallow a cancellation that comes together with the ring.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0.0)):
                await self.wait()
        self.clear()


def retry_in(attempts: int) -> float:
    """Seconds until the next try: doubling from one second to five minutes."""
    return min(FIRST_RETRY * float(2 ** min(attempts, 16)), LAST_RETRY)


@dataclass(kw_only=True)
class Loop:
    """All loops of one process. `run` returns only by cancellation or by a defect."""

    store: Store
    queue: Queue
    people: People
    translate: Callable[[str, dict[str, Any]], Sequence[Addressed]]
    """A delivery's event name and payload to events (`handlers.translate`, bound to the App)."""
    performers: Sequence[Performer]
    drive: Callable[[str], Awaitable[None]]
    """Takes one lane forward until there is nothing to do (`bot.merge.lander`)."""
    clock: Clock
    metrics: Metrics
    owner: str
    slots: int
    deliveries: Bell = field(default_factory=Bell)
    events: Bell = field(default_factory=Bell)
    effects: Bell = field(default_factory=Bell)
    lanes: Bell = field(default_factory=Bell)
    failures: dict[str, int] = field(default_factory=dict)
    """For each lane that could not be driven: how often in a row."""

    async def run(self) -> None:
        """Run all loops until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._translate_deliveries())
            group.create_task(self._decide_events())
            group.create_task(self._drive_lanes())
            for performer in self.performers:
                for _ in range(self.slots):
                    group.create_task(self._perform(performer))

    async def _translate_deliveries(self) -> None:
        """Deliveries to events. One that GitHub cannot be asked about is postponed, one that cannot be read is none."""
        while True:
            delivery = await self.store.next_delivery(self.clock.wall())
            if delivery is None:
                await self.deliveries.heard(POSTPONED_SECONDS)
                continue
            try:
                payload = _readable(delivery.body)
                found = self.translate(delivery.event, payload)
                events = [await self._stamp(item, f"{delivery.guid}:{at}") for at, item in enumerate(found)]
            except Transient as error:
                until = self.clock.wall() + timedelta(seconds=error.retry_after or POSTPONED_SECONDS)
                await self.store.postpone_delivery(delivery.seq, str(error), until)
                log.warning("delivery.postponed", extra={"delivery": delivery.guid, "error": str(error)})
                continue
            except (ValueError, KeyError, TypeError, Rejected) as error:
                log.warning("delivery.unreadable", extra={"delivery": delivery.guid, "error": str(error)})
                events = []
            await self.store.take_delivery(delivery.seq, events, self.clock.wall())
            if events:
                self.events.set()

    async def _stamp(self, item: Addressed, key: str) -> Addressed:
        """Ask GitHub what the person behind an event may do, now. Not asked where there is no ticket to decide on.
        `key` is for an event that has none of its own."""
        item = item if item.key else item.model_copy(update={"key": key})
        event, to = item.event, item.to
        if to is None or item.repo is None or not isinstance(event, Act):
            return item
        if not isinstance(event, IssueLabelled) and not await self.store.awaited(to, late=event.late):
            return item
        permission = await self.people.permission(item.repo, item.installation, event.by)
        by = event.by.model_copy(update={"permission": permission})
        return item.model_copy(update={"event": event.model_copy(update={"by": by})})

    async def _decide_events(self) -> None:
        """Events to decisions, and the tickets' own time."""
        while True:
            tickets = await self.store.due_tickets()
            for ticket in tickets:
                await self._decide_ticket(ticket)
            if tickets:
                continue
            now = self.clock.wall()
            wake = await self.store.wake(now)
            pause = (wake - now).total_seconds() if wake else IDLE_SECONDS
            await self.events.heard(min(pause, IDLE_SECONDS))

    async def _decide_ticket(self, ticket: str) -> None:
        while (due := await self.store.next_event(ticket)) is not None:
            now = self.clock.wall()
            try:
                decision = _decided(due, now)
                if isinstance(decision, str):
                    await self.store.discard(due.seq, decision, now)
                    continue
                await self.store.commit(due.seq, decision, now)
            except Stale:
                continue
            log.info("ticket.decided", extra={"ticket": ticket, "kind": due.event.kind, "why": decision.why})
            self.metrics.decided(due.event)
            self.effects.set()
            self.lanes.set()

    async def _perform(self, performer: Performer) -> None:
        """Effects of a performer's kinds to what it makes of them, one at a time."""
        while True:
            now = self.clock.wall()
            leased = await self.store.lease(performer.kinds, self.owner, LEASE_SECONDS, now)
            if leased is None:
                await self.effects.heard(1.0)
                continue
            lease, effect = leased
            try:
                await self._settled(performer, lease, effect)
            # Not ours any more, or not written: it is leased again when its time is up.
            except (Stale, Transient) as error:
                log.warning("effect.stale", extra={"effect": lease.key, "fence": lease.fence, "error": str(error)})
            self.events.set()
            self.effects.set()

    async def _settled(self, performer: Performer, lease: Lease, effect: Effect) -> None:
        delay = retry_in(lease.attempts)
        try:
            performed = await self._with_heartbeat(lease, performer.perform(effect, lease))
            await self.store.settle(lease, performed.outcome, self.clock.wall(), shown=performed.shown)
        except Stale:
            raise
        except Rejected as error:
            log.warning("effect.refused", extra={"effect": lease.key, "error": str(error)})
            await self.store.refuse(lease, str(error), self.clock.wall())
        except Away as error:  # its own number of grants makes the delay grow: none of them counts as an attempt
            delay = error.retry_after or retry_in(lease.fence)
            log.warning("effect.postponed", extra={"effect": lease.key, "error": str(error), "seconds": delay})
            await self.store.nack(lease, str(error), delay, self.clock.wall(), counts=False)
        except (InterlockError, OSError) as error:
            delay = getattr(error, "retry_after", None) or delay
            log.warning("effect.postponed", extra={"effect": lease.key, "error": str(error), "seconds": delay})
            await self.store.nack(lease, str(error), delay, self.clock.wall())
        except Exception as error:  # a defect of ours must not take the other tickets down with it
            log.exception("effect.failed", extra={"effect": lease.key})
            await self.store.nack(lease, f"{type(error).__name__}: {error}", delay, self.clock.wall())

    async def _with_heartbeat(self, lease: Lease, work: Awaitable[Performed]) -> Performed:
        """Keep the lease alive while the work runs; if it is lost, stop the work. Raises Stale."""
        task, beat = asyncio.ensure_future(work), asyncio.ensure_future(self._beat(lease))
        try:
            await asyncio.wait({task, beat}, return_when=asyncio.FIRST_COMPLETED)
            return await (task if task.done() else beat)
        finally:
            task.cancel()
            beat.cancel()
            await asyncio.gather(task, beat, return_exceptions=True)

    async def _beat(self, lease: Lease) -> NoReturn:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            await self.store.extend(lease, LEASE_SECONDS)

    async def _drive_lanes(self) -> None:
        """Every lane that has something to do, each in a task of its own."""
        driving: dict[str, asyncio.Task[None]] = {}
        while True:
            for lane in await self.queue.busy_lanes(self.clock.wall()):
                if lane not in driving or driving[lane].done():
                    driving[lane] = asyncio.create_task(self._drive(lane))
            driving = {lane: task for lane, task in driving.items() if not task.done()}
            due = await self.queue.next_due()
            pause = (due - self.clock.wall()).total_seconds() if due else IDLE_SECONDS
            await self.lanes.heard(min(max(pause, 0.2), IDLE_SECONDS))

    async def _drive(self, lane: str) -> None:
        """One drive. After a failure the lane stays as it is stored, and is driven again, ever later while it fails."""
        try:
            await self.drive(lane)
            self.failures.pop(lane, None)
        except Exception as error:
            self.failures[lane] = tries = self.failures.get(lane, 0) + 1
            delay = getattr(error, "retry_after", None) or min(retry_in(tries - 1), LANE_RETRY)
            defect = None if isinstance(error, Transient) else error
            log.warning("lane.failed", extra={"lane": lane, "error": str(error), "seconds": delay}, exc_info=defect)
            await self.clock.sleep(delay)
        self.events.set()
        self.lanes.set()


def _readable(body: bytes) -> dict[str, Any]:
    """A delivery's JSON, with a question mark for each lone surrogate: JSON can carry them, UTF-8 and SQLite cannot."""
    found: dict[str, Any] = json.loads(json.dumps(json.loads(body), ensure_ascii=False).encode("utf-8", "replace"))
    return found


def _decided(due: Due, now: datetime) -> Decision | str:
    """The decision, or why there is none. An event that our own code fails on is recorded so, and left behind:
    deciding it again after a restart would only fail again, and nothing else would ever be decided."""
    try:
        return stages.decide(due.ticket, due.event, now, int(due.event.ticket.partition("~")[2] or 1))
    except Exception as error:
        log.exception("event.failed", extra={"ticket": due.event.ticket, "kind": due.event.kind})
        return f"not decided, a defect of Interlock: {type(error).__name__}: {error}"
