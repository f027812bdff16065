"""Deliveries as they were stored before their answer, and the events that wait for a decision.

An event's key is unique for ever: a repeat of it is nothing, whatever became of the first. An event for an
issue finds the issue's open ticket; a label on an issue without one reserves the id of the ticket that it may
open, so that what follows the label at once is kept for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from pydantic import TypeAdapter

from bot.ports import Delivery, Due
from bot.store.connection import Connection
from bot.store.database import Database
from bot.store.instants import to_ms
from schemas.events import Address, Addressed, Event, IssueLabelled
from schemas.ticket import Ticket

EVENT: Final[TypeAdapter[Event]] = TypeAdapter(Event)

PATIENCE: Final = 3
"""How often a delivery is postponed before later ones may overtake it: a comment must not overtake its label
because of a hiccup, nor one broken installation hold up all others."""


def put(conn: Connection, events: Sequence[Addressed], now: datetime) -> int:
    """Find each event's tickets and store it; returns how many were new."""
    return sum(_put_one(conn, item, now) for item in events)


def put_for(conn: Connection, ticket: str, key: str, event: Event, now: datetime) -> int:
    """Store one event for one ticket, or as discarded for none (""); 0 if its key is known."""
    event = event.model_copy(update={"ticket": ticket})
    done = conn.execute(
        "INSERT INTO events (key, ticket, kind, body, at, state, why) VALUES (?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (key) DO NOTHING",
        (
            key,
            ticket,
            event.kind,
            event.model_dump_json(by_alias=True) if ticket else "",
            to_ms(now),
            "pending" if ticket else "discarded",
            "" if ticket else "for no open ticket",
        ),
    )
    return done.rowcount


def _put_one(conn: Connection, item: Addressed, now: datetime) -> int:
    if item.to is None:
        if not item.event.ticket:
            raise ValueError(f"event {item.key} names neither a ticket nor an address")
        return put_for(conn, item.event.ticket, item.key, item.event, now)
    if item.to.base_ref is None:
        if conn.execute("SELECT 1 FROM events WHERE key = ?", (item.key,)).fetchone():
            return 0  # before an id is reserved for it
        return put_for(conn, _ticket_for(conn, item.to, item.event, now), item.key, item.event, now)
    tickets = conn.execute(
        "SELECT id FROM tickets WHERE repo_id = ? AND base_ref = ? AND open = 1 ORDER BY opened_at, id",
        (item.to.repo_id, item.to.base_ref),
    ).fetchall()
    return sum(put_for(conn, row["id"], f"{item.key}@{row['id']}", item.event, now) for row in tickets)


def _ticket_for(conn: Connection, to: Address, event: Event, now: datetime) -> str:
    """The open ticket of an issue (or of one generation of it), a new one for a label, or none ("")."""
    known = conn.execute(
        "SELECT id, generation, open FROM tickets WHERE repo_id = ? AND issue = ? ORDER BY generation DESC",
        (to.repo_id, to.issue),
    ).fetchall()
    for row in known:
        if row["open"] and to.generation in (None, row["generation"]):
            return str(row["id"])
    if not isinstance(event, IssueLabelled):
        return ""
    generation = known[0]["generation"] + 1 if known else 1
    # The printed name is the one at the issue's first ticket, whatever the repository is called by now.
    ticket = f"{known[-1]['id']}~{generation}" if known else f"{event.repo.full_name}#{event.issue}"
    conn.execute(
        "INSERT INTO tickets (id, repo_id, issue, generation, state, open, base_ref, version, opened_at, "
        "body) VALUES (?, ?, ?, ?, 'reserved', 1, '', -1, ?, '')",
        (ticket, to.repo_id, event.issue, generation, to_ms(now)),
    )
    return ticket


class Inbox:
    """The part of `bot.ports.Store` that takes things in."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def keep_delivery(self, guid: str, event: str, body: bytes, now: datetime) -> bool:
        """See bot.ports.Store."""
        digest = hashlib.sha256(body).hexdigest()

        def work(conn: Connection) -> bool:
            done = conn.execute(
                "INSERT INTO deliveries (guid, event, body, digest, received_at, due_at) "
                "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (guid) DO NOTHING",
                (guid, event, body, digest, to_ms(now), to_ms(now)),
            )
            return done.rowcount == 1

        return await self.database.write("delivery", work)

    async def known_delivery(self, guid: str) -> bool:
        """Whether a delivery of this guid was ever stored."""
        return await self.database.row("SELECT 1 FROM deliveries WHERE guid = ?", guid) is not None

    async def known_body(self, event: str, body: bytes) -> bool:
        """Whether a delivery of this event with exactly this body was ever stored, under whatever guid.

        The guid is not covered by GitHub's signature, so a replay may come with a new one.
        """
        digest = hashlib.sha256(body).hexdigest()
        return (
            await self.database.row("SELECT 1 FROM deliveries WHERE digest = ? AND event = ?", digest, event)
            is not None
        )

    async def next_delivery(self, now: datetime) -> Delivery | None:
        """See bot.ports.Store. A postponed delivery holds up later ones, until its PATIENCE is used up."""
        row = await self.database.row(
            "SELECT seq, guid, event, body, due_at FROM deliveries WHERE state = 'pending' "
            "AND (tries <= ? OR due_at <= ?) ORDER BY seq LIMIT 1",
            PATIENCE, to_ms(now),
        )  # fmt: skip
        if row is None or row["due_at"] > to_ms(now):
            return None
        return Delivery(row["seq"], row["guid"], row["event"], row["body"])

    async def take_delivery(self, seq: int, events: Sequence[Addressed], now: datetime) -> None:
        """See bot.ports.Store. The raw body is not kept any longer, only its digest."""

        def work(conn: Connection) -> None:
            done = conn.execute(
                "UPDATE deliveries SET state = 'done', body = x'' WHERE seq = ? AND state = 'pending'", (seq,)
            )
            if done.rowcount:
                put(conn, events, now)

        await self.database.write("translate", work)

    async def postpone_delivery(self, seq: int, error: str, until: datetime) -> None:
        """See bot.ports.Store."""

        def work(conn: Connection) -> None:
            conn.execute(
                "UPDATE deliveries SET error = ?, due_at = ?, tries = tries + 1 WHERE seq = ?",
                (error, to_ms(until), seq),
            )

        await self.database.write("postpone-delivery", work)

    async def put(self, events: Sequence[Addressed], now: datetime) -> int:
        """Put events into the inbox; returns how many were new."""
        return await self.database.write("put", lambda conn: put(conn, events, now))

    async def due_tickets(self) -> Sequence[str]:
        """See bot.ports.Store; the one that has waited longest comes first."""
        rows = await self.database.rows(
            "SELECT ticket, MIN(seq) AS first FROM events WHERE state = 'pending' GROUP BY ticket ORDER BY first"
        )
        return [row["ticket"] for row in rows]

    async def next_event(self, ticket: str) -> Due | None:
        """See bot.ports.Store. Event and ticket are of one snapshot."""
        row = await self.database.row(
            "SELECT e.seq, e.body, t.body AS ticket FROM events e LEFT JOIN tickets t ON t.id = e.ticket "
            "WHERE e.ticket = ? AND e.state = 'pending' ORDER BY e.seq LIMIT 1",
            ticket,
        )
        if row is None:
            return None
        known = Ticket.model_validate_json(row["ticket"]) if row["ticket"] else None
        return Due(seq=row["seq"], event=EVENT.validate_json(row["body"]), ticket=known)
