"""Effects waiting to be performed: leased with a fence, tried again later, given up with a reason."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from pydantic import TypeAdapter

from bot.store import inbox
from bot.store.audit import to_ms
from bot.store.database import Connection, check_fence
from schemas.effects import Effect
from schemas.events import Addressed, EffectGaveUp
from schemas.lease import Lease

EFFECT: TypeAdapter[Effect] = TypeAdapter(Effect)
ATTEMPTS = 8
"""How often an effect may fail before the ticket is told."""

PARALLEL = frozenset({"run_agent"})
"""Kinds of which one ticket may have several under way; all others keep their order within the ticket."""


def add(conn: Connection, effects: Sequence[Effect], now: datetime) -> None:
    """Store effects; a known key is the same effect, and a slot's older effect that nobody began is replaced."""
    for effect in effects:
        if effect.slot:
            conn.execute(
                "UPDATE outbox SET state = 'replaced' WHERE slot = ? AND state = 'pending' AND attempts = 0",
                (effect.slot,),
            )
        conn.execute(
            "INSERT OR IGNORE INTO outbox (key, slot, ticket, kind, body, due_ms) VALUES (?, ?, ?, ?, ?, ?)",
            (effect.key, effect.slot, effect.ticket, effect.kind, effect.model_dump_json(), to_ms(now)),
        )


def take_back(conn: Connection, owner: str) -> None:
    """At start: leases of earlier processes are void, since the process lock is ours."""
    conn.execute(
        "UPDATE outbox SET state = 'pending', interrupted = interrupted + 1, attempts = attempts - 1, owner = '' "
        "WHERE state = 'leased' AND owner <> ?",
        (owner,),
    )


def lease(
    conn: Connection, kinds: Collection[str], owner: str, expires: float, boot: float, now: datetime
) -> tuple[Lease, Effect] | None:
    """Grant the oldest due effect of these kinds; the attempt is written before it is made."""
    marks = ", ".join("?" for _ in kinds)
    ordered = ", ".join(f"'{kind}'" for kind in sorted(PARALLEL))
    row = conn.execute(
        f"""SELECT * FROM outbox o WHERE kind IN ({marks}) AND due_ms <= ?
            AND (state = 'pending' OR (state = 'leased' AND expires < ?))
            AND (kind IN ({ordered}) OR NOT EXISTS (SELECT 1 FROM outbox p WHERE p.ticket = o.ticket
                 AND p.kind = o.kind AND p.seq < o.seq AND p.state IN ('pending', 'leased')))
            ORDER BY seq LIMIT 1""",
        (*kinds, to_ms(now), boot),
    ).fetchone()
    if row is None:
        return None
    lost = 1 if row["state"] == "leased" else 0
    conn.execute(
        "UPDATE outbox SET state = 'leased', owner = ?, expires = ?, fence = fence + 1, "
        "attempts = attempts + ?, interrupted = interrupted + ? WHERE seq = ?",
        (owner, expires, 0 if lost else 1, lost, row["seq"]),
    )
    granted = Lease(
        key=row["key"],
        owner=owner,
        fence=row["fence"] + 1,
        attempts=row["attempts"] + (0 if lost else 1),
        interrupted=row["interrupted"] + lost,
    )
    return granted, EFFECT.validate_json(row["body"])


def _held(conn: Connection, lease_: Lease) -> str:
    row = conn.execute("SELECT fence, owner, ticket, kind, state FROM outbox WHERE key = ?", (lease_.key,)).fetchone()
    check_fence(row if row is not None and row["state"] == "leased" else None, lease_.fence, lease_.owner)
    return str(row["ticket"])


def extend(conn: Connection, lease_: Lease, expires: float) -> None:
    """Still at work."""
    _held(conn, lease_)
    conn.execute("UPDATE outbox SET expires = ? WHERE key = ?", (expires, lease_.key))


def finish(conn: Connection, lease_: Lease, state: str, error: str = "") -> str:
    """End the lease for good; returns the ticket."""
    ticket = _held(conn, lease_)
    conn.execute("UPDATE outbox SET state = ?, owner = '', error = ? WHERE key = ?", (state, error, lease_.key))
    return ticket


def nack(conn: Connection, lease_: Lease, error: str, due: datetime, now: datetime, *, counts: bool) -> None:
    """Later again, or given up after the last attempt."""
    if counts and lease_.attempts >= ATTEMPTS:
        give_up(conn, lease_, f"{error} (tried {lease_.attempts} times)", now)
        return
    _held(conn, lease_)
    conn.execute(
        "UPDATE outbox SET state = 'pending', owner = '', error = ?, due_ms = ?, attempts = attempts - ? WHERE key = ?",
        (error, to_ms(due), 0 if counts else 1, lease_.key),
    )


def give_up(conn: Connection, lease_: Lease, error: str, now: datetime) -> None:
    """Tell the ticket that this will not happen."""
    ticket = finish(conn, lease_, "gave_up", error)
    kind = conn.execute("SELECT kind FROM outbox WHERE key = ?", (lease_.key,)).fetchone()["kind"]
    event = EffectGaveUp(ticket=ticket, effect=lease_.key, effect_kind=kind, reason=error)
    inbox.put_for(conn, ticket, Addressed(key=f"gave-up:{lease_.key}:{lease_.fence}", event=event), now)
