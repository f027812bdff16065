"""A decision is one transaction: all of it is stored, or nothing, on the version that it was made for."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.errors import Stale
from schemas.change_request import ChangeRequest
from schemas.decision import Decision
from schemas.events import Addressed, RunSucceeded, Ticked
from schemas.lane import EntryState
from schemas.ticket import TicketState
from tests.store.parts import (
    BRANCH,
    SHA,
    T0,
    TICKET,
    close_ticket,
    comment,
    decide,
    entry,
    history,
    label,
    open_ticket,
    opened,
    outbox_rows,
    post,
    ticket,
)


async def test_all_of_a_decision_is_stored_together(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.put([label()], T0)
        due = await store.next_event(TICKET)
        new = ticket(base_ref="main", state=TicketState.BUILDING)
        change = entry(f"{TICKET}/1.1", ticket=TICKET, task=f"{TICKET}/1")
        await store.commit(
            due.seq,
            Decision(ticket=new, effects=(post("hello"),), emits=(Ticked(at=T0),), enqueue=(change,), why="labelled"),
            T0,
        )
    async with opened(tmp_path) as store:
        assert await store.ticket(TICKET) == new
        assert [row.key for row in await outbox_rows(store, TICKET)] == [f"{TICKET}:hello"]
        follow = await store.next_event(TICKET)
        assert follow.event.kind == "ticked" and follow.event.ticket == TICKET
        assert [(e.id, e.change) for e in await store.entries(BRANCH, [change.id], whole=True)] == [
            (change.id, change.change)
        ]
        rows = [row for row, _, _ in await history(store)]
        assert [(r.subject, r.kind, r.before, r.after, r.why, r.actor) for r in rows] == [
            (TICKET, "issue_labelled", "", "building", "labelled", "alice")
        ]


async def test_a_decision_on_an_older_version_is_stale_and_stores_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        old = await open_ticket(store)
        await store.put([comment("c1"), comment("c2")], T0)
        first = await store.next_event(TICKET)
        late = Decision(
            ticket=old.model_copy(update={"version": 1, "note": "late"}),
            effects=(post("late"),),
            enqueue=(entry("late", ticket=TICKET),),
            why="late",
        )
        await decide(store)
        second = await store.next_event(TICKET)
        for seq in (first.seq, second.seq):  # the event is decided already; the version has moved
            with pytest.raises(Stale):
                await store.commit(seq, late, T0)
        again = late.model_copy(update={"ticket": late.ticket.model_copy(update={"version": 2})})
        with pytest.raises(Stale):  # the version is right now, but the event is not to be decided twice
            await store.commit(first.seq, again, T0)
        assert (await store.ticket(TICKET)).note == ""
        assert await outbox_rows(store, TICKET) == [] and await store.report(BRANCH) == []
        assert (await store.next_event(TICKET)).seq == second.seq


async def test_a_decision_of_another_ticket_s_event_is_stale(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await open_ticket(store)
        await store.put([label("other", 13)], T0)
        due = await store.next_event("octo/app#13")
        with pytest.raises(Stale):
            await store.commit(due.seq, Decision(ticket=ticket(version=1), why=""), T0)


async def test_an_emitted_event_may_be_for_another_ticket(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await open_ticket(store, 13)
        await open_ticket(store, emits=(Ticked(ticket="octo/app#13", at=T0), Ticked(at=T0)))
        assert await store.due_tickets() == ["octo/app#13", TICKET]


async def test_a_decision_acts_on_the_queue(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await open_ticket(
            store,
            enqueue=tuple(
                entry(f"{TICKET}/{n}.1", ticket=TICKET, task=f"{TICKET}/{n}", held=("protected",) if n == 2 else ())
                for n in (1, 2, 3)
            ),
        )
        await store.put([comment("release"), comment("withdraw"), comment("stop")], T0)
        await decide(store, release=((f"{TICKET}/2.1", "bob"),))
        await decide(store, withdraw=(f"{TICKET}/1",))
        states = {e.id: (e.state, e.released_by) for e in await store.report(BRANCH)}
        assert states == {
            f"{TICKET}/1.1": (EntryState.CANCELLED, ""),
            f"{TICKET}/2.1": (EntryState.QUEUED, "bob"),
            f"{TICKET}/3.1": (EntryState.QUEUED, ""),
        }
        await decide(store, withdraw=("*",))
        assert {e.state for e in await store.report(BRANCH)} == {EntryState.CANCELLED}


async def test_an_entry_known_with_another_content_comes_back_to_its_ticket(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        name = f"{TICKET}/1.1"
        await open_ticket(store, enqueue=(entry(name, ticket=TICKET, task=f"{TICKET}/1"),))
        await store.put([comment("c1")], T0)
        await decide(store, enqueue=(entry(name, ticket=TICKET, task=f"{TICKET}/1", content="other"),))
        event = (await store.next_event(TICKET)).event
        assert (event.kind, event.entry, event.state, event.error_class) == (
            "entry_returned", name, "quarantined", "invalid",
        )  # fmt: skip


async def test_open_tickets_are_listed_in_order_of_opening(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for issue in (12, 13, 14):
            await open_ticket(store, issue)
        await close_ticket(store, "octo/app#13", 13)
        assert [t.id for t in await store.open_tickets(7)] == [TICKET, "octo/app#14"]
        assert await store.open_tickets(8) == []
        assert len(await store.tickets()) == 3
        assert await store.ticket("octo/app#99") is None


async def test_a_rename_comes_back_from_event_decision_and_queue(tmp_path: Path) -> None:
    """Its `from` has another name in the model than in JSON."""
    renamed = ChangeRequest.model_validate(
        {
            "version": 1, "id": f"{TICKET}/1.1", "base": SHA, "title": "Move", "summary": "",
            "patch": [{"op": "rename", "from": "a.py", "path": "b.py", "before": SHA, "content": None}],
        }
    )  # fmt: skip
    event = RunSucceeded(ticket=TICKET, task=f"{TICKET}/1", attempt=1, change=renamed)
    new = entry(renamed.id, ticket=TICKET, task=f"{TICKET}/1").model_copy(update={"change": renamed})
    async with opened(tmp_path) as store:
        await open_ticket(store)
        await store.put([Addressed(key="run", event=event)], T0)
        assert (await store.next_event(TICKET)).event == event
        await decide(store, enqueue=(new,))
        assert [item.change for item in await store.entries(BRANCH, [renamed.id], whole=True)] == [renamed]
        _, event_text, decision = (await history(store, TICKET))[-1]
        assert RunSucceeded.model_validate_json(event_text) == event
        assert Decision.model_validate_json(decision).enqueue == (new,)


async def test_a_ticket_s_priority_moves_what_waits_and_nothing_else(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.enqueue([entry("first", ticket="octo/app#1"), entry("second", ticket="octo/app#2")], T0)
        await open_ticket(store, enqueue=(entry("ours", ticket=TICKET, task=f"{TICKET}/1"),))
        await store.put([comment("one"), comment("two")], T0)
        assert await store.due_ids(BRANCH, 9, T0) == ["first", "second", "ours"]
        for priority, order in ((1, ["ours", "first", "second"]), (0, ["first", "second", "ours"])):
            await decide(store, priority=priority)
            assert await store.due_ids(BRANCH, 9, T0) == order
