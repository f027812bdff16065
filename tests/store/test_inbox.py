"""Deliveries and events: stored once, for the right ticket, in order."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bot.errors import Stale
from schemas.events import Address, Addressed, BaseMoved, Ticked
from schemas.ticket import TicketState
from tests.store.parts import SHA, T0, TICKET, close_ticket, comment, decide, history, label, open_ticket, opened

LATER = T0 + timedelta(seconds=5)


# --- deliveries ---------------------------------------------------------------------------------------------
async def test_a_delivery_is_kept_once_and_taken_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        assert await store.keep_delivery("g1", "issues", b"\xff raw", T0)
        assert not await store.keep_delivery("g1", "issues", b"other", T0)
        found = await store.next_delivery(T0)
        assert (found.guid, found.event, found.body) == ("g1", "issues", b"\xff raw")
        await store.take_delivery(found.seq, [label()], T0)
        assert await store.next_delivery(T0) is None
        await store.take_delivery(found.seq, [label("labelled:2", 13)], T0)  # taken already: nothing
        assert await store.due_tickets() == [TICKET]
        assert not await store.keep_delivery("g1", "issues", b"\xff raw", LATER)
        assert await store.known_delivery("g1") and not await store.known_delivery("g2")


async def test_a_replay_under_another_guid_is_known_by_its_body_unless_it_presses_a_button(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.keep_delivery("g1", "issues", b"body", T0)
        found = await store.next_delivery(T0)
        await store.take_delivery(found.seq, [], T0)
        assert not await store.keep_delivery("g2", "issues", b"body", T0)
        assert await store.keep_delivery("g3", "push", b"body", T0) and await store.keep_delivery(
            "g4", "issues", b"b", T0
        )
        assert await store.keep_delivery("g5", "check_run", b"press", T0)
        assert await store.keep_delivery("g6", "check_run", b"press", T0)


async def test_an_issue_is_awaited_from_its_label_on(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        assert not await store.awaited(Address(repo_id=7, issue=12))
        await store.put([label()], T0)
        assert await store.awaited(Address(repo_id=7, issue=12)) and not await store.awaited(
            Address(repo_id=7, issue=1)
        )


async def test_a_postponed_delivery_holds_up_later_ones_until_it_has_had_its_chances(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.keep_delivery("label", "issues", b"1", T0)
        await store.keep_delivery("comment", "issue_comment", b"2", T0)
        now = T0
        for _ in range(3):
            found = await store.next_delivery(now)
            assert found.guid == "label"
            await store.postpone_delivery(found.seq, "GitHub is away", now + timedelta(seconds=5))
            assert await store.next_delivery(now) is None
            now += timedelta(seconds=5)
        found = await store.next_delivery(now)
        await store.postpone_delivery(found.seq, "GitHub is away", now + timedelta(seconds=5))
        assert (await store.next_delivery(now)).guid == "comment"
        assert (await store.next_delivery(now + timedelta(seconds=5))).guid == "label"


# --- whose event it is --------------------------------------------------------------------------------------
async def test_a_label_opens_a_ticket_and_what_follows_at_once_is_its_own(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        assert await store.put([label(), comment("c1")], T0) == 2
        first = await store.next_event(TICKET)
        assert first.ticket is None and first.event.ticket == TICKET and first.event.kind == "issue_labelled"
        assert await store.ticket(TICKET) is None and await store.open_tickets(7) == []
        await decide(store)
        second = await store.next_event(TICKET)
        assert second.event.kind == "comment_added" and second.ticket.version == 0


async def test_a_repeated_key_is_the_same_event_for_ever(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        assert await store.put([label(), label()], T0) == 1
        await decide(store)
        await close_ticket(store)
        assert await store.put([label()], T0) == 0  # a redelivery must not open the ticket a second time
        await store.put([comment("c")], T0)  # nor reserve an id to which this would go
        assert await store.due_tickets() == []
        assert [ticket.id for ticket in await store.tickets()] == [TICKET]


async def test_a_closed_ticket_is_followed_by_one_with_an_id_of_its_own(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        ids = []
        for n in range(3):
            # The repository was renamed meanwhile; the id keeps the name that was first printed.
            await store.put([label(f"labelled:{n}", name=f"octo/app-{n}" if n else "octo/app")], T0)
            ids += await store.due_tickets()
            await decide(store, of=ids[-1])
            await close_ticket(store, ids[-1])
        assert ids == [TICKET, f"{TICKET}~2", f"{TICKET}~3"]


async def test_a_label_on_an_open_ticket_is_its_event(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await open_ticket(store)
        await store.put([label("labelled:again")], T0)
        assert await store.due_tickets() == [TICKET]


async def test_an_opener_that_was_discarded_leaves_its_id_to_the_next_label(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.put([label("by a reader")], T0)
        due = await store.next_event(TICKET)
        await store.discard(due.seq, "may not ask", T0)
        await store.put([label("by a writer")], T0)
        await decide(store)
        assert (await store.ticket(TICKET)).generation == 1


@pytest.mark.parametrize(("generation", "found"), [(None, [f"{TICKET}~2"]), (2, [f"{TICKET}~2"]), (1, []), (3, [])])
async def test_an_event_finds_the_open_generation_that_it_names(
    tmp_path: Path, generation: int | None, found: list[str]
) -> None:
    async with opened(tmp_path) as store:
        await open_ticket(store)
        await close_ticket(store)
        await store.put([label("again")], T0)
        await decide(store, of=f"{TICKET}~2")
        await store.put([comment("c", generation=generation)], T0)
        assert await store.due_tickets() == found


async def test_an_event_for_no_ticket_is_kept_as_discarded(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        assert await store.put([comment("c1", 99)], T0) == 1
        assert await store.due_tickets() == []
        rows = await store.database.rows("SELECT state, why FROM events")
        assert [tuple(row) for row in rows] == [("discarded", "for no open ticket")]
        with pytest.raises(ValueError, match="neither a ticket nor an address"):
            await store.put([Addressed(key="k", event=Ticked(at=T0))], T0)


async def test_a_moved_base_reaches_every_open_ticket_on_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for issue, base in ((12, "main"), (13, "main"), (14, "release"), (15, "main")):
            await open_ticket(store, issue, change={"base_ref": base})
        await close_ticket(store, "octo/app#15", 15)
        moved = Addressed(key="push:1", to=Address(repo_id=7, base_ref="main"), event=BaseMoved(ref="main", head=SHA))
        assert await store.put([moved], T0) == 2
        assert await store.put([moved], T0) == 0
        assert await store.due_tickets() == [TICKET, "octo/app#13"]
        assert (await store.next_event("octo/app#13")).event.ticket == "octo/app#13"


async def test_events_of_a_ticket_come_in_the_order_in_which_they_were_put(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await open_ticket(store)
        await store.put([comment(f"c{n}", body=str(n)) for n in range(12)], T0)
        seen: list[Any] = []
        while (due := await store.next_event(TICKET)) is not None:
            seen.append(due.event.body)
            await decide(store)
        assert seen == [str(n) for n in range(12)]
        assert (await store.ticket(TICKET)).version == 12


async def test_an_event_is_discarded_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await open_ticket(store)
        await store.put([comment("c1")], T0)
        due = await store.next_event(TICKET)
        await store.discard(due.seq, "says nothing", T0)
        with pytest.raises(Stale):
            await store.discard(due.seq, "says nothing", T0)
        assert await store.next_event(TICKET) is None
        rows = [row for row, _, _ in await history(store, TICKET)]
        assert [(row.kind, row.why, row.actor) for row in rows][1:] == [("comment_added", "says nothing", "alice")]


# --- time ---------------------------------------------------------------------------------------------------
async def test_a_ticket_is_woken_once_for_each_time_that_it_asked(tmp_path: Path) -> None:
    hour = timedelta(hours=1)
    async with opened(tmp_path) as store:
        assert await store.wake(T0) is None
        await open_ticket(store, change={"wake_at": T0 + hour})
        await open_ticket(store, 13, change={"wake_at": T0 + 2 * hour})
        assert await store.wake(T0) == T0 + hour
        assert await store.due_tickets() == []
        assert await store.wake(T0 + hour) <= T0 + hour
        assert await store.due_tickets() == [TICKET]
        assert await store.wake(T0 + hour) == T0 + 2 * hour
        await decide(store)  # keeps its old wake_at: the same tick is not sent again
        await store.wake(T0 + hour)
        assert await store.due_tickets() == []
        await store.wake(T0 + 2 * hour)
        await decide(store, of="octo/app#13", change={"wake_at": T0 + 3 * hour})
        await store.wake(T0 + 3 * hour)
        assert await store.due_tickets() == ["octo/app#13"]


async def test_a_closed_ticket_sleeps_on(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await open_ticket(store, change={"wake_at": T0, "state": TicketState.DECLINED})
        await store.wake(LATER)
        assert await store.due_tickets() == [] and await store.wake(LATER) is None


async def test_what_is_late_is_for_the_newest_ticket_even_if_that_is_over(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await open_ticket(store)
        await close_ticket(store)
        here = Address(repo_id=7, issue=12)
        assert await store.awaited(here, late=True) and not await store.awaited(here)
        assert not await store.awaited(Address(repo_id=7, issue=13), late=True)
        late = comment("late", body="/interlock status")
        await store.put([late.model_copy(update={"event": late.event.model_copy(update={"late": True})})], LATER)
        await store.put([comment("plain")], LATER)
        due = await store.next_event(TICKET)
        assert (due.event.body, due.ticket.open) == ("/interlock status", False)
        await decide(store)
        assert await store.next_event(TICKET) is None
        await store.put([label("again")], LATER)
        await store.put(
            [late.model_copy(update={"key": "later", "event": late.event.model_copy(update={"late": True})})], LATER
        )
        assert [event.event.kind for event in [await store.next_event(f"{TICKET}~2")]] == ["issue_labelled"]
        first = Addressed(
            key="old", to=Address(repo_id=7, issue=12, generation=1), event=late.event.model_copy(update={"late": True})
        )
        await store.put([first], LATER)
        assert (await store.next_event(TICKET)).event.ticket == TICKET
