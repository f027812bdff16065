"""The loops: translate deliveries, decide events (serially for each ticket), perform effects, drive lanes, keep time.

Everything is read from the store and woken by it; there is no state here that a restart would miss. The loop knows
the world only through ports.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from bot.errors import InterlockError, Rejected, Stale, Transient
from bot.pipeline import stages
from bot.ports import Clock, Due, People, Performer, Queue, Store
from schemas.decision import Decision
from schemas.effects import Effect
from schemas.events import Addressed, IssueLabelled
from schemas.lease import Lease

log = logging.getLogger("interlock.loop")
T = TypeVar("T")

LEASE_SECONDS = 60.0
IDLE_SECONDS = 30.0
POSTPONED_SECONDS = 5.0
FIRST_RETRY = 1.0
LAST_RETRY = 300.0


class Lander(Protocol):
    """Drives one lane until there is nothing to do (`bot.merge.lander`)."""

    async def drive(self, lane: str) -> None: ...


Translate = Callable[[str, dict[str, Any]], Sequence[Addressed]]
"""A delivery's event name and payload to events (`handlers.translate`, bound to the App)."""


class Bell:
    """Rung when the store has new work; a loop that missed the ring sees it on its next wait."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wake whoever waits."""
        self._event.set()

    async def wait(self, seconds: float) -> None:
        """Until rung, or for some seconds at most."""
        # Not asyncio.wait_for, which in Python 3.11 may swallow a cancellation that comes together with the ring.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0.0)):
                await self._event.wait()
        self._event.clear()


def retry_in(attempts: int) -> float:
    """Seconds until the next try: doubling from one second to five minutes."""
    return min(FIRST_RETRY * float(2 ** min(attempts, 16)), LAST_RETRY)


class Loop:
    """All loops of one process. `run` returns only by cancellation or by a defect."""

    def __init__(
        self,
        *,
        store: Store,
        queue: Queue,
        people: People,
        translate: Translate,
        performers: Sequence[Performer],
        lander: Lander,
        clock: Clock,
        owner: str,
        slots: int = 4,
        on_decision: Callable[[str, str, Decision], None] | None = None,
    ) -> None:
        self._store, self._queue, self._people, self._translate = store, queue, people, translate
        self._performers, self._lander, self._clock, self._owner = performers, lander, clock, owner
        self._slots = slots
        self._on_decision = on_decision
        self.deliveries, self.events, self.effects, self.lanes = Bell(), Bell(), Bell(), Bell()

    def ring(self) -> None:
        """Something may have changed anywhere."""
        for bell in (self.deliveries, self.events, self.effects, self.lanes):
            bell.ring()

    async def run(self) -> None:
        """Run all loops until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._translate_deliveries())
            group.create_task(self._decide_events())
            group.create_task(self._drive_lanes())
            for performer in self._performers:
                for _ in range(self._slots):
                    group.create_task(self._perform(performer))

    # --- deliveries -> events ----------------------------------------------------------------------------------------
    async def _translate_deliveries(self) -> None:
        while True:
            delivery = await self._store.next_delivery(self._clock.wall())
            if delivery is None:
                await self.deliveries.wait(POSTPONED_SECONDS)
                continue
            try:
                payload = json.loads(delivery.body)
                events = [await self._stamp(item) for item in self._translate(delivery.event, payload)]
            except Transient as error:
                until = self._clock.wall() + timedelta(seconds=error.retry_after or POSTPONED_SECONDS)
                await self._store.postpone_delivery(delivery.seq, str(error), until)
                log.warning("delivery.postponed", extra={"delivery": delivery.guid, "error": str(error)})
                continue
            except (ValueError, KeyError, TypeError, Rejected) as error:
                log.warning("delivery.unreadable", extra={"delivery": delivery.guid, "error": str(error)})
                events = []
            await self._store.take_delivery(delivery.seq, events, self._clock.wall())
            if events:
                self.events.ring()

    async def _stamp(self, item: Addressed) -> Addressed:
        """Ask GitHub what the person behind an event may do, now."""
        by = getattr(item.event, "by", None)
        if by is None or isinstance(by, str) or by.permission is not None:
            return item
        repo = getattr(item.event, "repo", None)
        installation = getattr(item.event, "installation", 0)
        if repo is None and item.to is not None:
            ticket = next(
                (
                    t
                    for t in await self._store.open_tickets(item.to.repo_id)
                    if t.issue == item.to.issue and item.to.generation in (None, t.generation)
                ),
                None,
            )
            if ticket is None:
                return item
            repo, installation = ticket.repo, ticket.installation
        if repo is None:
            return item
        permission = await self._people.permission(repo, installation, by)
        stamped = by.model_copy(update={"permission": permission})
        return item.model_copy(update={"event": item.event.model_copy(update={"by": stamped})})

    # --- events -> decisions -----------------------------------------------------------------------------------------
    async def _decide_events(self) -> None:
        while True:
            tickets = await self._store.due_tickets()
            for ticket in tickets:
                await self._decide_ticket(ticket)
            if tickets:
                continue
            now = self._clock.wall()
            wake = await self._store.wake(now)
            if wake is not None and wake <= now:
                continue
            pause = (wake - now).total_seconds() if wake else IDLE_SECONDS
            await self.events.wait(min(pause, IDLE_SECONDS))

    async def _decide_ticket(self, ticket: str) -> None:
        while (due := await self._store.next_event(ticket)) is not None:
            now = self._clock.wall()
            try:
                decision = self._decision(due, now)
                if isinstance(decision, str):
                    await self._store.discard(due.seq, decision, now)
                    continue
                await self._store.commit(due.seq, decision, now)
            except Stale:
                continue
            log.info("ticket.decided", extra={"ticket": ticket, "kind": due.event.kind, "why": decision.why})
            if self._on_decision:
                self._on_decision(ticket, due.event.kind, decision)
            self.effects.ring()
            self.lanes.ring()

    @staticmethod
    def _decision(due: Due, now: datetime) -> Decision | str:
        generation = 1
        if due.ticket is None and isinstance(due.event, IssueLabelled) and "~" in due.event.ticket:
            generation = int(due.event.ticket.rsplit("~", 1)[1])
        return stages.decide(due.ticket, due.event, now, generation)

    # --- effects -----------------------------------------------------------------------------------------------------
    async def _perform(self, performer: Performer) -> None:
        while True:
            now = self._clock.wall()
            leased = await self._store.lease(performer.kinds, self._owner, LEASE_SECONDS, now)
            if leased is None:
                await self._wait_for_effects()
                continue
            lease, effect = leased
            await self._perform_one(performer, lease, effect)
            self.events.ring()
            self.effects.ring()

    async def _wait_for_effects(self) -> None:
        """All performers share one bell: each waits on its own turn of it, and looks again after a second."""
        await self.effects.wait(1.0)

    async def _perform_one(self, performer: Performer, lease: Lease, effect: Effect) -> None:
        try:
            performed = await self._with_heartbeat(lease, performer.perform(effect, lease))
            await self._store.settle(lease, performed.outcome, self._clock.wall(), shown=performed.shown)
        except Stale:
            log.warning("effect.stale", extra={"effect": lease.key, "fence": lease.fence})
        except Rejected as error:
            log.warning("effect.refused", extra={"effect": lease.key, "error": str(error)})
            await self._store.refuse(lease, str(error), self._clock.wall())
        except (InterlockError, OSError) as error:
            delay = getattr(error, "retry_after", None) or retry_in(lease.attempts)
            log.warning("effect.postponed", extra={"effect": lease.key, "error": str(error), "seconds": delay})
            await self._store.nack(lease, str(error), delay, self._clock.wall())
        except Exception as error:  # a defect of ours must not take the other tickets down with it
            log.exception("effect.failed", extra={"effect": lease.key})
            await self._store.nack(
                lease, f"{type(error).__name__}: {error}", retry_in(lease.attempts), self._clock.wall()
            )

    async def _with_heartbeat(self, lease: Lease, work: Awaitable[T]) -> T:
        """Keep the lease alive while the work runs; if it is lost, stop the work."""
        task = asyncio.ensure_future(work)
        beat = asyncio.ensure_future(self._beat(lease))
        try:
            await asyncio.wait({task, beat}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
                await beat
            return await task
        finally:
            for each in (task, beat):
                each.cancel()
            await asyncio.gather(task, beat, return_exceptions=True)

    async def _beat(self, lease: Lease) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            await self._store.extend(lease, LEASE_SECONDS)

    # --- lanes -------------------------------------------------------------------------------------------------------
    async def _drive_lanes(self) -> None:
        driving: dict[str, asyncio.Task[None]] = {}
        while True:
            for lane in await self._queue.busy_lanes(self._clock.wall()):
                if lane not in driving or driving[lane].done():
                    driving[lane] = asyncio.create_task(self._drive(lane))
            driving = {lane: task for lane, task in driving.items() if not task.done()}
            due = await self._queue.next_due()
            pause = (due - self._clock.wall()).total_seconds() if due else IDLE_SECONDS
            await self.lanes.wait(min(max(pause, 0.2), IDLE_SECONDS))

    async def _drive(self, lane: str) -> None:
        try:
            await self._lander.drive(lane)
        except Exception:  # the lane stays as it is stored, and is driven again
            log.exception("lane.failed", extra={"lane": lane})
            await asyncio.sleep(FIRST_RETRY)
        self.events.ring()
        self.lanes.ring()
