"""What people and monitors are shown of the store: counts, ages and slim rows. It only reads."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from bot.store.connection import Row
from bot.store.database import Database
from bot.store.instants import from_ms, to_ms
from schemas.base import Frozen, Instant


class Snapshot(Frozen):
    """The store at one moment. Ages are seconds since the oldest of a kind began to wait; 0 if none waits."""

    at: Instant
    tickets: dict[str, int]
    """How many tickets there are in each state."""
    entries: dict[str, int]
    lanes: dict[str, int]
    effects: dict[str, int]
    """The outbox's backlog: how many effects of each kind are not yet performed."""
    deliveries: int
    events: int
    oldest_delivery_seconds: float
    oldest_event_seconds: float
    oldest_effect_seconds: float
    oldest_entry_seconds: float
    audit_records: int


class EffectRow(Frozen):
    """One effect, as a person looks at it. `state`: pending, leased, done, gave_up or replaced."""

    key: str
    ticket: str
    kind: str
    state: str
    attempts: int
    interrupted: int
    due: Instant
    error: str


class EntryRow(Frozen):
    """One entry without its change request. `settled` is when it came to rest."""

    id: str
    lane: str
    ticket: str
    task: str
    state: str
    priority: int
    accepted: Instant
    settled: Instant | None
    next_try: Instant
    deliveries: int
    attempts: int
    error_class: str
    error: str
    commit: str
    released_by: str


class Views:
    """The store's read model."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def snapshot(self, now: datetime) -> Snapshot:
        """Counts and ages; for `GET /snapshot` and the metrics."""

        async def counts(sql: str) -> dict[str, int]:
            return {row[0]: row[1] for row in await self.database.rows(sql)}

        async def waiting(sql: str) -> tuple[int, float]:
            row = await self.database.row(sql)
            oldest = row[1] if row and row[1] is not None else to_ms(now)
            return (row[0] if row else 0), max(0.0, (to_ms(now) - oldest) / 1000)

        deliveries, delivery_age = await waiting(
            "SELECT COUNT(*), MIN(received_at) FROM deliveries WHERE state = 'pending'"
        )
        events, event_age = await waiting("SELECT COUNT(*), MIN(at) FROM events WHERE state = 'pending'")
        _, effect_age = await waiting(
            "SELECT COUNT(*), MIN(queued_at) FROM outbox WHERE state IN ('pending', 'leased')"
        )
        _, entry_age = await waiting("SELECT COUNT(*), MIN(accepted_at) FROM entries WHERE state = 'queued'")
        records = await self.database.row("SELECT MAX(seq) FROM audit")
        return Snapshot(
            at=now,
            tickets=await counts("SELECT state, COUNT(*) FROM tickets WHERE body <> '' GROUP BY state"),
            entries=await counts("SELECT state, COUNT(*) FROM entries GROUP BY state"),
            lanes=await counts("SELECT state, COUNT(*) FROM lanes GROUP BY state"),
            effects=await counts(
                "SELECT kind, COUNT(*) FROM outbox WHERE state IN ('pending', 'leased') GROUP BY kind"
            ),
            deliveries=deliveries,
            events=events,
            oldest_delivery_seconds=delivery_age,
            oldest_event_seconds=event_age,
            oldest_effect_seconds=effect_age,
            oldest_entry_seconds=entry_age,
            audit_records=(records[0] or 0) if records else 0,
        )

    async def outbox_rows(self, ticket: str | None = None) -> Sequence[EffectRow]:
        """The effects of one ticket, done ones too, in their order; of all tickets only what is not done."""
        rows = await self.database.rows(
            "SELECT * FROM outbox WHERE ticket = ? "
            "OR (? IS NULL AND state IN ('pending', 'leased', 'gave_up')) ORDER BY seq",
            ticket, ticket,
        )  # fmt: skip
        return [_effect_row(row) for row in rows]

    async def report_rows(self, since: datetime | None = None, lane: str | None = None) -> Sequence[EntryRow]:
        """The entries accepted at or after `since`, of one lane or all, in order of acceptance."""
        rows = await self.database.rows(
            "SELECT * FROM entries WHERE accepted_at >= ? AND (? IS NULL OR lane = ?) ORDER BY seq",
            to_ms(since) if since else 0, lane, lane,
        )  # fmt: skip
        return [_entry_row(row) for row in rows]


def _effect_row(row: Row) -> EffectRow:
    return EffectRow(
        key=row["key"],
        ticket=row["ticket"],
        kind=row["kind"],
        state=row["state"],
        attempts=row["attempts"],
        interrupted=row["interrupted"],
        due=from_ms(row["due_at"]),
        error=row["error"],
    )


def _entry_row(row: Row) -> EntryRow:
    return EntryRow(
        id=row["id"],
        lane=row["lane"],
        ticket=row["ticket"],
        task=row["task"],
        state=row["state"],
        priority=row["priority"],
        accepted=from_ms(row["accepted_at"]),
        settled=from_ms(row["settled_at"]) if row["settled_at"] is not None else None,
        next_try=from_ms(row["due_at"]),
        deliveries=row["deliveries"],
        attempts=row["attempts"],
        error_class=row["error_class"] or "",
        error=row["error"],
        commit=row["oid"] or "",
        released_by=row["released_by"],
    )
