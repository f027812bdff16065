"""Effects that wait to be performed: leased with a fence, tried again later, given up with a reason.

`attempts` is written when an effect is granted, before anybody acts, so that one which hangs its performer
still runs out of attempts. A grant that a restart of ours cut counts in `interrupted` instead.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Final

from pydantic import TypeAdapter

from bot.errors import Stale
from bot.ports import Clock
from bot.store import audit, inbox
from bot.store.connection import Connection, Row
from bot.store.database import Database
from bot.store.instants import to_ms
from bot.store.writer import Name
from schemas.effects import Effect
from schemas.events import EffectGaveUp, Event
from schemas.lease import Lease

EFFECT: Final[TypeAdapter[Effect]] = TypeAdapter(Effect)

ATTEMPTS: Final = 8
"""How often an effect may fail before its ticket is told."""

INTERRUPTIONS: Final = 20
"""How often a restart may cut an effect before its ticket is told: it may be what kills the process."""

PARALLEL: Final = ("run_agent",)
"""Kinds of which one ticket has several under way; all others keep their order within the ticket."""


def add(conn: Connection, effects: Sequence[Effect], now: datetime) -> None:
    """Store effects; a known key is the same effect, a slot's older effect that nobody began is replaced."""
    for effect in effects:
        done = conn.execute(
            "INSERT INTO outbox (key, slot, ticket, kind, body, queued_at, due_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING",
            (
                effect.key,
                effect.slot,
                effect.ticket,
                effect.kind,
                effect.model_dump_json(by_alias=True),
                to_ms(now),
                to_ms(now),
            ),
        )
        if done.rowcount and effect.slot:
            conn.execute(
                "UPDATE outbox SET state = 'replaced' WHERE slot = ? AND slot <> '' AND ticket = ? "
                "AND state = 'pending' AND fence = 0 AND key <> ?",
                (effect.slot, effect.ticket, effect.key),
            )


def take_back(conn: Connection) -> None:
    """At opening: every lease is of an earlier process, and void, since the process lock is ours now."""
    conn.execute(
        "UPDATE outbox SET state = 'pending', owner = '', interrupted = interrupted + 1, "
        "attempts = attempts - 1 WHERE state = 'leased'"
    )


def due_sql(kinds: Collection[str]) -> str:
    """The oldest effect of these kinds that may be granted; values: the kinds, now, boot seconds, boot id."""
    parallel = ", ".join(f"'{kind}'" for kind in PARALLEL)
    return f"""SELECT * FROM outbox o WHERE state IN ('pending', 'leased')
        AND kind IN ({", ".join("?" * len(kinds))}) AND due_at <= ?
        AND (state = 'pending' OR expires <= ? OR boot_id <> ?)
        AND (kind IN ({parallel}) OR NOT EXISTS (SELECT 1 FROM outbox p WHERE p.ticket = o.ticket
             AND p.kind = o.kind AND p.seq < o.seq AND p.state IN ('pending', 'leased')))
        ORDER BY seq LIMIT 1"""


def _held(conn: Connection, lease: Lease) -> Row:
    """The leased row. Raises Stale if the lease was lost."""
    row: Row | None = conn.execute(
        "SELECT * FROM outbox WHERE key = ? AND state = 'leased' AND fence = ? AND owner = ?",
        (lease.key, lease.fence, lease.owner),
    ).fetchone()
    if row is None:
        raise Stale(f"the lease of {lease.key} was lost: somebody else performs it now")
    return row


def _end(conn: Connection, row: Row, state: str, error: str = "") -> None:
    conn.execute("UPDATE outbox SET state = ?, owner = '', error = ? WHERE seq = ?", (state, error, row["seq"]))


def _give_up(conn: Connection, row: Row, reason: str, now: datetime) -> None:
    """Tell the ticket that this will not happen."""
    _end(conn, row, "gave_up", reason)
    event = EffectGaveUp(effect=row["key"], effect_kind=row["kind"], reason=reason)
    inbox.put_for(conn, row["ticket"], f"gave-up:{row['key']}", event, now)


class Outbox:
    """The part of `bot.ports.Store` that hands effects to performers."""

    def __init__(self, database: Database, clock: Clock, attempts: int = ATTEMPTS) -> None:
        self.database, self._clock, self._attempts = database, clock, attempts

    async def lease(
        self, kinds: Collection[str], owner: str, seconds: float, now: datetime
    ) -> tuple[Lease, Effect] | None:
        """See bot.ports.Store. `seconds` are of the boot clock, which no change of the wall clock moves."""
        boot, boot_id = self._clock.boot(), self._clock.boot_id()
        sql, values = due_sql(kinds), (*kinds, to_ms(now), boot, boot_id)
        if await self.database.row(sql, *values) is None:
            return None  # looking costs no transaction

        def work(conn: Connection) -> tuple[Lease, Effect] | None:
            while (row := conn.execute(sql, values).fetchone()) is not None:
                if row["attempts"] >= self._attempts:
                    _give_up(conn, row, f"it did not end within its time, {row['attempts']} times", now)
                elif row["interrupted"] >= INTERRUPTIONS:
                    _give_up(conn, row, f"restarts of the server cut it {row['interrupted']} times", now)
                else:
                    return self._grant(conn, row, owner, boot + seconds, boot_id)
            return None

        return await self.database.write("lease", work)

    @staticmethod
    def _grant(conn: Connection, row: Row, owner: str, expires: float, boot_id: str) -> tuple[Lease, Effect]:
        fence, attempts = row["fence"] + 1, row["attempts"] + 1
        conn.execute(
            "UPDATE outbox SET state = 'leased', owner = ?, boot_id = ?, expires = ?, fence = ?, "
            "attempts = ? WHERE seq = ?",
            (owner, boot_id, expires, fence, attempts, row["seq"]),
        )
        lease = Lease(key=row["key"], owner=owner, fence=fence, attempts=attempts, interrupted=row["interrupted"])
        return lease, EFFECT.validate_json(row["body"])

    async def extend(self, lease: Lease, seconds: float) -> None:
        """See bot.ports.Store."""
        expires = self._clock.boot() + seconds

        def work(conn: Connection) -> None:
            row = _held(conn, lease)
            conn.execute("UPDATE outbox SET expires = ? WHERE seq = ?", (expires, row["seq"]))

        await self.database.write("extend", work)

    async def settle(self, lease: Lease, outcome: Event | None, now: datetime, *, shown: str = "") -> None:
        """See bot.ports.Store."""

        def work(conn: Connection) -> None:
            row = _held(conn, lease)
            _end(conn, row, "done")
            if outcome is not None:
                inbox.put_for(conn, row["ticket"], f"{lease.key}:{lease.fence}", outcome, now)
            if shown:
                audit.append(conn, now, row["ticket"], row["kind"], event=shown, why=lease.key)

        await self.database.write(_named("settle", lease), work)

    async def nack(self, lease: Lease, error: str, retry_in: float, now: datetime, *, counts: bool = True) -> None:
        """See bot.ports.Store."""
        due = now + timedelta(seconds=retry_in)

        def work(conn: Connection) -> None:
            row = _held(conn, lease)
            if counts and row["attempts"] >= self._attempts:
                _give_up(conn, row, f"{error} (tried {row['attempts']} times)", now)
                return
            conn.execute(
                "UPDATE outbox SET state = 'pending', owner = '', error = ?, due_at = ?, "
                "attempts = attempts - ? WHERE seq = ?",
                (error, to_ms(due), 0 if counts else 1, row["seq"]),
            )

        await self.database.write(_named("nack", lease), work)

    async def refuse(self, lease: Lease, error: str, now: datetime) -> None:
        """See bot.ports.Store. Raises Stale."""
        await self.database.write(_named("refuse", lease), lambda conn: _give_up(conn, _held(conn, lease), error, now))


def _named(verb: str, lease: Lease) -> Name:
    """What the transaction is called at its fault points: the verb and the effect's kind."""

    def name(conn: Connection) -> str:
        row = conn.execute("SELECT kind FROM outbox WHERE key = ?", (lease.key,)).fetchone()
        return f"{verb}:{row['kind'] if row else 'nothing'}"

    return name
