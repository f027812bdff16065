"""The store as the loop and the lander see it (`bot.ports.Store` and `bot.ports.Queue`): each call one transaction."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import BaseModel

from bot.errors import Stale
from bot.ports import CheckVerdict, Clock, Delivery, Due, Faults, no_faults
from bot.store import audit, entries, inbox, outbox
from bot.store.audit import from_ms, to_ms
from bot.store.database import Connection, Database, check_fence
from schemas.base import Evidence, Frozen, Sha
from schemas.decision import Decision, LaneDecision
from schemas.effects import Effect
from schemas.events import Addressed, Event, Ticked
from schemas.lane import Entry, Lane, NewEntry
from schemas.lease import Lease
from schemas.ticket import Ticket


class _KeptVerdict(Frozen):
    outcome: str
    evidence: Evidence | None = None
    seconds: float = 0.0
    summary: str = ""


@asynccontextmanager
async def open_store(path: Path, clock: Clock, faults: Faults = no_faults) -> AsyncIterator[SqliteStore]:
    """Open the store at `path`. Raises Misconfigured if another process holds it or it is of a newer release."""
    database = await Database.open(path, faults)
    store = SqliteStore(database, clock)
    try:
        await store.take_back()
        yield store
    finally:
        await database.close()


class SqliteStore:
    """All durable state of one process. `owner` names this process in leases."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.database, self._clock = database, clock
        self.owner = f"{os.getpid()}@{clock.boot_id()}:{clock.boot():.3f}"

    async def take_back(self) -> None:
        """Void what earlier processes had leased: the process lock says that they are gone."""

        def work(conn: Connection) -> None:
            outbox.take_back(conn, self.owner)
            conn.execute("UPDATE lanes SET owner = '', expires = 0 WHERE owner <> ?", (self.owner,))

        await self.database.write("take-back", work)

    # --- deliveries and events ---------------------------------------------------------------------------------------
    async def keep_delivery(self, guid: str, event: str, body: bytes, now: datetime) -> bool:
        """See bot.ports.Store."""
        return await self.database.write("delivery", lambda c: inbox.keep_delivery(c, guid, event, body, now))

    async def known_delivery(self, guid: str) -> bool:
        """Whether this delivery was ever stored."""
        return await self.database.row("SELECT 1 FROM deliveries WHERE guid = ?", guid) is not None

    async def next_delivery(self, now: datetime) -> Delivery | None:
        """See bot.ports.Store."""
        row = await self.database.row(
            "SELECT seq, guid, event, body FROM deliveries WHERE done = 0 AND due_ms <= ? ORDER BY seq LIMIT 1", to_ms(now)
        )
        return Delivery(*row) if row else None

    async def take_delivery(self, seq: int, events: Sequence[Addressed], now: datetime) -> None:
        """See bot.ports.Store."""

        def work(conn: Connection) -> None:
            inbox.put(conn, events, now)
            conn.execute("UPDATE deliveries SET done = 1 WHERE seq = ?", (seq,))

        await self.database.write("translate", work)

    async def postpone_delivery(self, seq: int, error: str, until: datetime) -> None:
        """See bot.ports.Store."""
        await self.database.write(
            "postpone-delivery",
            lambda c: c.execute("UPDATE deliveries SET error = ?, due_ms = ? WHERE seq = ?", (error, to_ms(until), seq)),
        )

    async def put(self, events: Sequence[Addressed], now: datetime) -> int:
        """See bot.ports.Store."""
        return await self.database.write("put", lambda c: inbox.put(c, events, now))

    async def due_tickets(self) -> Sequence[str]:
        """See bot.ports.Store."""
        rows = await self.database.rows(
            "SELECT ticket, MIN(seq) AS first FROM events WHERE state = 'pending' GROUP BY ticket ORDER BY first"
        )
        return [row[0] for row in rows]

    async def next_event(self, ticket: str) -> Due | None:
        """See bot.ports.Store."""
        row = await self.database.row(
            "SELECT seq, body FROM events WHERE ticket = ? AND state = 'pending' ORDER BY seq LIMIT 1", ticket
        )
        if row is None:
            return None
        return Due(seq=row[0], event=inbox.EVENT.validate_json(row[1]), ticket=await self.ticket(ticket))

    async def commit(self, seq: int, decision: Decision, now: datetime) -> None:
        """See bot.ports.Store."""
        ticket = decision.ticket

        def work(conn: Connection) -> None:
            event = conn.execute("SELECT kind, body FROM events WHERE seq = ? AND state = 'pending'", (seq,)).fetchone()
            old = conn.execute("SELECT version, state FROM tickets WHERE id = ?", (ticket.id,)).fetchone()
            if event is None or (old["version"] if old else -1) != ticket.version - 1:
                raise Stale(f"{ticket.id} was decided on meanwhile")
            _save_ticket(conn, ticket)
            outbox.add(conn, decision.effects, now)
            for index, emitted in enumerate(decision.emits):
                inbox.put_for(conn, ticket.id, Addressed(key=f"{seq}:{index}", event=emitted), now)
            for name in decision.withdraw:
                entries.withdraw(conn, ticket.id, name)
            entries.enqueue(conn, decision.enqueue, now)
            for entry, by in decision.release:
                entries.release(conn, ticket.id, entry, by, now)
            conn.execute("UPDATE events SET state = 'decided' WHERE seq = ?", (seq,))
            parsed = inbox.EVENT.validate_json(event["body"])
            by = getattr(parsed, "by", None)
            audit.append(
                conn,
                now=now,
                subject=ticket.id,
                kind=event["kind"],
                event=event["body"],
                decision=decision.model_dump_json(),
                before=old["state"] if old else "",
                after=ticket.state,
                why=decision.why,
                actor=getattr(by, "login", ""),
            )

        kind = await self.database.row("SELECT kind FROM events WHERE seq = ?", seq)
        await self.database.write(f"decide:{kind[0] if kind else ''}", work)

    async def discard(self, seq: int, why: str, now: datetime) -> None:
        """See bot.ports.Store."""

        def work(conn: Connection) -> None:
            row = conn.execute("SELECT ticket, kind, body FROM events WHERE seq = ?", (seq,)).fetchone()
            conn.execute("UPDATE events SET state = 'discarded', why = ? WHERE seq = ?", (why, seq))
            audit.append(conn, now=now, subject=row["ticket"], kind=row["kind"], event=row["body"], why=why)

        await self.database.write("discard", work)

    async def wake(self, now: datetime) -> datetime | None:
        """See bot.ports.Store."""
        first = await self.database.row("SELECT MIN(wake_ms) FROM tickets WHERE wake_ms IS NOT NULL AND open = 1")
        if first is None or first[0] is None:
            return None
        if first[0] > to_ms(now):
            return from_ms(first[0])

        def work(conn: Connection) -> None:
            due = conn.execute(
                "SELECT id, wake_ms FROM tickets WHERE open = 1 AND wake_ms <= ?", (to_ms(now),)
            ).fetchall()
            for row in due:
                event = Ticked(ticket=row["id"], at=now)
                inbox.put_for(conn, row["id"], Addressed(key=f"tick:{row['wake_ms']}", event=event), now)
                conn.execute("UPDATE tickets SET wake_ms = NULL WHERE id = ?", (row["id"],))

        await self.database.write("wake", work)
        return from_ms(first[0])

    # --- effects -----------------------------------------------------------------------------------------------------
    async def lease(
        self, kinds: Collection[str], owner: str, seconds: float, now: datetime
    ) -> tuple[Lease, Effect] | None:
        """See bot.ports.Store."""
        marks = ", ".join("?" for _ in kinds)
        waiting = await self.database.row(
            f"SELECT 1 FROM outbox WHERE kind IN ({marks}) AND due_ms <= ? AND (state = 'pending' OR "
            "(state = 'leased' AND expires < ?)) LIMIT 1",
            *kinds, to_ms(now), self._clock.boot(),
        )  # fmt: skip
        if waiting is None:
            return None
        boot = self._clock.boot()
        return await self.database.write(
            "lease", lambda c: outbox.lease(c, kinds, self.owner, boot + seconds, boot, now)
        )

    async def extend(self, lease: Lease, seconds: float) -> None:
        """See bot.ports.Store."""
        expires = self._clock.boot() + seconds
        await self.database.write("extend", lambda c: outbox.extend(c, lease, expires))

    async def settle(self, lease: Lease, outcome: Event | None, now: datetime, *, shown: str = "") -> None:
        """See bot.ports.Store."""

        def work(conn: Connection) -> None:
            ticket = outbox.finish(conn, lease, "done")
            if outcome is not None:
                inbox.put_for(conn, ticket, Addressed(key=f"{lease.key}:{lease.fence}", event=outcome), now)
            if shown:
                audit.append(conn, now=now, subject=ticket, kind="shown", event=shown, why=lease.key)

        await self.database.write(f"settle:{outcome.kind if outcome else 'effect'}", work)

    async def nack(self, lease: Lease, error: str, retry_in: float, now: datetime, *, counts: bool = True) -> None:
        """See bot.ports.Store."""
        due = now + timedelta(seconds=retry_in)
        await self.database.write("nack", lambda c: outbox.nack(c, lease, error, due, now, counts=counts))

    async def refuse(self, lease: Lease, error: str, now: datetime) -> None:
        """See bot.ports.Store."""
        await self.database.write("refuse", lambda c: outbox.give_up(c, lease, error, now))

    # --- tickets -----------------------------------------------------------------------------------------------------
    async def ticket(self, ticket: str) -> Ticket | None:
        """See bot.ports.Store."""
        row = await self.database.row("SELECT body FROM tickets WHERE id = ?", ticket)
        return Ticket.model_validate_json(row[0]) if row else None

    async def open_tickets(self, repo_id: int) -> Sequence[Ticket]:
        """See bot.ports.Store."""
        rows = await self.database.rows(
            "SELECT body FROM tickets WHERE open = 1 AND repo_id = ? ORDER BY opened_ms, id", repo_id
        )
        return [Ticket.model_validate_json(row[0]) for row in rows]

    async def tickets(self) -> Sequence[Ticket]:
        """Every ticket, in order of opening."""
        rows = await self.database.rows("SELECT body FROM tickets ORDER BY opened_ms, id")
        return [Ticket.model_validate_json(row[0]) for row in rows]

    # --- the merge queue ---------------------------------------------------------------------------------------------
    async def enqueue(self, new: Sequence[NewEntry], now: datetime) -> Sequence[tuple[str, bool]]:
        """See bot.ports.Queue."""
        return await self.database.write("enqueue", lambda c: entries.enqueue(c, new, now))

    async def busy_lanes(self, now: datetime) -> Sequence[str]:
        """See bot.ports.Queue."""
        rows = await self.database.rows(
            "SELECT key FROM lanes WHERE train = 1 UNION SELECT DISTINCT e.lane FROM entries e "
            "JOIN lanes l ON l.key = e.lane WHERE e.state = 'queued' AND e.due_ms <= ? AND l.state <> 'paused'", to_ms(now)
        )  # fmt: skip
        return [row[0] for row in rows]

    async def next_due(self) -> datetime | None:
        """See bot.ports.Queue."""
        row = await self.database.row(
            "SELECT MIN(e.due_ms) FROM entries e JOIN lanes l ON l.key = e.lane "
            "WHERE e.state = 'queued' AND l.state <> 'paused'"
        )
        return from_ms(row[0]) if row and row[0] is not None else None

    async def lease_lane(self, lane: str, owner: str, seconds: float) -> Lease | None:
        """See bot.ports.Queue."""
        boot = self._clock.boot()

        def work(conn: Connection) -> Lease | None:
            if conn.execute("SELECT 1 FROM lanes WHERE key = ?", (lane,)).fetchone() is None:
                entries.save_lane(conn, entries.lane_of(conn, lane))
            row = conn.execute("SELECT owner, expires, fence FROM lanes WHERE key = ?", (lane,)).fetchone()
            if row["owner"] and row["expires"] > boot:
                return None
            conn.execute(
                "UPDATE lanes SET owner = ?, expires = ?, fence = fence + 1 WHERE key = ?",
                (self.owner, boot + seconds, lane),
            )
            return Lease(key=lane, owner=self.owner, fence=row["fence"] + 1)

        return await self.database.write("lease-lane", work)

    async def release_lane(self, lease: Lease) -> None:
        """See bot.ports.Queue."""
        await self.database.write(
            "release-lane",
            lambda c: c.execute(
                "UPDATE lanes SET owner = '', expires = 0 WHERE key = ? AND owner = ? AND fence = ?",
                (lease.key, lease.owner, lease.fence),
            ),
        )

    async def lane(self, key: str) -> Lane:
        """See bot.ports.Queue."""
        row = await self.database.row("SELECT body FROM lanes WHERE key = ?", key)
        return Lane.model_validate_json(row[0]) if row else Lane(key=key, ref=key.split(":", 1)[1])

    async def lanes(self) -> Sequence[Lane]:
        """Every lane."""
        return [Lane.model_validate_json(row[0]) for row in await self.database.rows("SELECT body FROM lanes")]

    async def due_entries(self, lane: str, limit: int, now: datetime) -> Sequence[Entry]:
        """See bot.ports.Queue."""
        return await self._entries(entries.DUE_SQL, lane, to_ms(now), to_ms(now), limit)

    async def entries(self, lane: str, ids: Sequence[str]) -> Sequence[Entry]:
        """See bot.ports.Queue."""
        marks = ", ".join("?" for _ in ids)
        found = await self._entries(f"SELECT * FROM entries WHERE lane = ? AND id IN ({marks})", lane, *ids)
        by_id = {entry.id: entry for entry in found}
        return [by_id[name] for name in ids if name in by_id]

    async def report(self, lane: str) -> Sequence[Entry]:
        """See bot.ports.Queue."""
        return await self._entries("SELECT * FROM entries WHERE lane = ? ORDER BY seq", lane)

    async def _entries(self, sql: str, *values: object) -> list[Entry]:
        async with self.database.reading() as reader, reader.execute(sql, values) as cursor:
            names = [column[0] for column in cursor.description]
            return [entries.entry_of(dict(zip(names, row, strict=True))) async for row in cursor]

    async def begin(self, lease: Lease, ids: Sequence[str], now: datetime) -> None:
        """See bot.ports.Queue."""

        def work(conn: Connection) -> None:
            _check_lane(conn, lease)
            for name in ids:
                conn.execute(
                    "UPDATE entries SET deliveries = deliveries + 1 WHERE lane = ? AND id = ?", (lease.key, name)
                )

        await self.database.write("begin", work)

    async def decide(self, lease: Lease, event: BaseModel, decision: LaneDecision, now: datetime) -> None:
        """See bot.ports.Queue."""
        kind = str(getattr(event, "kind", "lane"))

        def work(conn: Connection) -> None:
            _check_lane(conn, lease)
            old = entries.lane_of(conn, lease.key)
            if old.version != decision.lane.version - 1:
                raise Stale(f"lane {lease.key} was decided on meanwhile")
            entries.save_lane(conn, decision.lane)
            for move in decision.moves:
                entries.apply_move(conn, lease.key, move, now)
            for index, emitted in enumerate(decision.emits):
                key = f"lane:{lease.key}:{decision.lane.version}:{index}"
                inbox.put_for(conn, emitted.ticket, Addressed(key=key, event=emitted), now)
            audit.append(
                conn,
                now=now,
                subject=lease.key,
                kind=kind,
                event=event.model_dump_json(),
                decision=decision.model_dump_json(),
                before=old.state,
                after=decision.lane.state,
                why=decision.why,
            )

        await self.database.write(f"lane:{kind}", work)

    async def verdict(self, tree: Sha, checks: str) -> CheckVerdict | None:
        """See bot.ports.Queue."""
        row = await self.database.row("SELECT body FROM verdicts WHERE tree = ? AND checks = ?", tree, checks)
        if row is None:
            return None
        kept = _KeptVerdict.model_validate_json(row[0])
        outcome = "green" if kept.outcome == "green" else "red"
        return CheckVerdict(outcome, kept.evidence, kept.seconds, kept.summary)  # type: ignore[arg-type]

    async def keep_verdict(self, tree: Sha, checks: str, verdict: CheckVerdict, now: datetime) -> None:
        """See bot.ports.Queue."""
        if verdict.outcome == "unknown":
            return
        kept = _KeptVerdict(
            outcome=verdict.outcome, evidence=verdict.evidence, seconds=verdict.seconds, summary=verdict.summary
        )
        await self.database.write(
            "verdict",
            lambda c: c.execute(
                "INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?)", (tree, checks, kept.model_dump_json(), to_ms(now))
            ),
        )

    # --- odds and ends -----------------------------------------------------------------------------------------------
    async def meta(self, key: str) -> str | None:
        """A remembered fact about this database."""
        row = await self.database.row("SELECT value FROM meta WHERE key = ?", key)
        return str(row[0]) if row else None

    async def set_meta(self, key: str, value: str) -> None:
        """Remember a fact about this database."""
        await self.database.write(
            "meta", lambda c: c.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))
        )


def _check_lane(conn: Connection, lease: Lease) -> None:
    row = conn.execute("SELECT owner, fence FROM lanes WHERE key = ?", (lease.key,)).fetchone()
    check_fence(row, lease.fence, lease.owner)


def _save_ticket(conn: Connection, ticket: Ticket) -> None:
    conn.execute(
        "INSERT INTO tickets (id, repo_id, issue, generation, state, open, base_ref, version, wake_ms, opened_ms, body) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET state = excluded.state, "
        "open = excluded.open, base_ref = excluded.base_ref, version = excluded.version, wake_ms = excluded.wake_ms, "
        "body = excluded.body",
        (
            ticket.id,
            ticket.repo.id,
            ticket.issue,
            ticket.generation,
            ticket.state,
            int(ticket.open),
            ticket.base_ref,
            ticket.version,
            to_ms(ticket.wake_at) if ticket.wake_at else None,
            to_ms(ticket.opened_at),
            ticket.model_dump_json(),
        ),
    )
