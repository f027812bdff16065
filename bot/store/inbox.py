"""Deliveries as they were stored before their answer, and events waiting for a decision."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import TypeAdapter

from bot.store.audit import to_ms
from bot.store.database import Connection
from schemas.events import Address, Addressed, Event, IssueLabelled

EVENT: TypeAdapter[Event] = TypeAdapter(Event)


def keep_delivery(conn: Connection, guid: str, event: str, body: bytes, now: datetime) -> bool:
    """True if this delivery was not stored before."""
    done = conn.execute(
        "INSERT OR IGNORE INTO deliveries (guid, event, body, received_ms, due_ms) VALUES (?, ?, ?, ?, ?)",
        (guid, event, body, to_ms(now), to_ms(now)),
    )
    return bool(done.rowcount)


def put(conn: Connection, events: Sequence[Addressed], now: datetime) -> int:
    """Find each event's ticket and store it; returns how many were new."""
    return sum(put_for(conn, ticket, item, now) for item in events for ticket in _tickets(conn, item))


def put_for(conn: Connection, ticket: str, item: Addressed, now: datetime) -> int:
    """Store one event for one ticket; a repeat of its key is nothing."""
    event = item.event.model_copy(update={"ticket": ticket})
    state = "pending" if ticket else "discarded"
    done = conn.execute(
        "INSERT OR IGNORE INTO events (key, ticket, kind, body, at_ms, state, why) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            item.key,
            ticket,
            event.kind,
            event.model_dump_json(),
            to_ms(now),
            state,
            "" if ticket else "for no open ticket",
        ),
    )
    return int(done.rowcount)


def _tickets(conn: Connection, item: Addressed) -> list[str]:
    if item.to is None:
        return [item.event.ticket]
    if item.to.base_ref is not None:
        found = conn.execute(
            "SELECT id FROM tickets WHERE repo_id = ? AND base_ref = ? AND open = 1 ORDER BY opened_ms",
            (item.to.repo_id, item.to.base_ref),
        )
        return [row["id"] for row in found]
    return [_ticket(conn, item.to, item.event)]


def _ticket(conn: Connection, to: Address, event: Event) -> str:
    """The open ticket of an issue; for a label on an issue without one, the id that the new one will have."""
    known = conn.execute(
        "SELECT id, generation, open FROM tickets WHERE repo_id = ? AND issue = ? ORDER BY generation DESC",
        (to.repo_id, to.issue),
    ).fetchall()
    for row in known:
        if row["generation"] == to.generation or (to.generation is None and row["open"]):
            return str(row["id"])
    if not isinstance(event, IssueLabelled):
        return ""
    if not known:
        return f"{event.repo.full_name}#{event.issue}"
    first = str(known[-1]["id"])
    return f"{first}~{known[0]['generation'] + 1}"
