"""Tickets, and their decisions: ticket, effects, events, queue entries and audit row in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from bot.errors import Stale
from bot.store import audit, entries, inbox, outbox
from bot.store.connection import Connection
from bot.store.database import Database
from bot.store.instants import from_ms, to_ms
from schemas.decision import Decision
from schemas.events import Ticked
from schemas.ticket import Ticket


def _save(conn: Connection, ticket: Ticket) -> None:
    conn.execute(
        "INSERT INTO tickets (id, repo_id, issue, generation, state, open, base_ref, version, wake_at, "
        "opened_at, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (id) DO UPDATE SET state = excluded.state, open = excluded.open, "
        "base_ref = excluded.base_ref, version = excluded.version, wake_at = excluded.wake_at, "
        "opened_at = excluded.opened_at, body = excluded.body",
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
            ticket.model_dump_json(by_alias=True),
        ),
    )


def _store(conn: Connection, seq: int, decision: Decision, text: str, now: datetime) -> None:
    ticket = decision.ticket
    event = conn.execute(
        "SELECT ticket, kind, body, json_extract(body, '$.by.login') AS actor FROM events "
        "WHERE seq = ? AND state = 'pending'",
        (seq,),
    ).fetchone()
    old = conn.execute("SELECT version, state FROM tickets WHERE id = ?", (ticket.id,)).fetchone()
    if event is None or event["ticket"] != ticket.id or (old["version"] if old else -1) != ticket.version - 1:
        raise Stale(f"{ticket.id} was decided on meanwhile")
    _save(conn, ticket)
    outbox.add(conn, decision.effects, now)
    for index, emitted in enumerate(decision.emits):
        inbox.put_for(conn, emitted.ticket or ticket.id, f"{seq}:{index}", emitted, now)
    for task in decision.withdraw:
        entries.withdraw(conn, ticket.id, task, now)
    for entry, (_, same) in zip(decision.enqueue, entries.enqueue(conn, decision.enqueue, now), strict=True):
        if not same:  # a ticket that waits for an entry which is not there would wait for ever
            inbox.put_for(conn, ticket.id, f"{seq}:known:{entry.id}", entries.known_otherwise(entry), now)
    for entry_id, by in decision.release:
        entries.release(conn, ticket.id, entry_id, by, now)
    # From here on its text is the chain's alone, where it can be erased.
    conn.execute("UPDATE events SET state = 'decided', body = '' WHERE seq = ?", (seq,))
    audit.append(
        conn,
        now,
        ticket.id,
        event["kind"],
        event=event["body"],
        decision=text,
        before=old["state"] if old and old["version"] >= 0 else "",
        after=ticket.state,
        why=decision.why,
        actor=event["actor"] or "",
    )


class Tickets:
    """The part of `bot.ports.Store` that decides."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def commit(self, seq: int, decision: Decision, now: datetime) -> None:
        """See bot.ports.Store."""

        def name(conn: Connection) -> str:
            row = conn.execute("SELECT kind FROM events WHERE seq = ?", (seq,)).fetchone()
            return f"decide:{row['kind'] if row else 'nothing'}"

        text = decision.model_dump_json(by_alias=True)
        await self.database.write(name, lambda conn: _store(conn, seq, decision, text, now))

    async def discard(self, seq: int, why: str, now: datetime) -> None:
        """See bot.ports.Store. Raises Stale if the event is decided already."""

        def work(conn: Connection) -> None:
            row = conn.execute(
                "SELECT ticket, kind, body, json_extract(body, '$.by.login') AS actor FROM events "
                "WHERE seq = ? AND state = 'pending'",
                (seq,),
            ).fetchone()
            if row is None:
                raise Stale(f"event {seq} was decided on meanwhile")
            conn.execute("UPDATE events SET state = 'discarded', body = '', why = ? WHERE seq = ?", (why, seq))
            audit.append(conn, now, row["ticket"], row["kind"], event=row["body"], why=why, actor=row["actor"] or "")

        await self.database.write("discard", work)

    async def wake(self, now: datetime) -> datetime | None:
        """See bot.ports.Store. An instant not after `now` means that some ticket was woken by this call."""
        first = await self.database.row("SELECT MIN(wake_at) AS at FROM tickets WHERE wake_at IS NOT NULL")
        if first is None or first["at"] is None:
            return None
        if first["at"] > to_ms(now):
            return from_ms(first["at"])

        def work(conn: Connection) -> None:
            woken = conn.execute(
                "SELECT id, wake_at, open FROM tickets WHERE wake_at <= ? ORDER BY wake_at, id", (to_ms(now),)
            ).fetchall()
            for row in woken:
                if row["open"]:
                    event = Ticked(ticket=row["id"], at=now)
                    inbox.put_for(conn, row["id"], f"tick:{row['id']}:{row['wake_at']}", event, now)
            conn.execute("UPDATE tickets SET wake_at = NULL WHERE wake_at <= ?", (to_ms(now),))

        await self.database.write("wake", work)
        return from_ms(first["at"])

    async def ticket(self, ticket: str) -> Ticket | None:
        """One ticket as it stands."""
        row = await self.database.row("SELECT body FROM tickets WHERE id = ? AND body <> ''", ticket)
        return Ticket.model_validate_json(row["body"]) if row else None

    async def open_tickets(self, repo_id: int) -> Sequence[Ticket]:
        """See bot.ports.Store."""
        rows = await self.database.rows(
            "SELECT body FROM tickets WHERE open = 1 AND repo_id = ? AND body <> '' ORDER BY opened_at, id", repo_id
        )
        return [Ticket.model_validate_json(row["body"]) for row in rows]

    async def tickets(self) -> Sequence[Ticket]:
        """Every ticket, in order of opening."""
        rows = await self.database.rows("SELECT body FROM tickets WHERE body <> '' ORDER BY opened_at, id")
        return [Ticket.model_validate_json(row["body"]) for row in rows]
