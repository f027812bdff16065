"""What people and monitors are shown of the store: counts, ages and slim rows. It only reads."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from bot.store.connection import to_ms
from bot.store.database import Part
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


class EntryRow(Frozen):
    """One entry as people are shown it: how far it is, and why no further."""

    lane: str
    id: str
    state: str
    attempts: int
    error_class: str
    error: str
    commit: str


_BY_STATE: Final = """
    SELECT 'tickets', state, COUNT(*) FROM tickets WHERE body <> '' GROUP BY state
    UNION ALL SELECT 'entries', state, COUNT(*) FROM entries GROUP BY state
    UNION ALL SELECT 'lanes', state, COUNT(*) FROM lanes GROUP BY state
    UNION ALL SELECT 'effects', kind, COUNT(*) FROM outbox WHERE state IN ('pending', 'leased') GROUP BY kind"""
"""Rows of a Snapshot's field, a state (or kind) and how many there are in it."""

_NUMBERS: Final = """SELECT
    (SELECT COUNT(*) FROM deliveries WHERE state = 'pending') AS deliveries,
    (SELECT COUNT(*) FROM events WHERE state = 'pending') AS events,
    (SELECT MAX(0, ?1 - MIN(received_at)) / 1000.0 FROM deliveries WHERE state = 'pending') AS oldest_delivery_seconds,
    (SELECT MAX(0, ?1 - MIN(at)) / 1000.0 FROM events WHERE state = 'pending') AS oldest_event_seconds,
    (SELECT MAX(0, ?1 - MIN(queued_at)) / 1000.0 FROM outbox WHERE state IN ('pending', 'leased'))
        AS oldest_effect_seconds,
    (SELECT MAX(0, ?1 - MIN(accepted_at)) / 1000.0 FROM entries WHERE state = 'queued') AS oldest_entry_seconds,
    (SELECT MAX(seq) FROM audit) AS audit_records"""
"""A Snapshot's numbers (NULL: nothing there); ?1 is now."""

_ENTRIES: Final = """SELECT lane, id, state, attempts, COALESCE(error_class, '') AS error_class, error,
    COALESCE(oid, '') AS "commit" FROM entries ORDER BY seq"""


class Views(Part):
    """The store's read model."""

    async def snapshot(self, now: datetime) -> Snapshot:
        """Counts and ages; for `GET /snapshot` and the metrics."""
        states: dict[str, dict[str, int]] = {"tickets": {}, "entries": {}, "lanes": {}, "effects": {}}
        for field, state, count in await self.database.rows(_BY_STATE):
            states[field][state] = count
        found = (await self.database.rows(_NUMBERS, to_ms(now)))[0]
        numbers = {name: value or 0 for name, value in dict(found).items()}
        return Snapshot.model_validate({"at": now, **states, **numbers})

    async def report_rows(self) -> Sequence[EntryRow]:
        """All entries, in order of acceptance."""
        return [EntryRow.model_validate(dict(row)) for row in await self.database.rows(_ENTRIES)]
