"""The store under any order of calls and crashes: nothing is lost, nothing held twice, the chain is whole."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bot.errors import Stale
from bot.ports import Lease
from schemas.decision import EntryMove, LaneDecision
from schemas.events import EntryLanded, PullRequestOpened
from schemas.lane import Composed, EntryState
from tests.store.parts import (
    BRANCH,
    SHA,
    T0,
    ManualClock,
    agent,
    comment,
    decide,
    entry,
    label,
    opened,
    outbox_rows,
    post,
)

ISSUES = st.integers(1, 3)
ATTEMPTS = 3
KINDS = ("post_comment", "run_agent")


class StoreMachine(RuleBasedStateMachine):
    """What the callers of the store know is kept here beside it, and compared after every step."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.place = Path(tempfile.mkdtemp())
        self.stack = AsyncExitStack()
        self.count = 0
        self.put: dict[int, list[str]] = {}
        """By issue: the keys of its events, in the order in which they were put."""
        self.decided: dict[int, list[int]] = {}
        self.effects: dict[str, str] = {}
        """By key: waiting, done or gave up."""
        self.fences: dict[str, int] = {}
        self.held: dict[str, tuple[Lease, float]] = {}
        """By key: the newest lease, and when it expires."""
        self.lost: list[Lease] = []
        self.entries: dict[str, bool] = {}
        self.deliveries: dict[str, bool] = {}
        self.records = 0
        self.run(self.open())

    def run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    async def open(self) -> None:
        self.store = await self.stack.enter_async_context(opened(self.place, self.clock, attempts=ATTEMPTS))

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.loop.close()
        shutil.rmtree(self.place)

    def fresh(self) -> int:
        self.count += 1
        return self.count

    # --- intake ---------------------------------------------------------------------------------------------
    @rule()
    def deliver(self) -> None:
        guid = f"guid-{self.fresh()}"
        assert self.run(self.store.keep_delivery(guid, "issues", guid.encode(), T0))
        self.deliveries[guid] = False

    @precondition(lambda self: self.deliveries)
    @rule(data=st.data())
    def deliver_again(self, data: st.DataObject) -> None:
        guid = data.draw(st.sampled_from(sorted(self.deliveries)))
        assert not self.run(self.store.keep_delivery(guid, "issues", guid.encode(), T0))

    @rule(issue=ISSUES)
    def translate(self, issue: int) -> None:
        found = self.run(self.store.next_delivery(T0))
        assert (found is None) == all(self.deliveries.values())
        if found is not None:
            key = f"{issue}:{self.fresh()}"
            self.run(self.store.take_delivery(found.seq, [label(key, issue)], T0))
            self.deliveries[found.guid] = True
            self.put.setdefault(issue, []).append(key)

    @rule(issue=ISSUES)
    def comment(self, issue: int) -> None:
        key = f"{issue}:{self.fresh()}"
        assert self.run(self.store.put([comment(key, issue)], T0)) == 1
        if issue in self.put:
            self.put[issue].append(key)  # else it was for no ticket

    @precondition(lambda self: self.put)
    @rule(data=st.data())
    def put_again(self, data: st.DataObject) -> None:
        issue = data.draw(st.sampled_from(sorted(self.put)))
        key = data.draw(st.sampled_from([key for key in self.put[issue] if ":" in key]))
        assert self.run(self.store.put([comment(key, issue)], T0)) == 0

    # --- deciding -------------------------------------------------------------------------------------------
    @precondition(lambda self: self.put)
    @rule(data=st.data(), effects=st.integers(0, 3), agents=st.integers(0, 2), queued=st.booleans())
    def decide(self, data: st.DataObject, effects: int, agents: int, queued: bool) -> None:
        issue = data.draw(st.sampled_from(sorted(self.put)))
        name = f"octo/app#{issue}"
        if self.run(self.store.next_event(name)) is None:
            return
        new = [post(str(self.fresh()), name) for _ in range(effects)]
        new += [agent(str(self.fresh()), name) for _ in range(agents)]
        entries = [entry(f"c{self.fresh()}", ticket=name)] if queued else []
        seq = self.run(self.store.next_event(name)).seq
        self.run(decide(self.store, of=name, effects=tuple(new), enqueue=tuple(entries)))
        self.decided.setdefault(issue, []).append(seq)
        self.effects.update(dict.fromkeys((effect.key for effect in new), "waiting"))
        self.entries.update(dict.fromkeys((item.id for item in entries), False))
        self.records += 1

    # --- performing -----------------------------------------------------------------------------------------
    @rule(seconds=st.sampled_from([10.0, 60.0]))
    def lease(self, seconds: float) -> None:
        leased = self.run(self.store.lease(KINDS, "worker", seconds, self.clock.wall()))
        if leased is None:
            return
        lease, effect = leased
        old = self.held.pop(lease.key, None)
        if old is not None:
            assert old[1] <= self.clock.boot(), "held by two at once"
            self.lost.append(old[0])
        assert self.effects[lease.key] == "waiting"
        assert lease.fence > self.fences.get(lease.key, 0), "fences grow"
        assert lease.attempts <= ATTEMPTS
        if effect.kind == "post_comment":
            older = [key for key in self.waiting(effect.ticket) if key < self.order(lease.key)]
            assert not older, "an older effect of this ticket waits"
        self.fences[lease.key] = lease.fence
        self.held[lease.key] = (lease, self.clock.boot() + seconds)

    @staticmethod
    def order(key: str) -> int:
        return int(key.rsplit(":", 1)[1])

    def waiting(self, ticket: str) -> list[int]:
        """The numbers of a ticket's comments that were neither posted nor given up, as the store has it."""
        rows = self.run(outbox_rows(self.store, ticket))
        return [
            self.order(row.key) for row in rows if row.kind == "post_comment" and row.state in ("pending", "leased")
        ]

    @precondition(lambda self: self.held)
    @rule(data=st.data(), outcome=st.booleans(), shown=st.sampled_from(["", "prompt"]))
    def settle(self, data: st.DataObject, outcome: bool, shown: str) -> None:
        key = data.draw(st.sampled_from(sorted(self.held)))
        lease, _ = self.held.pop(key)
        event = PullRequestOpened(number=1, head=SHA) if outcome else None
        self.run(self.store.settle(lease, event, T0, shown=shown))
        self.effects[key] = "done"
        self.lost.append(lease)
        self.records += bool(shown)
        if outcome:
            self.put[int(key.split("#")[1].split(":")[0])].append("outcome")

    @precondition(lambda self: self.held)
    @rule(data=st.data(), counts=st.booleans())
    def nack(self, data: st.DataObject, counts: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.held)))
        lease, _ = self.held.pop(key)
        self.run(self.store.nack(lease, "502", 5.0, self.clock.wall(), counts=counts))
        self.lost.append(lease)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def extend(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.held)))
        lease, _ = self.held[key]
        self.run(self.store.extend(lease, 60.0))
        self.held[key] = (lease, self.clock.boot() + 60.0)

    @precondition(lambda self: self.lost)
    @rule(data=st.data())
    def act_on_a_lost_lease(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(self.lost))
        with pytest.raises(Stale):
            self.run(self.store.settle(lease, PullRequestOpened(number=9, head=SHA), T0))

    # --- landing --------------------------------------------------------------------------------------------
    @rule()
    def land(self) -> None:
        due = self.run(self.store.due_entries(BRANCH, 2, self.clock.wall()))
        assert [item.id for item in due] == [name for name, landed in self.entries.items() if not landed][:2]
        if not due:
            return
        lease = self.run(self.store.lease_lane(BRANCH, "lander", 10.0))
        if lease is None:
            return
        assert lease.fence > self.fences.get(BRANCH, 0), "fences grow"
        self.fences[BRANCH] = lease.fence
        lane = self.run(self.store.lane(BRANCH))
        decision = LaneDecision(
            lane=lane.model_copy(update={"version": lane.version + 1}),
            moves=tuple(EntryMove(entry=item.id, to=EntryState.LANDED, commit=SHA) for item in due),
            emits=tuple(
                EntryLanded(ticket=item.ticket, entry=item.id, entry_kind="change", commit=SHA, tree=SHA)
                for item in due
            ),
            why="settled",
        )
        self.run(self.store.decide(lease, Composed(base=SHA, old=None, results=()), decision, T0))
        self.records += 1
        for item in due:
            self.entries[item.id] = True
            self.put[int(item.ticket.split("#")[1])].append("landed")

    # --- time and death -------------------------------------------------------------------------------------
    @rule(seconds=st.sampled_from([1.0, 15.0, 120.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.move(seconds)

    @rule(reboot=st.booleans())
    def crash(self, reboot: bool) -> None:
        """Go on with a copy of the files as they are now: what a process leaves that dies without a word."""
        copy = Path(tempfile.mkdtemp())
        for suffix in ("", "-wal"):
            shutil.copyfile(self.place / f"interlock.db{suffix}", copy / f"interlock.db{suffix}")
        self.run(self.stack.aclose())
        shutil.rmtree(self.place)
        self.place, self.stack = copy, AsyncExitStack()
        if reboot:
            self.clock.boot_name, self.clock.seconds = f"boot-{self.fresh()}", 1.0
        self.run(self.open())
        self.lost += [lease for lease, _ in self.held.values()]
        self.held.clear()

    # --- what always holds ----------------------------------------------------------------------------------
    @invariant()
    def nothing_is_lost(self) -> None:
        given_up = 0
        rows = self.run(self.store.database.rows("SELECT key, ticket, state FROM outbox"))
        assert {row["key"] for row in rows} == set(self.effects)
        for row in rows:
            if row["state"] == "gave_up":
                self.effects[row["key"]] = "gave up"
                given_up += 1
                if row["key"] in self.held:  # it expired once too often
                    self.lost.append(self.held.pop(row["key"])[0])
            else:
                assert (row["state"] == "done") == (self.effects[row["key"]] == "done"), row["key"]
        told = self.run(self.store.database.rows("SELECT COUNT(*) FROM events WHERE kind = 'effect_gave_up'"))
        assert told[0][0] == given_up
        kept = self.run(self.store.database.rows("SELECT COUNT(*) FROM events WHERE ticket <> ''"))
        assert kept[0][0] == sum(len(keys) for keys in self.put.values()) + given_up
        landed = {item.id: item.state is EntryState.LANDED for item in self.run(self.store.report(BRANCH))}
        assert landed == self.entries

    @invariant()
    def events_are_decided_in_order(self) -> None:
        for issue, seqs in self.decided.items():
            assert seqs == sorted(set(seqs))
            pending = self.run(
                self.store.database.rows(
                    "SELECT seq FROM events WHERE ticket = ? AND state = 'pending' ORDER BY seq", f"octo/app#{issue}"
                )
            )
            assert all(row["seq"] > seqs[-1] for row in pending)

    @invariant()
    def the_chain_is_whole(self) -> None:
        verified = self.run(self.store.verify())
        assert not verified.faults and verified.records == self.records


StoreMachine.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TestStore = StoreMachine.TestCase
