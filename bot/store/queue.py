"""The merge queue's tables as the lander sees them (`bot.ports.Queue`)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from pydantic import BaseModel, TypeAdapter

from bot.errors import Stale
from bot.ports import CheckVerdict, Lease
from bot.store import audit, entries, inbox
from bot.store.connection import Connection, Row, from_ms, to_ms, update, upsert
from bot.store.database import Part
from schemas.base import Sha
from schemas.decision import LaneDecision
from schemas.lane import Entry, Lane, NewEntry

VERDICT: Final = TypeAdapter(CheckVerdict)


def _held(conn: Connection, lease: Lease) -> Row:
    """The leased lane's version and state. Raises Stale if the lease was lost."""
    sql = "SELECT version, state FROM lanes WHERE key = ? AND owner = ? AND fence = ?"
    row: Row | None = conn.execute(sql, (lease.key, lease.owner, lease.fence)).fetchone()
    if row is None:
        raise Stale(f"the lease of lane {lease.key} was lost: another lander has it now")
    return row


class QueueTables(Part):
    """All writes are durable when they return."""

    # --- entries --------------------------------------------------------------------------------------------
    async def enqueue(self, new: Sequence[NewEntry], now: datetime) -> Sequence[tuple[str, bool]]:
        """Add entries in the order given; (id, False) if the id is known with another body. Lanes are made as needed."""

        def work(conn: Connection) -> list[tuple[str, bool]]:
            return [(entry.id, entries.enqueue(conn, entry, now)) for entry in new]

        return await self.database.write("enqueue", work)

    async def retry(self, lane: str, ids: Sequence[str], now: datetime) -> int:
        """Queue entries again that are in rework or quarantine, at their old place; returns how many."""
        return await self.database.write("retry", lambda conn: entries.retry(conn, lane, ids, now))

    async def due_entries(self, lane: str, limit: int, now: datetime) -> Sequence[Entry]:
        """See bot.ports.Queue; the order is `bot.store.entries.ORDER`."""
        where = f"WHERE lane = ? AND state = 'queued' AND due_at <= ? ORDER BY {entries.ORDER} LIMIT ?"
        return await self._entries(where, lane, to_ms(now), limit)

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
            _held(conn, lease)
            sql = "UPDATE entries SET deliveries = deliveries + 1 WHERE lane = ? AND id = ?"
            conn.executemany(sql, [(lease.key, name) for name in ids])

        await self.database.write("begin", work)

    # --- lanes ----------------------------------------------------------------------------------------------
    async def busy_lanes(self, now: datetime) -> Sequence[str]:
        """See bot.ports.Queue. A frozen lane is busy too: it sees by trying again that its head has moved."""
        sql = """SELECT key FROM lanes l WHERE train = 1 OR (state <> 'paused' AND EXISTS (SELECT 1
            FROM entries e WHERE e.lane = l.key AND e.state = 'queued' AND e.due_at <= ?)) ORDER BY key"""
        return [row["key"] for row in await self.database.rows(sql, to_ms(now))]

    async def next_due(self) -> datetime | None:
        """See bot.ports.Queue."""
        sql = """SELECT e.due_at FROM entries e JOIN lanes l ON l.key = e.lane
            WHERE e.state = 'queued' AND l.state <> 'paused' ORDER BY e.due_at LIMIT 1"""
        row = await self.database.row(sql)
        return from_ms(row["due_at"]) if row else None

    async def lane(self, key: str) -> Lane:
        """See bot.ports.Queue."""
        found = await self.database.models(Lane, "SELECT body FROM lanes WHERE key = ?", key)
        return found[0] if found else entries.fresh_lane(key)

    async def lease_lane(self, lane: str, owner: str, seconds: float) -> Lease | None:
        """See bot.ports.Queue. None as well while this owner's own lease runs: a lane is driven once."""
        boot, boot_id = self._clock.boot(), self._clock.boot_id()

        def work(conn: Connection) -> Lease | None:
            entries.make_lane(conn, lane)
            row = conn.execute("SELECT owner, boot_id, expires, fence FROM lanes WHERE key = ?", (lane,)).fetchone()
            if row["owner"] and row["boot_id"] == boot_id and row["expires"] > boot:
                return None
            lease = Lease(key=lane, owner=owner, fence=row["fence"] + 1)
            expires, fence = boot + seconds, lease.fence
            update(conn, "lanes", "key = ?", lane, owner=owner, boot_id=boot_id, expires=expires, fence=fence)
            return lease

        return await self.database.write("lease-lane", work)

    async def release_lane(self, lease: Lease) -> None:
        """See bot.ports.Queue. A lease that was lost has nothing to give back."""
        held, values = "key = ? AND owner = ? AND fence = ?", (lease.key, lease.owner, lease.fence)
        await self.database.write(
            "release-lane", lambda conn: update(conn, "lanes", held, *values, owner="", expires=0)
        )

    async def decide(self, lease: Lease, event: BaseModel, decision: LaneDecision, now: datetime) -> None:
        """See bot.ports.Queue."""
        kind = str(getattr(event, "kind", type(event).__name__))
        event_text, text = event.model_dump_json(by_alias=True), decision.model_dump_json(by_alias=True)

        def work(conn: Connection) -> None:
            old = _held(conn, lease)
            if decision.lane.key != lease.key or old["version"] != decision.lane.version - 1:
                raise Stale(f"lane {lease.key} was decided on meanwhile")
            entries.save_lane(conn, decision.lane)
            for move in decision.moves:
                entries.apply_move(conn, lease.key, move, now)
            for index, emitted in enumerate(decision.emits):
                key = f"lane:{lease.key}:{decision.lane.version}:{index}"
                inbox.put_for(conn, emitted.ticket, key, emitted, now)
            record = audit.Record(
                lease.key, kind, event_text, text, before=old["state"], after=decision.lane.state, why=decision.why,
                actor=getattr(getattr(event, "by", None), "login", ""),
            )  # fmt: skip
            audit.append(conn, now, record)

        await self.database.write(f"lane:{kind}", work)

    # --- verdicts -------------------------------------------------------------------------------------------
    async def verdict(self, tree: Sha, checks: str) -> CheckVerdict | None:
        """See bot.ports.Queue."""
        row = await self.database.row("SELECT body FROM verdicts WHERE tree = ? AND checks = ?", tree, checks)
        return VERDICT.validate_json(row["body"]) if row else None

    async def keep_verdict(self, tree: Sha, checks: str, verdict: CheckVerdict, now: datetime) -> None:
        """See bot.ports.Queue."""
        if verdict.outcome == "unknown":
            return
        body = VERDICT.dump_json(verdict).decode()

        def work(conn: Connection) -> None:
            upsert(conn, "verdicts", "tree, checks", tree=tree, checks=checks, body=body, at=to_ms(now))

        await self.database.write("verdict", work)
