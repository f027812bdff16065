"""What people are shown: counts, ages and rows without their bodies."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

from bot.store.connection import to_ms
from schemas.decision import EntryMove, LaneDecision
from schemas.lane import Composed, EntryState
from tests.store.parts import BASE, BRANCH, SHA, T0, agent, comment, entry, open_ticket, opened, post


async def test_an_empty_store_has_nothing_to_show(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        snapshot = await store.snapshot(T0)
    values = snapshot.model_dump(exclude={"at"})
    assert not any(values.values()), values


async def test_a_snapshot_counts_what_waits_and_for_how_long(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.keep_delivery("g1", "issues", b"{}", T0)
        await open_ticket(store, effects=(post("1"), post("2"), agent("a")), enqueue=(entry("a"), entry("b", BASE)))
        lease, _ = await store.lease(("post_comment",), "me", 60, T0)
        await store.settle(lease, None, T0)
        await store.put([comment("c1")], T0 + timedelta(seconds=10))
        await store.put([comment("lost", 99)], T0)
        snapshot = await store.snapshot(T0 + timedelta(seconds=30))
    assert json.loads(snapshot.model_dump_json()) == {
        "at": "2026-03-01T12:00:30.250000Z",
        "tickets": {"opened": 1},
        "entries": {"queued": 2},
        "lanes": {"open": 2},
        "effects": {"post_comment": 1, "run_agent": 1},
        "deliveries": 1,
        "events": 1,
        "oldest_delivery_seconds": 30.0,
        "oldest_event_seconds": 20.0,
        "oldest_effect_seconds": 30.0,
        "oldest_entry_seconds": 30.25,
        "audit_records": 1,
    }


async def test_rows_of_entries(tmp_path: Path) -> None:
    later = T0 + timedelta(hours=1)
    async with opened(tmp_path) as store:
        await store.enqueue([entry("a"), entry("b", BASE)], T0)
        await store.enqueue([entry("c")], later)
        lease = await store.lease_lane(BRANCH, "me", 60)
        lane = (await store.lane(BRANCH)).model_copy(update={"version": 1})
        moves = (EntryMove(entry="a", to=EntryState.LANDED, commit=SHA),)
        event = Composed(base=SHA, old=None, results=())
        await store.decide(lease, event, LaneDecision(lane=lane, moves=moves, why=""), later)
        rows = await store.report_rows()
        assert [(row.id, row.state, row.commit) for row in rows] == [
            ("a", "landed", SHA), ("b", "queued", ""), ("c", "queued", ""),
        ]  # fmt: skip
        settled = await store.database.rows("SELECT settled_at FROM entries ORDER BY seq")
        assert [row["settled_at"] for row in settled] == [to_ms(later), None, None]
