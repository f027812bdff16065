"""Tickets, and their decisions: ticket, effects, events, queue entries and audit row in one transaction."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from bot.errors import Stale
from bot.store import audit, entries, inbox, outbox
from bot.store.connection import Connection, from_ms, to_ms, update, upsert
from bot.store.database import Part
from schemas.decision import Decision
from schemas.events import Ticked
from schemas.ticket import Ticket

_PENDING: Final = """SELECT ticket, kind, body, COALESCE(json_extract(body, '$.by.login'), '') AS actor
    FROM events WHERE seq = ? AND state = 'pending'"""


def _store(conn: Connection, seq: int, decision: Decision, text: str, now: datetime) -> None:
    ticket = decision.ticket
    event = conn.execute(_PENDING, (seq,)).fetchone()
    old = conn.execute("SELECT version, state FROM tickets WHERE id = ?", (ticket.id,)).fetchone()
    if event is None or event["ticket"] != ticket.id or (old["version"] if old else -1) != ticket.version - 1:
        raise Stale(f"{ticket.id} was decided on meanwhile")
    upsert(
        conn, "tickets", "id", id=ticket.id, repo_id=ticket.repo.id, issue=ticket.issue, generation=ticket.generation,
        state=ticket.state, open=ticket.open, base_ref=ticket.base_ref, version=ticket.version,
        wake_at=to_ms(ticket.next_wake) if ticket.next_wake else None, opened_at=to_ms(ticket.opened_at),
        body=ticket.model_dump_json(by_alias=True),
    )  # fmt: skip
    outbox.make_room(conn, decision, now)
    outbox.add(conn, decision.effects, now)
    for index, emitted in enumerate(decision.emits):
        inbox.put_for(conn, emitted.ticket or ticket.id, f"{seq}:{index}", emitted, now)
    for task in decision.withdraw:
        entries.withdraw(conn, ticket.id, task, now)
    for entry in decision.enqueue:
        # A ticket that waits for an entry which is not there would wait for ever.
        if not entries.enqueue(conn, entry, now):
            inbox.put_for(conn, ticket.id, f"{seq}:known:{entry.id}", entries.known_otherwise(entry), now)
    if decision.priority is not None:
        update(conn, "entries", "ticket = ? AND settled_at IS NULL", ticket.id, priority=decision.priority)
    for entry_id, by in decision.release:
        entries.release(conn, ticket.id, entry_id, by, now)
    # From here on its text is the chain's alone, where it can be erased.
    update(conn, "events", "seq = ?", seq, state="decided", body="")
    audit.append(conn, now, audit.Record(
        ticket.id, event["kind"], event["body"], text, before=old["state"] if old and old["version"] >= 0 else "",
        after=ticket.state, why=decision.why, actor=event["actor"],
    ))  # fmt: skip


class Tickets(Part):
    """The part of `bot.ports.Store` that decides."""

    async def commit(self, seq: int, decision: Decision, now: datetime) -> None:
        """See bot.ports.Store."""
        row = await self.database.row("SELECT kind FROM events WHERE seq = ?", seq)
        kind, text = row["kind"] if row else "nothing", decision.model_dump_json(by_alias=True)
        await self.database.write(f"decide:{kind}", lambda conn: _store(conn, seq, decision, text, now))

    async def discard(self, seq: int, why: str, now: datetime) -> None:
        """See bot.ports.Store. Raises Stale if the event is decided already."""

        def work(conn: Connection) -> None:
            row = conn.execute(_PENDING, (seq,)).fetchone()
            if row is None:
                raise Stale(f"event {seq} was decided on meanwhile")
            update(conn, "events", "seq = ?", seq, state="discarded", body="", why=why)
            audit.append(conn, now, audit.Record(row["ticket"], row["kind"], row["body"], why=why, actor=row["actor"]))

        await self.database.write("discard", work)

    async def wake(self, now: datetime) -> datetime | None:
        """See bot.ports.Store. An instant not after `now` means that some ticket was woken by this call."""
        row = await self.database.row("SELECT wake_at FROM tickets WHERE wake_at IS NOT NULL ORDER BY wake_at LIMIT 1")
        if row is None:
            return None
        first = from_ms(row["wake_at"])
        if first > now:
            return first

        def work(conn: Connection) -> None:
            sql = "SELECT id, wake_at FROM tickets WHERE open = 1 AND wake_at <= ? ORDER BY wake_at, id"
            for row in conn.execute(sql, (to_ms(now),)).fetchall():
                event = Ticked(ticket=row["id"], at=now)
                inbox.put_for(conn, row["id"], f"tick:{row['id']}:{row['wake_at']}", event, now)
            update(conn, "tickets", "wake_at <= ?", to_ms(now), wake_at=None)

        await self.database.write("wake", work)
        return first

    async def ticket(self, ticket: str) -> Ticket | None:
        """One ticket as it stands."""
        sql = "SELECT body FROM tickets WHERE id = ? AND body <> ''"
        return next(iter(await self.database.models(Ticket, sql, ticket)), None)

    async def open_tickets(self, repo_id: int) -> Sequence[Ticket]:
        """See bot.ports.Store."""
        sql = "SELECT body FROM tickets WHERE open = 1 AND repo_id = ? AND body <> '' ORDER BY opened_at, id"
        return await self.database.models(Ticket, sql, repo_id)

    async def tickets(self) -> Sequence[Ticket]:
        """Every ticket, in order of opening."""
        sql = "SELECT body FROM tickets WHERE body <> '' ORDER BY opened_at, id"
        return await self.database.models(Ticket, sql)
