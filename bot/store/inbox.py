"""Deliveries as they were stored before their answer, and the events that wait for a decision.

An event's key is unique for ever: a repeat of it is nothing, whatever became of the first. An event for an
issue finds the issue's open ticket; a label on an issue without one reserves the id of the ticket that it may
open, so that what follows the label at once is kept for it.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from pydantic import TypeAdapter

from bot.ports import Delivery, Due
from bot.store.connection import Connection, insert, insert_new, to_ms, update
from bot.store.database import Part
from schemas.events import Address, Addressed, Event, IssueLabelled
from schemas.ticket import Ticket

EVENT: Final[TypeAdapter[Event]] = TypeAdapter(Event)
_OPEN: Final = """SELECT id FROM tickets WHERE open = 1 AND (:base_ref IS NULL OR base_ref = :base_ref)
    AND CASE WHEN :installation THEN iif(body = '', 0, json_extract(body, '$.installation')) = :installation
        ELSE repo_id = :repo_id END ORDER BY opened_at, id"""
"""All open tickets of a repository, on one of its branches, or of an installation."""

PATIENCE: Final = 3
"""How often a delivery is postponed before later ones may overtake it: a comment must not overtake its label
because of a hiccup, nor one broken installation hold up all others."""


def put_for(conn: Connection, ticket: str, key: str, event: Event, now: datetime) -> bool:
    """Store one event for one ticket, or as discarded for none (""); False if its key is known."""
    body = event.model_copy(update={"ticket": ticket}).model_dump_json(by_alias=True) if ticket else ""
    state, why = ("pending", "") if ticket else ("discarded", "for no open ticket")
    return insert_new(
        conn, "events", key=key, ticket=ticket, kind=event.kind, body=body, at=to_ms(now), state=state, why=why
    )


def _put(conn: Connection, item: Addressed, now: datetime) -> int:
    """Find an event's tickets and store it; returns for how many it is new."""
    if item.to is None:
        if not item.event.ticket:
            raise ValueError(f"event {item.key} names neither a ticket nor an address")
        return put_for(conn, item.event.ticket, item.key, item.event, now)
    if item.to.issue is not None:
        if conn.execute("SELECT 1 FROM events WHERE key = ?", (item.key,)).fetchone():
            return 0  # before an id is reserved for it
        return put_for(conn, _ticket_for(conn, item.to, item.event, now), item.key, item.event, now)
    tickets = [row["id"] for row in conn.execute(_OPEN, item.to.model_dump())]
    return sum(put_for(conn, ticket, f"{item.key}@{ticket}", item.event, now) for ticket in tickets)


def _named(name: str, generation: int) -> str:
    return f"{name}~{generation}" if generation > 1 else name


def _ticket_for(conn: Connection, to: Address, event: Event, now: datetime) -> str:
    """The open ticket of an issue (or of one generation of it), for a late event the newest; a new one for a label, or
    none ("")."""
    sql = "SELECT id, generation, open FROM tickets WHERE repo_id = ? AND issue = ? ORDER BY generation DESC"
    known = conn.execute(sql, (to.repo_id, to.issue)).fetchall()
    for row in known:
        if (row["open"] or event.late) and to.generation in (None, row["generation"]):
            return str(row["id"])
    if not isinstance(event, IssueLabelled):
        return ""
    generation = known[0]["generation"] + 1 if known else 1
    # The printed name is the one at the issue's first ticket, whatever the repository is called by now; a repository that
    # was renamed may have left its name, and with it the ids, to another one.
    name = str(known[-1]["id"]).partition("~")[0] if known else f"{event.repo.full_name}#{event.issue}"
    while conn.execute("SELECT 1 FROM tickets WHERE id = ?", (ticket := _named(name, generation),)).fetchone():
        generation += 1
    insert(
        conn, "tickets", id=ticket, repo_id=to.repo_id, issue=event.issue, generation=generation, state="reserved",
        open=1, base_ref="", version=-1, opened_at=to_ms(now), body="",
    )  # fmt: skip
    return ticket


class Inbox(Part):
    """The part of `bot.ports.Store` that takes things in."""

    async def keep_delivery(self, guid: str, event: str, body: bytes, now: datetime) -> bool:
        """See bot.ports.Store."""
        digest, at = hashlib.sha256(body).hexdigest(), to_ms(now)

        def work(conn: Connection) -> bool:
            # GitHub's signature does not cover the guid, so a replay may come under a new one. Buttons are left out:
            # pressing one again says the same thing, and means it.
            sql = "SELECT 1 FROM deliveries WHERE digest = ? AND event = ? AND event <> 'check_run'"
            return not conn.execute(sql, (digest, event)).fetchone() and insert_new(
                conn, "deliveries", guid=guid, event=event, body=body, digest=digest, received_at=at, due_at=at
            )

        return await self.database.write("delivery", work)

    async def known_delivery(self, guid: str) -> bool:
        """Whether a delivery of this guid was ever stored."""
        return await self.database.row("SELECT 1 FROM deliveries WHERE guid = ?", guid) is not None

    async def awaited(self, to: Address, *, late: bool = False) -> bool:
        """See bot.ports.Store."""
        sql = "SELECT 1 FROM tickets WHERE repo_id = ? AND issue = ? AND (open = 1 OR ?)"
        return await self.database.row(sql, to.repo_id, to.issue, late) is not None

    async def next_delivery(self, now: datetime) -> Delivery | None:
        """See bot.ports.Store. A postponed delivery holds up later ones, until its PATIENCE is used up."""
        sql = """SELECT seq, guid, event, body, due_at FROM deliveries WHERE state = 'pending'
            AND (tries <= ? OR due_at <= ?) ORDER BY seq LIMIT 1"""
        row = await self.database.row(sql, PATIENCE, to_ms(now))
        if row is None or row["due_at"] > to_ms(now):
            return None
        return Delivery(row["seq"], row["guid"], row["event"], row["body"])

    async def take_delivery(self, seq: int, events: Sequence[Addressed], now: datetime) -> None:
        """See bot.ports.Store. The raw body is not kept any longer, only its digest."""

        def work(conn: Connection) -> None:
            if update(conn, "deliveries", "seq = ? AND state = 'pending'", seq, state="done", body=b""):
                for item in events:
                    _put(conn, item, now)

        await self.database.write("translate", work)

    async def postpone_delivery(self, seq: int, error: str, until: datetime) -> None:
        """See bot.ports.Store."""
        sql = "UPDATE deliveries SET error = ?, due_at = ?, tries = tries + 1 WHERE seq = ?"
        values = (error, to_ms(until), seq)
        await self.database.write("postpone-delivery", lambda conn: conn.execute(sql, values).rowcount)

    async def put(self, events: Sequence[Addressed], now: datetime) -> int:
        """Put events into the inbox; returns how many were new."""
        return await self.database.write("put", lambda conn: sum(_put(conn, item, now) for item in events))

    async def due_tickets(self) -> Sequence[str]:
        """See bot.ports.Store; the one that has waited longest comes first."""
        sql = "SELECT ticket FROM events WHERE state = 'pending' GROUP BY ticket ORDER BY MIN(seq)"
        return [row["ticket"] for row in await self.database.rows(sql)]

    async def next_event(self, ticket: str) -> Due | None:
        """See bot.ports.Store. Event and ticket are of one snapshot."""
        sql = """SELECT e.seq, e.body, t.body AS ticket FROM events e LEFT JOIN tickets t ON t.id = e.ticket
            WHERE e.ticket = ? AND e.state = 'pending' ORDER BY e.seq LIMIT 1"""
        row = await self.database.row(sql, ticket)
        if row is None:
            return None
        known = Ticket.model_validate_json(row["ticket"]) if row["ticket"] else None
        return Due(seq=row["seq"], event=EVENT.validate_json(row["body"]), ticket=known)
