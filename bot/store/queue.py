"""The merge queue's tables as the lander sees them (`bot.ports.Queue`)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from pydantic import BaseModel

from bot.errors import Stale
from bot.ports import CheckVerdict, Clock
from bot.store import audit, entries, inbox
from bot.store.connection import Connection
from bot.store.database import Database
from bot.store.instants import from_ms, to_ms
from schemas.base import Evidence, Frozen, Sha
from schemas.decision import LaneDecision
from schemas.lane import Entry, Lane, NewEntry
from schemas.lease import Lease


class _KeptVerdict(Frozen):
    outcome: Literal["green", "red"]
    evidence: Evidence | None = None
    seconds: float = 0.0
    summary: str = ""


def take_back(conn: Connection) -> None:
    """At opening: every lane's lease is of an earlier process, and void."""
    conn.execute("UPDATE lanes SET owner = '', boot_id = '', expires = 0 WHERE owner <> ''")


def _check_lease(conn: Connection, lease: Lease) -> None:
    row = conn.execute("SELECT owner, fence FROM lanes WHERE key = ?", (lease.key,)).fetchone()
    if row is None or (row["owner"], row["fence"]) != (lease.owner, lease.fence):
        raise Stale(f"the lease of lane {lease.key} was lost: another lander has it now")


class QueueTables:
    """All writes are durable when they return."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.database, self._clock = database, clock

    # --- entries --------------------------------------------------------------------------------------------
    async def enqueue(self, entries_: Sequence[NewEntry], now: datetime) -> Sequence[tuple[str, bool]]:
        """Add entries in the order given; (id, False) if the id is known with another body. Lanes are made as needed."""
        return await self.database.write("enqueue", lambda conn: entries.enqueue(conn, entries_, now))

    async def retry(self, lane: str, ids: Sequence[str], now: datetime) -> int:
        """Queue entries again that are in rework or quarantine, at their old place; returns how many."""
        return await self.database.write("retry", lambda conn: entries.retry(conn, lane, ids, now))

    async def due_entries(self, lane: str, limit: int, now: datetime) -> Sequence[Entry]:
        """See bot.ports.Queue; the order is `bot.store.entries.ORDER`."""
        return await self._entries(
            "WHERE lane = ? AND state = 'queued' AND due_at <= ? ORDER BY " + entries.ORDER + " LIMIT ?",
            lane, to_ms(now), limit,
        )  # fmt: skip

    async def entries(self, lane: str, ids: Sequence[str]) -> Sequence[Entry]:
        """See bot.ports.Queue. Ids that the lane does not have are left out."""
        marks = ", ".join("?" * len(ids))
        found = {entry.id: entry for entry in await self._entries(f"WHERE lane = ? AND id IN ({marks})", lane, *ids)}
        return [found[name] for name in ids if name in found]

    async def report(self, lane: str) -> Sequence[Entry]:
        """Every entry that this lane ever had, in order of acceptance."""
        return await self._entries("WHERE lane = ? ORDER BY e.seq", lane)

    async def _entries(self, where: str, *values: object) -> list[Entry]:
        return [entries.entry_of(row) for row in await self.database.rows(entries.SELECT + where, *values)]

    async def begin(self, lease: Lease, ids: Sequence[str], now: datetime) -> None:
        """See bot.ports.Queue."""

        def work(conn: Connection) -> None:
            _check_lease(conn, lease)
            for name in ids:
                conn.execute(
                    "UPDATE entries SET deliveries = deliveries + 1 WHERE lane = ? AND id = ?", (lease.key, name)
                )

        await self.database.write("begin", work)

    # --- lanes ----------------------------------------------------------------------------------------------
    async def busy_lanes(self, now: datetime) -> Sequence[str]:
        """See bot.ports.Queue. A frozen lane is busy too: it sees by trying again that its head has moved."""
        rows = await self.database.rows(
            "SELECT key FROM lanes l WHERE train = 1 OR (state <> 'paused' AND EXISTS (SELECT 1 "
            "FROM entries e WHERE e.lane = l.key AND e.state = 'queued' AND e.due_at <= ?)) ORDER BY key",
            to_ms(now),
        )
        return [row["key"] for row in rows]

    async def next_due(self) -> datetime | None:
        """See bot.ports.Queue."""
        row = await self.database.row(
            "SELECT e.due_at FROM entries e JOIN lanes l ON l.key = e.lane "
            "WHERE e.state = 'queued' AND l.state <> 'paused' ORDER BY e.due_at LIMIT 1"
        )
        return from_ms(row["due_at"]) if row else None

    async def lane(self, key: str) -> Lane:
        """See bot.ports.Queue."""
        row = await self.database.row("SELECT body FROM lanes WHERE key = ?", key)
        return Lane.model_validate_json(row["body"]) if row else entries.fresh_lane(key)

    async def lanes(self) -> Sequence[Lane]:
        """Every lane, by key."""
        rows = await self.database.rows("SELECT body FROM lanes ORDER BY key")
        return [Lane.model_validate_json(row["body"]) for row in rows]

    async def lease_lane(self, lane: str, owner: str, seconds: float) -> Lease | None:
        """See bot.ports.Queue. None as well while this owner's own lease runs: a lane is driven once."""
        boot, boot_id = self._clock.boot(), self._clock.boot_id()

        def work(conn: Connection) -> Lease | None:
            row = conn.execute("SELECT owner, boot_id, expires, fence FROM lanes WHERE key = ?", (lane,)).fetchone()
            if row is not None and row["owner"] and row["boot_id"] == boot_id and row["expires"] > boot:
                return None
            if row is None:
                entries.save_lane(conn, entries.fresh_lane(lane))
            fence = row["fence"] + 1 if row else 1
            conn.execute(
                "UPDATE lanes SET owner = ?, boot_id = ?, expires = ?, fence = ? WHERE key = ?",
                (owner, boot_id, boot + seconds, fence, lane),
            )
            return Lease(key=lane, owner=owner, fence=fence)

        return await self.database.write("lease-lane", work)

    async def release_lane(self, lease: Lease) -> None:
        """See bot.ports.Queue. A lease that was lost has nothing to give back."""

        def work(conn: Connection) -> None:
            conn.execute(
                "UPDATE lanes SET owner = '', expires = 0 WHERE key = ? AND owner = ? AND fence = ?",
                (lease.key, lease.owner, lease.fence),
            )

        await self.database.write("release-lane", work)

    async def decide(self, lease: Lease, event: BaseModel, decision: LaneDecision, now: datetime) -> None:
        """See bot.ports.Queue."""
        kind = str(getattr(event, "kind", type(event).__name__))
        event_text, text = event.model_dump_json(by_alias=True), decision.model_dump_json(by_alias=True)

        def work(conn: Connection) -> None:
            _check_lease(conn, lease)
            old = entries.lane_of(conn, lease.key)
            if decision.lane.key != lease.key or old.version != decision.lane.version - 1:
                raise Stale(f"lane {lease.key} was decided on meanwhile")
            entries.save_lane(conn, decision.lane)
            for move in decision.moves:
                entries.apply_move(conn, lease.key, move, now)
            for index, emitted in enumerate(decision.emits):
                key = f"lane:{lease.key}:{decision.lane.version}:{index}"
                inbox.put_for(conn, emitted.ticket, key, emitted, now)
            audit.append(
                conn,
                now,
                lease.key,
                kind,
                event=event_text,
                decision=text,
                before=old.state,
                after=decision.lane.state,
                why=decision.why,
                actor=getattr(getattr(event, "by", None), "login", ""),
            )

        await self.database.write(f"lane:{kind}", work)

    # --- verdicts -------------------------------------------------------------------------------------------
    async def verdict(self, tree: Sha, checks: str) -> CheckVerdict | None:
        """See bot.ports.Queue."""
        row = await self.database.row("SELECT body FROM verdicts WHERE tree = ? AND checks = ?", tree, checks)
        if row is None:
            return None
        kept = _KeptVerdict.model_validate_json(row["body"])
        return CheckVerdict(kept.outcome, kept.evidence, kept.seconds, kept.summary)

    async def keep_verdict(self, tree: Sha, checks: str, verdict: CheckVerdict, now: datetime) -> None:
        """See bot.ports.Queue."""
        if verdict.outcome == "unknown":
            return
        kept = _KeptVerdict(
            outcome=verdict.outcome, evidence=verdict.evidence, seconds=verdict.seconds, summary=verdict.summary
        )

        def work(conn: Connection) -> None:
            conn.execute(
                "INSERT OR REPLACE INTO verdicts (tree, checks, body, at) VALUES (?, ?, ?, ?)",
                (tree, checks, kept.model_dump_json(), to_ms(now)),
            )

        await self.database.write("verdict", work)
