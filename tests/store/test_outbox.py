"""Effects: performed in order, by one at a time, again after a failure, and given up in the end."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from bot.errors import Stale
from bot.store.outbox import INTERRUPTIONS
from schemas.events import PullRequestOpened
from tests.store.parts import (
    SHA,
    T0,
    TICKET,
    ManualClock,
    agent,
    comment,
    decide,
    history,
    open_ticket,
    opened,
    outbox_rows,
    post,
    status,
)

KINDS = ("post_comment", "update_status", "run_agent")


class Points:
    """The fault points that were reached."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def reach(self, point: str) -> None:
        self.seen.append(point)


async def test_effects_of_a_kind_keep_their_order_and_agents_run_side_by_side(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await open_ticket(store, effects=(post("1"), agent("a"), post("2"), agent("b")))
        await open_ticket(store, 13, effects=(post("x", "octo/app#13"),))
        granted = []
        while (leased := await store.lease(KINDS, "me", 60, T0)) is not None:
            granted.append(leased)
        assert [lease.key for lease, _ in granted] == [
            f"{TICKET}:1", f"{TICKET}:a", f"{TICKET}:b", "octo/app#13:x",
        ]  # fmt: skip
        assert granted[0][1] == post("1")
        await store.settle(granted[0][0], None, T0)
        lease, _ = await store.lease(KINDS, "me", 60, T0)
        assert lease.key == f"{TICKET}:2"


async def test_only_the_kinds_asked_for_are_granted(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await open_ticket(store, effects=(post("1"),))
        assert await store.lease(("run_agent",), "me", 60, T0) is None


async def test_an_effect_that_waits_for_its_next_try_holds_up_its_followers(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await open_ticket(store, effects=(post("1"), post("2")))
        lease, _ = await store.lease(KINDS, "me", 60, T0)
        await store.nack(lease, "502", 30, T0)
        assert await store.lease(KINDS, "me", 60, T0) is None
        again, _ = await store.lease(KINDS, "me", 60, T0 + timedelta(seconds=30))
        assert (again.key, again.attempts, again.fence) == (lease.key, 2, 2)


async def test_an_outcome_enters_the_inbox_with_the_settling(tmp_path: Path) -> None:
    points = Points()
    async with opened(tmp_path, faults=points) as store:
        await open_ticket(store, effects=(agent("a"),))
        lease, _ = await store.lease(KINDS, "me", 60, T0)
        outcome = PullRequestOpened(number=3, head=SHA)
        await store.settle(lease, outcome, T0, shown="You are the developer.")
        assert (await store.next_event(TICKET)).event == outcome.model_copy(update={"ticket": TICKET})
        assert await store.lease(KINDS, "me", 60, T0) is None
        rows = [(row, text) for row, text, _ in await history(store, TICKET)]
        assert (rows[1][0].kind, rows[1][0].why, rows[1][1]) == ("run_agent", lease.key, "You are the developer.")
    assert points.seen[-2:] == ["commit:settle:run_agent:before", "commit:settle:run_agent:after"]
    assert "commit:decide:issue_labelled:before" in points.seen


async def test_a_known_key_is_the_same_effect(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await open_ticket(store, effects=(post("1"),))
        lease, _ = await store.lease(KINDS, "me", 60, T0)
        await store.settle(lease, None, T0)
        await store.put([comment("c1")], T0)
        await decide(store, effects=(post("1"),))
        assert await store.lease(KINDS, "me", 60, T0) is None


async def test_a_slot_s_older_effect_is_replaced_until_somebody_has_begun_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await open_ticket(store, effects=(status("v0"), status("v1"), status("v1")))
        lease, effect = await store.lease(KINDS, "me", 60, T0)
        assert effect == status("v1")  # v0 was never begun; putting v1 again did not replace v1 by nothing
        await store.put([comment("c1"), comment("c2")], T0)
        await decide(store, effects=(status("v2"),))
        await decide(store, effects=(status("v3"),))
        await store.nack(lease, "502", 0, T0)
        await store.put([comment("c3"), comment("c4")], T0)
        await decide(store, effects=(status("v4"),))  # v1 waits again, but it was begun: it may be half done
        await decide(store, effects=(status("v1"),))  # nothing new: v4 stays
        seen = []
        while (leased := await store.lease(KINDS, "me", 60, T0)) is not None:
            seen.append(leased[1].key)
            await store.settle(leased[0], None, T0)
        assert seen == [f"{TICKET}:v1", f"{TICKET}:v4"]
        states = {row.key: row.state for row in await outbox_rows(store, TICKET)}
        assert [states[f"{TICKET}:v{n}"] for n in (0, 2, 3)] == ["replaced"] * 3


# --- leases -------------------------------------------------------------------------------------------------
async def test_a_lost_lease_can_do_nothing_any_more(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(tmp_path, clock) as store:
        await open_ticket(store, effects=(agent("a"),))
        old, _ = await store.lease(KINDS, "me", 60, T0)
        clock.move(59)
        assert await store.lease(KINDS, "you", 60, T0) is None
        clock.move(1)
        new, _ = await store.lease(KINDS, "me", 60, T0)  # the owner is the same: the fence tells them apart
        assert (new.fence, new.attempts, new.interrupted) == (2, 2, 0)
        for call in (
            store.extend(old, 60),
            store.settle(old, PullRequestOpened(number=1, head=SHA), T0),
            store.nack(old, "late", 0, T0),
            store.refuse(old, "late", T0),
        ):
            with pytest.raises(Stale):
                await call
        assert await store.next_event(TICKET) is None
        await store.settle(new, None, T0)
        with pytest.raises(Stale):
            await store.settle(new, None, T0)


async def test_a_heartbeat_keeps_a_lease(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(tmp_path, clock) as store:
        await open_ticket(store, effects=(agent("a"),))
        lease, _ = await store.lease(KINDS, "me", 60, T0)
        for _ in range(5):
            clock.move(50)
            await store.extend(lease, 60)
            assert await store.lease(KINDS, "you", 60, T0) is None
        await store.settle(lease, None, T0)


async def test_the_wall_clock_has_no_say_in_leases(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(tmp_path, clock) as store:
        await open_ticket(store, effects=(agent("a"),))
        await store.lease(KINDS, "me", 60, T0)
        for days in (-400, 400):
            assert await store.lease(KINDS, "you", 60, T0 + timedelta(days=days)) is None
        clock.boot_name, clock.seconds = "boot-2", 0.0
        assert await store.lease(KINDS, "you", 60, T0) is not None


async def test_a_restart_voids_leases_and_counts_as_an_interruption(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(tmp_path, clock) as store:
        await open_ticket(store, effects=(agent("a"),))
    for n in range(INTERRUPTIONS):
        async with opened(tmp_path, clock) as store:
            lease, _ = await store.lease(KINDS, "me", 60, T0)
            assert (lease.attempts, lease.interrupted, lease.fence) == (1, n, n + 1)
    async with opened(tmp_path, clock) as store:
        with pytest.raises(Stale):
            await store.settle(lease, None, T0)
        assert await store.lease(KINDS, "me", 60, T0) is None  # it may be what kills the process
        event = (await store.next_event(TICKET)).event
        assert event.kind == "effect_gave_up" and "restarts of the server cut it 20 times" in event.reason


async def test_what_became_of_an_effect_is_written_down(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await open_ticket(store, effects=(post("1"), post("2")))
        await open_ticket(store, 13, effects=(post("x", "octo/app#13"),))
        lease, _ = await store.lease(KINDS, "me", 60, T0)
        await store.settle(lease, None, T0)
        other, _ = await store.lease(KINDS, "me", 60, T0)
        await store.nack(other, "502", 5, T0)
        rows = await outbox_rows(store, TICKET)
        assert [(row.key, row.state, row.attempts, row.error) for row in rows] == [
            (f"{TICKET}:1", "done", 1, ""),
            (f"{TICKET}:2", "pending", 1, "502"),
        ]
        assert rows[1].due == T0 + timedelta(seconds=5)
        assert [row.key for row in await outbox_rows(store)] == [f"{TICKET}:2", "octo/app#13:x"]


# --- giving up ----------------------------------------------------------------------------------------------
async def test_after_its_last_attempt_the_ticket_is_told(tmp_path: Path) -> None:
    async with opened(tmp_path, attempts=3) as store:
        await open_ticket(store, effects=(post("1"), post("2")))
        for n in range(3):
            lease, _ = await store.lease(KINDS, "me", 60, T0)
            assert lease.attempts == n + 1
            await store.nack(lease, "later, not counted", 0, T0, counts=False)
            lease, _ = await store.lease(KINDS, "me", 60, T0)
            assert lease.attempts == n + 1
            await store.nack(lease, "502 Bad Gateway", 0, T0)
        event = (await store.next_event(TICKET)).event
        assert (event.kind, event.effect, event.effect_kind) == ("effect_gave_up", f"{TICKET}:1", "post_comment")
        assert event.reason == "502 Bad Gateway (tried 3 times)"
        following, _ = await store.lease(KINDS, "me", 60, T0)
        assert following.key == f"{TICKET}:2"


async def test_an_effect_that_never_ends_runs_out_of_attempts(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(tmp_path, clock, attempts=3) as store:
        await open_ticket(store, effects=(agent("a"), post("1")))
        for _ in range(3):
            assert (await store.lease(("run_agent",), "me", 60, T0)) is not None
            clock.move(61)
        lease, _ = await store.lease(KINDS, "me", 60, T0)
        assert lease.key == f"{TICKET}:1"
        assert "did not end within its time, 3 times" in (await store.next_event(TICKET)).event.reason


async def test_a_refused_effect_is_given_up_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await open_ticket(store, effects=(post("1"),))
        lease, _ = await store.lease(KINDS, "me", 60, T0)
        await store.refuse(lease, "422: the branch is gone", T0)
        assert (await store.next_event(TICKET)).event.reason == "422: the branch is gone"
        assert [row.state for row in await outbox_rows(store, TICKET)] == ["gave_up"]
        assert await store.lease(KINDS, "me", 60, T0) is None
