"""The merge queue's tables: what is put in is kept in order, and moved only under the lane's lease."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bot.errors import Rejected, Stale
from bot.ports import CheckVerdict, Lease
from bot.store import entries
from bot.store.store import SqliteStore
from schemas.base import Evidence
from schemas.decision import EntryMove, LaneDecision
from schemas.events import EntryLanded, Ticked
from schemas.lane import Carriage, Composed, EntryState, ErrorClass, LaneState, Rebase, Series, Train
from tests.store.parts import (
    BASE,
    BRANCH,
    SHA,
    T0,
    TICKET,
    ManualClock,
    comment,
    decide,
    entry,
    history,
    open_ticket,
    opened,
)

E = EntryState
EVENT = Composed(base=SHA, old=None, results=())


async def lane_lease(store: SqliteStore, lane: str = BRANCH) -> Lease:
    lease = await store.lease_lane(lane, "lander", 60)
    assert lease is not None
    return lease


async def move(store: SqliteStore, lease: Lease, *moves: EntryMove, now: Any = T0, **changes: Any) -> None:
    """A lane decision of these moves."""
    lane = await store.lane(lease.key)
    new = lane.model_copy(update={"version": lane.version + 1, **changes})
    await store.decide(lease, EVENT, LaneDecision(lane=new, moves=moves, why="step"), now)


def train(*ids: str) -> Train:
    carriages = tuple(Carriage(entry=name, commit=SHA, tree=SHA) for name in ids)
    return Train(base=SHA, old=None, tip=SHA, tree=SHA, carriages=carriages)


async def state(store: SqliteStore, name: str, lane: str = BRANCH) -> Any:
    return (await store.entries(lane, [name], whole=True))[0]


# --- putting in ---------------------------------------------------------------------------------------------
async def test_entries_come_back_whole_and_in_order(tmp_path: Path) -> None:
    new = [
        entry("c1", owns=("src/**",), author="dev", fork=SHA),
        entry("b0", content="\ud7ff naïve \u2028\n"),
        entry("a2", task="t", ticket=TICKET, priority=0),
    ]
    async with opened(tmp_path) as store:
        assert await store.enqueue(new, T0) == [("c1", True), ("b0", True), ("a2", True)]
    async with opened(tmp_path) as store:
        found = await store.due_entries(BRANCH, 10, T0)
        assert [e.id for e in found] == ["c1", "b0", "a2"]
        assert [e.seq for e in found] == [1, 2, 3]
        assert [e.change for e in found] == [e.change for e in new]
        assert found[0].owns == ("src/**",) and found[0].author == "dev"
        assert {e.accepted for e in found} == {T0.replace(microsecond=0)}
        lane = await store.lane(BRANCH)
        assert (lane.ref, lane.fork, lane.version, lane.state) == ("refs/heads/interlock/12", SHA, 0, LaneState.OPEN)


async def test_all_kinds_of_entry_are_kept(tmp_path: Path) -> None:
    series = Series(fork=SHA, tip=SHA, digest="d", branch="interlock/12")
    rebase = Rebase(fork=SHA, tip=SHA, onto=SHA)
    async with opened(tmp_path) as store:
        await store.enqueue(
            [
                entry("s", BASE).model_copy(update={"change": None, "series": series}),
                entry("r", BASE).model_copy(update={"change": None, "rebase": rebase}),
            ],
            T0,
        )
        first, second = await store.entries(BASE, ["s", "r"])
        assert (first.series, second.rebase, first.change) == (series, rebase, None)


async def test_the_same_id_is_known_with_the_same_body_and_refused_with_another(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.enqueue([entry("a")], T0)
        later = T0 + timedelta(days=1)
        answers = await store.enqueue([entry("a"), entry("a", content="x"), entry("a", BASE, content="x")], later)
        assert answers == [("a", True), ("a", False), ("a", True)]
        found = await store.report(BRANCH)
        assert len(found) == 1 and found[0].accepted < later


async def test_order_is_priority_then_acceptance_and_nothing_starves(tmp_path: Path) -> None:
    hour = timedelta(hours=1)
    async with opened(tmp_path) as store:
        await store.enqueue([entry("old"), entry("old-2")], T0)
        await store.enqueue([entry("new")], T0 + 0.5 * hour)
        await store.enqueue([entry("urgent", priority=1)], T0 + 0.9 * hour)
        await store.enqueue([entry("late", priority=1)], T0 + 2 * hour)
        found = await store.due_entries(BRANCH, 10, T0 + 9 * hour)
        assert [e.id for e in found] == ["urgent", "old", "old-2", "new", "late"]
        assert [e.id for e in await store.due_entries(BRANCH, 2, T0 + 9 * hour)] == ["urgent", "old"]


async def test_due_entries_are_found_by_an_index(tmp_path: Path) -> None:
    where = "WHERE lane = ? AND state = 'queued' AND due_at <= ?"
    sql = f"EXPLAIN QUERY PLAN {entries.SELECT} {where} ORDER BY {entries.ORDER} LIMIT 3"
    async with opened(tmp_path) as store:
        plan = await store.database.rows(sql, BRANCH, 0)
    text = " ".join(row["detail"] for row in plan)
    assert "entries_due" in text and "TEMP B-TREE" not in text


async def test_a_new_attempt_supersedes_the_task_s_open_entries(tmp_path: Path) -> None:
    def attempt(n: int, task: str = "t1", **values: Any) -> Any:
        return entry(f"{task}.{n}", ticket=TICKET, task=task, **values)

    async with opened(tmp_path) as store:
        await store.enqueue([attempt(1), attempt(1, "t2"), attempt(1, "t3", held=("size",))], T0)
        lease = await lane_lease(store)
        await move(store, lease, EntryMove(entry="t2.1", to=E.COMPOSED), train=train("t2.1"))
        await store.enqueue([attempt(2), attempt(2, "t2"), attempt(2, "t3")], T0)
        states = {e.id: e.state for e in await store.report(BRANCH)}
        assert states == {
            "t1.1": E.SUPERSEDED, "t2.1": E.COMPOSED, "t3.1": E.SUPERSEDED,
            "t1.2": E.QUEUED, "t2.2": E.QUEUED, "t3.2": E.QUEUED,
        }  # fmt: skip


# --- held, released, withdrawn ------------------------------------------------------------------------------
async def test_a_held_entry_waits_for_its_release(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await open_ticket(store, enqueue=(entry("a", ticket=TICKET, task="t", held=("protected path",)),))
        assert await store.due_entries(BRANCH, 9, T0) == [] and await store.busy_lanes(T0) == []
        assert (await state(store, "a")).held == ("protected path",)
        await store.put([comment("c")], T0)
        await decide(store, release=(("a", "bob"),))
        found = await store.due_entries(BRANCH, 9, T0)
        assert [(e.id, e.released_by) for e in found] == [("a", "bob")]


async def test_a_quarantined_entry_is_released_with_its_counters_anew_unless_its_task_has_a_newer_one(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as store:
        await open_ticket(store, enqueue=tuple(entry(f"{t}.1", ticket=TICKET, task=t) for t in ("t1", "t2")))
        lease = await lane_lease(store)
        for _ in range(3):
            await store.begin(lease, ["t1.1", "t2.1"], T0)
        aside = [
            EntryMove(entry=n, to=E.QUARANTINED, error_class=ErrorClass.INFRA, counts=True) for n in ("t1.1", "t2.1")
        ]
        await move(store, lease, *aside)
        await store.enqueue([entry("t2.2", ticket=TICKET, task="t2")], T0)
        await store.put([comment("c")], T0)
        await decide(store, release=(("t1.1", "bob"), ("t2.1", "bob")))
        first = await state(store, "t1.1")
        assert (first.state, first.attempts, first.deliveries - first.outcomes) == (E.QUEUED, 0, 0)
        assert (await state(store, "t2.1")).state is E.QUARANTINED


async def test_a_withdrawn_entry_stays_withdrawn_unless_it_has_landed(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await open_ticket(store, enqueue=tuple(entry(n, ticket=TICKET, task=n) for n in ("a", "b", "c", "d")))
        lease = await lane_lease(store)
        await move(store, lease, *(EntryMove(entry=n, to=E.COMPOSED) for n in "abcd"), train=train(*"abcd"))
        await move(store, lease, EntryMove(entry="d", to=E.LANDING))
        await store.put([comment("c")], T0)
        await decide(store, withdraw=("*",))
        assert {e.id: e.state for e in await store.report(BRANCH)} == {
            "a": E.CANCELLED, "b": E.CANCELLED, "c": E.CANCELLED, "d": E.LANDING,
        }  # fmt: skip
        with pytest.raises(Stale, match="withdrawn meanwhile"):
            await move(store, lease, EntryMove(entry="d", to=E.LANDED), EntryMove(entry="a", to=E.LANDING))
        assert (await state(store, "d")).state is E.LANDING  # nothing of a stale decision is stored
        await move(store, lease, EntryMove(entry="a", to=E.QUEUED), EntryMove(entry="b", to=E.LANDED, commit=SHA))
        assert (await state(store, "a")).state is E.CANCELLED
        assert (await state(store, "b")).commit == SHA


async def test_entries_that_came_back_can_be_tried_again_at_their_old_place(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.enqueue([entry(n) for n in ("a", "b", "c", "d")], T0)
        lease = await lane_lease(store)
        await move(store, lease, EntryMove(entry="c", to=E.LANDED), EntryMove(entry="a", to=E.REWORK),
                   EntryMove(entry="b", to=E.QUARANTINED))  # fmt: skip
        assert await store.retry(BRANCH, ["b", "a", "c", "x"], T0) == 2
        assert [e.id for e in await store.due_entries(BRANCH, 9, T0)] == ["a", "b", "d"]


# --- the lane's lease ---------------------------------------------------------------------------------------
async def test_one_lander_a_lane_and_the_fence_grows(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(tmp_path, clock) as store:
        await store.enqueue([entry("a")], T0)
        first = await store.lease_lane(BRANCH, "one", 60)
        for owner in ("one", "two"):
            assert await store.lease_lane(BRANCH, owner, 60) is None
        assert await store.lease_lane(BASE, "two", 60) is not None
        clock.move(61)
        second = await store.lease_lane(BRANCH, "one", 60)  # the fence tells them apart, not the owner
        assert second.fence == first.fence + 1
        for call in (store.begin(first, ["a"], T0), move(store, first, EntryMove(entry="a", to=E.LANDED))):
            with pytest.raises(Stale):
                await call
        await store.release_lane(first)  # no longer its to give back
        assert await store.lease_lane(BRANCH, "three", 60) is None
        await store.release_lane(second)
        with pytest.raises(Stale):
            await store.begin(second, ["a"], T0)
        third = await store.lease_lane(BRANCH, "three", 60)
        assert third.fence == second.fence + 1
        clock.boot_name, clock.seconds = "boot-2", 1.0
        assert (await store.lease_lane(BRANCH, "four", 60)).fence == third.fence + 1


async def test_a_restart_frees_every_lane(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(tmp_path, clock) as store:
        first = await lane_lease(store)
    async with opened(tmp_path, clock) as store:
        assert (await lane_lease(store)).fence == first.fence + 1


# --- deciding -----------------------------------------------------------------------------------------------
async def test_a_lane_s_decision_is_one_transaction(tmp_path: Path) -> None:
    evidence = Evidence(reason="the tests fail", log="E assert")
    async with opened(tmp_path) as store:
        await open_ticket(store)
        await store.enqueue([entry(n, ticket=TICKET, task=n) for n in ("a", "b")], T0)
        lease = await lane_lease(store)
        await store.begin(lease, ["a", "b"], T0)
        lane = await store.lane(BRANCH)
        landed = EntryLanded(ticket=TICKET, entry="a", entry_kind="change", task="a", commit=SHA, tree=SHA)
        decision = LaneDecision(
            lane=lane.model_copy(update={"version": 1, "head": SHA}),
            moves=(
                EntryMove(entry="a", to=E.LANDED, commit=SHA),
                EntryMove(entry="b", to=E.REWORK, error_class=ErrorClass.CHECK, error="the tests fail",
                          evidence=evidence, counts=True),
            ),
            emits=(landed,),
            why="settled",
        )  # fmt: skip
        broken = decision.model_copy(update={"moves": (*decision.moves, EntryMove(entry="none", to=E.LANDED))})
        with pytest.raises(Rejected, match="no entry none"):
            await store.decide(lease, EVENT, broken, T0)
        assert await store.lane(BRANCH) == lane and await store.next_event(TICKET) is None
        await store.decide(lease, EVENT, decision, T0)
    async with opened(tmp_path) as store:
        assert await store.lane(BRANCH) == decision.lane
        a, b = await store.entries(BRANCH, ["a", "b"])
        assert (a.state, a.commit, a.deliveries, a.outcomes, a.attempts) == (E.LANDED, SHA, 1, 1, 0)
        assert (b.state, b.error_class, b.evidence, b.attempts) == (E.REWORK, ErrorClass.CHECK, evidence, 1)
        assert (await store.next_event(TICKET)).event == landed
        rows = [row for row, _, _ in await history(store, BRANCH)]
        assert [(r.kind, r.before, r.after, r.why) for r in rows] == [("composed", "open", "open", "settled")]


async def test_a_decision_on_an_older_lane_is_stale(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        lease = await lane_lease(store)
        lane = await store.lane(BRANCH)
        late = LaneDecision(lane=lane.model_copy(update={"version": 1, "why": "late"}), why="late")
        await move(store, lease)
        with pytest.raises(Stale, match="decided on meanwhile"):
            await store.decide(lease, EVENT, late, T0)
        assert (await store.lane(BRANCH)).why == ""


async def test_crashes_are_the_difference_of_deliveries_and_outcomes(tmp_path: Path) -> None:
    for n in range(3):
        async with opened(tmp_path) as store:
            await store.enqueue([entry("a")], T0)
            lease = await lane_lease(store)
            await store.begin(lease, ["a"], T0)  # and the process dies
            found = await state(store, "a")
            assert found.deliveries - found.outcomes == n + 1
    async with opened(tmp_path) as store:
        lease = await lane_lease(store)
        await move(store, lease, EntryMove(entry="a", to=E.COMPOSED), train=train("a"))
        await move(store, lease, EntryMove(entry="a", to=E.CHECKING))
        assert (await state(store, "a")).outcomes == 0
        await move(store, lease, EntryMove(entry="a", to=E.QUEUED), train=None)
        assert (await state(store, "a")).outcomes == 1


async def test_a_postponed_entry_is_due_later(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        assert await store.next_due() is None
        await store.enqueue([entry("a")], T0)
        lease = await lane_lease(store)
        await move(store, lease, EntryMove(entry="a", to=E.QUEUED, delay_seconds=30.0, counts=True))
        due = T0 + timedelta(seconds=30)
        assert await store.due_entries(BRANCH, 9, T0) == [] and await store.busy_lanes(T0) == []
        assert await store.next_due() == due
        assert await store.busy_lanes(due) == [BRANCH]
        assert [e.next_try for e in await store.due_entries(BRANCH, 9, due)] == [due]


async def test_busy_lanes_are_those_with_a_train_or_due_entries_and_not_paused(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.enqueue([entry("a"), entry("a", BASE)], T0)
        assert await store.busy_lanes(T0) == [BRANCH, BASE]
        lease = await lane_lease(store)
        await move(store, lease, state=LaneState.FROZEN)  # tries again: it must see that its head has moved
        assert await store.busy_lanes(T0) == [BRANCH, BASE]
        await move(store, lease, state=LaneState.PAUSED)
        assert await store.busy_lanes(T0) == [BASE]
        await move(store, lease, EntryMove(entry="a", to=E.LANDING), state=LaneState.PAUSED, train=train("a"))
        assert await store.busy_lanes(T0) == [BRANCH, BASE]  # what was pushed must be settled
        assert [row["key"] for row in await store.database.rows("SELECT key FROM lanes ORDER BY key")] == [BRANCH, BASE]


async def test_events_of_a_lane_reach_several_tickets(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for issue in (12, 13):
            await open_ticket(store, issue)
        lease = await lane_lease(store)
        lane = (await store.lane(BRANCH)).model_copy(update={"version": 1})
        emits = tuple(Ticked(ticket=f"octo/app#{n}", at=T0) for n in (12, 13))
        await store.decide(lease, EVENT, LaneDecision(lane=lane, emits=emits, why=""), T0)
        assert await store.due_tickets() == [TICKET, "octo/app#13"]


# --- verdicts -----------------------------------------------------------------------------------------------
async def test_green_and_red_verdicts_are_kept_and_unknown_ones_are_not(tmp_path: Path) -> None:
    red = CheckVerdict("red", Evidence(reason="E501"), 1.5, "ruff")
    async with opened(tmp_path) as store:
        await store.keep_verdict(SHA, "d1", CheckVerdict("green", summary="2 checks"), T0)
        await store.keep_verdict(SHA, "d2", red, T0)
        await store.keep_verdict(SHA, "d3", CheckVerdict("unknown"), T0)
    async with opened(tmp_path) as store:
        assert await store.verdict(SHA, "d1") == CheckVerdict("green", summary="2 checks")
        assert await store.verdict(SHA, "d2") == red
        assert await store.verdict(SHA, "d3") is None and await store.verdict("b" * 40, "d1") is None


async def test_what_was_set_aside_is_set_aside_at_once_under_another_id(tmp_path: Path) -> None:
    first, again, other = entry("a"), entry("b"), entry("c")
    assert first.change and again.change and other.change
    again = again.model_copy(update={"change": first.change.model_copy(update={"id": "b", "title": "Another word"})})
    other = other.model_copy(update={"change": other.change.model_copy(update={"base": "b" * 40})})
    async with opened(tmp_path) as store:
        await store.enqueue([first], T0)
        lease = await lane_lease(store)
        evidence = Evidence(reason="no such base")
        back = EntryMove(entry="a", to=E.QUARANTINED, error_class=ErrorClass.INVALID, error="no such base",
                         evidence=evidence, counts=True)  # fmt: skip
        await move(store, lease, back)
        assert await store.enqueue([again, other], T0) == [("b", True), ("c", True)]
        found = {one.id: (one.state, one.error_class, one.error) for one in await store.report(BRANCH)}
        assert found["b"] == (E.QUARANTINED, ErrorClass.INVALID, "the same content was set aside as a: no such base")
        assert found["c"][0] is E.QUEUED
        await store.retry(BRANCH, ["a"], T0)
        third = again.model_copy(
            update={"id": "d", "change": again.change and again.change.model_copy(update={"id": "d"})}
        )
        await store.retry(BRANCH, ["b"], T0)
        await store.enqueue([third], T0)
        assert (await store.report(BRANCH))[-1].state is E.QUEUED  # a person has let the first one go on
