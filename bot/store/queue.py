"""The merge queue as the lander sees it (`bot.ports.Queue`), on the tables of bot.store.entries and the lanes."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from pydantic import TypeAdapter

from bot.errors import Stale
from bot.ports import CheckVerdict, Lease
from bot.store import audit, inbox
from bot.store.connection import Connection, Row, from_ms, to_ms, update, upsert
from bot.store.database import Part
from bot.store.entries import (
    AGAIN,
    ORDER,
    SELECT,
    WHOLE,
    apply_move,
    enqueue,
    entry_of,
    fresh_lane,
    make_lane,
    save_lane,
)
from schemas import lane as q
from schemas.base import Sha
from schemas.decision import LaneDecision

VERDICT: Final = TypeAdapter(CheckVerdict)
_DUE: Final = f"WHERE e.lane = ? AND e.state = 'queued' AND e.due_at <= ? ORDER BY {ORDER} LIMIT ?"

_HELD: Final = "key = ? AND owner = ? AND fence = ?"


def _held(conn: Connection, lease: Lease) -> Row:
    """The leased lane's version and state. Raises Stale if the lease was lost."""
    sql = f"SELECT version, state FROM lanes WHERE {_HELD}"
    row: Row | None = conn.execute(sql, (lease.key, lease.owner, lease.fence)).fetchone()
    if row is None:
        raise Stale(f"the lease of lane {lease.key} was lost: another lander has it now")
    return row


class QueueTables(Part):
    """All writes are durable when they return."""

    # --- entries --------------------------------------------------------------------------------------------
    async def enqueue(self, new: Sequence[q.NewEntry], now: datetime) -> Sequence[tuple[str, bool]]:
        """Add entries in the order given; (id, False) if the id is known with another body. Lanes are made as needed."""
        return await self.database.write("enqueue", lambda conn: [(one.id, enqueue(conn, one, now)) for one in new])

    async def retry(self, lane: str, ids: Sequence[str], now: datetime) -> int:
        """Queue entries again that are in rework or quarantine, at their old place; returns how many."""
        sql = f"UPDATE entries SET {AGAIN} WHERE lane = ? AND id = ? AND state IN ('rework', 'quarantined')"
        values = [(to_ms(now), lane, name) for name in ids]
        return await self.database.write("retry", lambda conn: conn.executemany(sql, values).rowcount)

    async def due_entries(self, lane: str, limit: int, now: datetime) -> Sequence[q.Entry]:
        """See bot.ports.Queue; the order is `ORDER`."""
        return await self._entries(WHOLE, _DUE, lane, to_ms(now), limit)

    async def due_ids(self, lane: str, limit: int, now: datetime) -> Sequence[str]:
        """See bot.ports.Queue."""
        rows = await self.database.rows(f"SELECT e.id FROM entries e {_DUE}", lane, to_ms(now), limit)
        return [row["id"] for row in rows]

    async def entries(self, lane: str, ids: Sequence[str], *, whole: bool = False) -> Sequence[q.Entry]:
        """See bot.ports.Queue; `whole` brings the change requests too. Ids that the lane does not have are left out."""
        where = f"WHERE lane = ? AND id IN ({', '.join('?' * len(ids))})"
        found = {entry.id: entry for entry in await self._entries(WHOLE if whole else SELECT, where, lane, *ids)}
        return [found[name] for name in ids if name in found]

    async def report(self, lane: str) -> Sequence[q.Entry]:
        """Every entry that this lane ever had, in order of acceptance, without what it would change."""
        return await self._entries(SELECT, "WHERE lane = ? ORDER BY e.seq", lane)

    async def _entries(self, select: str, where: str, *values: object) -> list[q.Entry]:
        return [entry_of(row) for row in await self.database.rows(select + where, *values)]

    async def begin(self, lease: Lease, ids: Sequence[str], now: datetime) -> None:
        """See bot.ports.Queue."""

        def work(conn: Connection) -> None:
            _held(conn, lease)
            marks = ", ".join("?" * len(ids))
            conn.execute(
                f"UPDATE entries SET deliveries = deliveries + 1 WHERE lane = ? AND id IN ({marks})", (lease.key, *ids)
            )

        await self.database.write("begin", work)

    # --- lanes ----------------------------------------------------------------------------------------------
    async def busy_lanes(self, now: datetime) -> Sequence[str]:
        """See bot.ports.Queue. A frozen lane is busy too: it sees by trying again that its head has moved."""
        sql = """SELECT key FROM lanes l WHERE (train = 1 AND due_at <= ?1) OR (train = 0 AND state <> 'paused' AND EXISTS
            (SELECT 1 FROM entries e WHERE e.lane = l.key AND e.state = 'queued' AND e.due_at <= ?1)) ORDER BY key"""
        return [row["key"] for row in await self.database.rows(sql, to_ms(now))]

    async def next_due(self) -> datetime | None:
        """See bot.ports.Queue."""
        sql = """SELECT MIN(due_at) AS due_at FROM (SELECT due_at FROM lanes WHERE due_at > 0 AND state <> 'paused'
            UNION ALL SELECT * FROM (SELECT e.due_at FROM entries e JOIN lanes l ON l.key = e.lane
            WHERE e.state = 'queued' AND l.state <> 'paused' AND l.train = 0 ORDER BY e.due_at LIMIT 1))"""
        row = await self.database.row(sql)
        return from_ms(row["due_at"]) if row and row["due_at"] is not None else None

    async def lane(self, key: str) -> q.Lane:
        """See bot.ports.Queue."""
        found = await self.database.models(q.Lane, "SELECT body FROM lanes WHERE key = ?", key)
        return found[0] if found else fresh_lane(key)

    async def lease_lane(self, lane: str, owner: str, seconds: float) -> Lease | None:
        """See bot.ports.Queue. None as well while this owner's own lease runs: a lane is driven once."""
        boot, boot_id = self._clock.boot(), self._clock.boot_id()

        def work(conn: Connection) -> Lease | None:
            sql = "SELECT owner, boot_id, expires, fence FROM lanes WHERE key = ?"
            row = conn.execute(sql, (lane,)).fetchone()
            if row is None:
                make_lane(conn, lane)
                row = conn.execute(sql, (lane,)).fetchone()
            if row["owner"] and row["boot_id"] == boot_id and row["expires"] > boot:
                return None
            lease = Lease(key=lane, owner=owner, fence=row["fence"] + 1)
            expires, fence = boot + seconds, lease.fence
            update(conn, "lanes", "key = ?", lane, owner=owner, boot_id=boot_id, expires=expires, fence=fence)
            return lease

        return await self.database.write("lease-lane", work)

    async def release_lane(self, lease: Lease) -> None:
        """See bot.ports.Queue. A lease that was lost has nothing to give back."""
        held = (lease.key, lease.owner, lease.fence)
        await self.database.write("release-lane", lambda conn: update(conn, "lanes", _HELD, *held, owner="", expires=0))

    async def decide(self, lease: Lease, event: q.LaneEvent, decision: LaneDecision, now: datetime) -> None:
        """See bot.ports.Queue."""
        event_text, text = event.model_dump_json(by_alias=True), decision.model_dump_json(by_alias=True)

        def work(conn: Connection) -> None:
            old = _held(conn, lease)
            if decision.lane.key != lease.key or old["version"] != decision.lane.version - 1:
                raise Stale(f"lane {lease.key} was decided on meanwhile")
            save_lane(conn, decision.lane)
            for move in decision.moves:
                apply_move(conn, lease.key, move, now)
            for index, emitted in enumerate(decision.emits):
                key = f"lane:{lease.key}:{decision.lane.version}:{index}"
                inbox.put_for(conn, emitted.ticket, key, emitted, now)
            state, why = decision.lane.state, decision.why
            record = audit.Record(lease.key, event.kind, event_text, text, before=old["state"], after=state, why=why)
            audit.append(conn, now, record)

        await self.database.write(f"lane:{event.kind}", work)

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
