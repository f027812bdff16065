"""What people and monitors are shown of the store: counts, ages and slim rows. It only reads."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from bot.rules.lane_turn import kind_of
from bot.store.connection import Connection, Row, from_ms, to_ms
from bot.store.database import Part
from bot.store.entries import OPEN, ORDER, entry_of
from bot.store.operating import find
from schemas.base import Evidence, Frozen, Instant
from schemas.lane import Lane, Train


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
    ticket: str
    task: str
    state: str
    priority: int
    accepted: Instant
    settled: Instant | None
    attempts: int
    """How often it failed, over its whole life."""
    deliveries: int
    """How often it was taken up."""
    error_class: str
    error: str
    """The last failure's, also when the entry landed later."""
    failed: Instant | None
    next_try: Instant | None
    commit: str
    released_by: str


class EntryDetail(EntryRow):
    """One entry whole. `behind` is how many open entries of its lane come before it."""

    kind: str
    held: tuple[str, ...]
    checks: tuple[str, ...]
    evidence: Evidence | None
    behind: int


class LaneRow(Frozen):
    """A lane, its open entries in apply order, and how many are at rest in each state."""

    key: str
    state: str
    why: str
    window: int
    head: str
    train: Train | None
    open: tuple[EntryRow, ...]
    more: int
    """How many open entries are left out."""
    at_rest: dict[str, int]


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

_COLUMNS: Final = """lane, id, ticket, task, state, priority, accepted_at AS accepted, settled_at AS settled,
    failures AS attempts, deliveries, COALESCE(error_class, '') AS error_class, error, failed_at AS failed,
    CASE WHEN state = 'queued' THEN due_at END AS next_try, COALESCE(oid, '') AS "commit", released_by"""
_OPEN: Final = f"({', '.join(repr(str(state)) for state in OPEN)})"

_IN_ORDER: Final = f"""SELECT {_COLUMNS}, place, many FROM (SELECT e.*, COUNT(*) OVER (PARTITION BY lane) AS many,
    ROW_NUMBER() OVER (PARTITION BY lane ORDER BY {ORDER}) AS place FROM entries e WHERE state IN {_OPEN})
    WHERE place <= ? ORDER BY lane, place"""
"""The first open entries of each lane, with how many it has."""


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
        rows = await self.database.rows(f"SELECT {_COLUMNS} FROM entries ORDER BY seq")
        return [EntryRow.model_validate(_dated(row)) for row in rows]

    async def lane_rows(self, limit: int) -> Sequence[LaneRow]:
        """Every lane, those with work first, each with this many of its open entries."""
        waiting: defaultdict[str, list[EntryRow]] = defaultdict(list)
        many: dict[str, int] = {}
        for row in await self.database.rows(_IN_ORDER, limit):
            values = _dated(row)
            many[row["lane"]] = values.pop("many")
            del values["place"]
            waiting[row["lane"]].append(EntryRow.model_validate(values))
        at_rest: defaultdict[str, dict[str, int]] = defaultdict(dict)
        counted = f"SELECT lane, state, COUNT(*) AS n FROM entries WHERE state NOT IN {_OPEN} GROUP BY lane, state"
        for row in await self.database.rows(counted):
            at_rest[row["lane"]][row["state"]] = row["n"]
        lanes = await self.database.models(Lane, "SELECT body FROM lanes ORDER BY key")
        return [
            LaneRow(key=lane.key, state=lane.state, why=lane.why, window=lane.window, head=lane.head or "",
                    train=lane.train, open=tuple(waiting[lane.key]), at_rest=at_rest[lane.key],
                    more=many.get(lane.key, 0) - len(waiting[lane.key]))
            for lane in sorted(lanes, key=lambda lane: (lane.key not in many and lane.state == "open", lane.key))
        ]  # fmt: skip

    async def failed_rows(self, limit: int) -> tuple[Sequence[EntryRow], int]:
        """The entries that ever failed, the newest failure first, this many of them; and how many there are."""
        many = await self.database.row("SELECT COUNT(*) AS n FROM entries WHERE failed_at IS NOT NULL")
        sql = f"SELECT {_COLUMNS} FROM entries WHERE failed_at IS NOT NULL ORDER BY failed_at DESC, seq DESC LIMIT ?"
        rows = await self.database.rows(sql, limit)
        return [EntryRow.model_validate(_dated(row)) for row in rows], many["n"] if many else 0

    async def entry_detail(self, name: str, lane: str = "") -> EntryDetail:
        """One entry. Raises Unknown, with near ids, and Ambiguous, with the lanes."""

        def work(conn: Connection) -> EntryDetail:
            entry = entry_of(find(conn, name, lane))
            row = conn.execute(f"SELECT {_COLUMNS} FROM entries WHERE seq = ?", (entry.seq,)).fetchone()
            before = f"""SELECT COUNT(*) AS n FROM entries e JOIN entries me ON me.seq = ? WHERE e.lane = me.lane
                AND e.state IN {_OPEN} AND me.state IN {_OPEN} AND ({ORDER})
                < (me.accepted_at - 3600000 * me.priority, me.seq)"""
            behind = conn.execute(before, (entry.seq,)).fetchone()["n"]
            return EntryDetail(
                **_dated(row), kind=kind_of(entry), held=entry.held, behind=behind, evidence=entry.evidence,
                checks=tuple(check.name for check in entry.checks),
            )  # fmt: skip

        return await self.database.scan(work)


def _dated(row: Row) -> dict[str, Any]:
    """A row of _COLUMNS with its instants as such."""
    found = dict(row)
    for name in ("accepted", "settled", "failed", "next_try"):
        found[name] = None if found[name] is None else from_ms(found[name])
    return found
