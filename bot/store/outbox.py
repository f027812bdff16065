"""Effects that wait to be performed: leased with a fence, tried again later, given up with a reason.

`attempts` is written when an effect is granted, before anybody acts, so that one which hangs its performer
still runs out of attempts. A grant that a restart of ours cut counts in `interrupted` instead.
"""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Final

from pydantic import TypeAdapter

from bot.errors import Stale
from bot.ports import Lease
from bot.store import audit, inbox
from bot.store.connection import Connection, Row, Value, insert_new, to_ms, update
from bot.store.database import Part
from schemas.base import RepoRef
from schemas.decision import Decision
from schemas.effects import CancelRuns, Effect
from schemas.events import EffectGaveUp, Event

EFFECT: Final[TypeAdapter[Effect]] = TypeAdapter(Effect)
Granted = tuple[Lease, Effect]
_WHERE: Final = """SELECT json_extract(body, '$.repo') AS repo, json_extract(body, '$.installation') AS installation
    FROM tickets WHERE id = ? AND body <> ''"""

ATTEMPTS: Final = 8
"""How often an effect may fail before its ticket is told."""

INTERRUPTIONS: Final = 20
"""How often a restart may cut an effect before its ticket is told: it may be what kills the process."""

PARALLEL: Final = "run_agent"
"""The kind of which one ticket has several under way; all others keep their order within the ticket."""


def add(conn: Connection, effects: Sequence[Effect], now: datetime) -> None:
    """Store effects; a known key is the same effect, a slot's older effect that nobody began is replaced."""
    for effect in effects:
        new = insert_new(
            conn, "outbox", key=effect.key, slot=effect.slot, ticket=effect.ticket, kind=effect.kind,
            body=effect.model_dump_json(by_alias=True), queued_at=to_ms(now), due_at=to_ms(now),
        )  # fmt: skip
        if new and effect.slot:
            older = "slot = ? AND slot <> '' AND ticket = ? AND state = 'pending' AND fence = 0 AND key <> ?"
            update(conn, "outbox", older, effect.slot, effect.ticket, effect.key, state="replaced")


def make_room(conn: Connection, decision: Decision, now: datetime) -> None:
    """What a decision means for the ticket's older effects: runs that are stopped do not begin; what waits for GitHub, or was
    a comment that it refused, is tried now if GitHub listens again."""
    ticket = decision.ticket.id
    if any(isinstance(effect, CancelRuns) and not effect.task for effect in decision.effects):
        update(conn, "outbox", f"ticket = ? AND kind = '{PARALLEL}' AND state = 'pending'", ticket, state="replaced")
    if decision.again:
        refused = "(state = 'pending' OR (state = 'gave_up' AND kind IN ('post_comment', 'close_issue')))"
        update(conn, "outbox", f"ticket = ? AND {refused}", ticket, state="pending", attempts=0, due_at=to_ms(now))


def due_sql(kinds: Collection[str]) -> str:
    """The oldest effect of these kinds that may be granted; values: the kinds, now, boot seconds, boot id."""
    return f"""SELECT * FROM outbox o WHERE state IN ('pending', 'leased')
        AND kind IN ({", ".join("?" * len(kinds))}) AND due_at <= ?
        AND (state = 'pending' OR expires <= ? OR boot_id <> ?)
        AND (kind = '{PARALLEL}' OR NOT EXISTS (SELECT 1 FROM outbox p WHERE p.ticket = o.ticket
             AND p.kind = o.kind AND p.seq < o.seq AND p.state IN ('pending', 'leased')))
        ORDER BY seq LIMIT 1"""


def _change(conn: Connection, row: Row, **values: Value) -> None:
    update(conn, "outbox", "seq = ?", row["seq"], **values)


def _give_up(conn: Connection, row: Row, reason: str, now: datetime) -> None:
    """Tell the ticket that this will not happen."""
    _change(conn, row, state="gave_up", owner="", error=reason)
    event = EffectGaveUp(effect=row["key"], effect_kind=row["kind"], reason=reason)
    inbox.put_for(conn, row["ticket"], f"gave-up:{row['key']}", event, now)


class Outbox(Part):
    """The part of `bot.ports.Store` that hands effects to performers."""

    async def lease(self, kinds: Collection[str], owner: str, seconds: float, now: datetime) -> Granted | None:
        """See bot.ports.Store. `seconds` are of the boot clock, which no change of the wall clock moves."""
        boot, boot_id = self._clock.boot(), self._clock.boot_id()
        sql, values = due_sql(kinds), (*kinds, to_ms(now), boot, boot_id)
        if await self.database.row(sql, *values) is None:
            return None  # looking costs no transaction

        def work(conn: Connection) -> Granted | None:
            while (row := conn.execute(sql, values).fetchone()) is not None:
                if row["attempts"] >= self._attempts:
                    _give_up(conn, row, f"it did not end within its time, {row['attempts']} times", now)
                elif row["interrupted"] >= INTERRUPTIONS:
                    _give_up(conn, row, f"restarts of the server cut it {row['interrupted']} times", now)
                else:
                    return _grant(conn, row, owner, boot + seconds, boot_id)
            return None

        return await self.database.write("lease", work)

    async def extend(self, lease: Lease, seconds: float) -> None:
        """See bot.ports.Store."""
        expires = self._clock.boot() + seconds
        await self._on_held("extend", lease, lambda conn, row: _change(conn, row, expires=expires))

    async def settle(self, lease: Lease, outcome: Event | None, now: datetime, *, shown: str = "") -> None:
        """See bot.ports.Store."""

        def work(conn: Connection, row: Row) -> None:
            _change(conn, row, state="done", owner="", error="")
            if outcome is not None:
                inbox.put_for(conn, row["ticket"], f"{lease.key}:{lease.fence}", outcome, now)
            if shown:
                audit.append(conn, now, audit.Record(row["ticket"], row["kind"], event=shown, why=lease.key))

        await self._on_held(f"settle:{lease.kind}", lease, work)

    async def nack(self, lease: Lease, error: str, retry_in: float, now: datetime, *, counts: bool = True) -> None:
        """See bot.ports.Store."""
        due = to_ms(now + timedelta(seconds=retry_in))

        def work(conn: Connection, row: Row) -> None:
            if counts and row["attempts"] >= self._attempts:
                _give_up(conn, row, f"{error} (tried {row['attempts']} times)", now)
            else:
                attempts = row["attempts"] if counts else row["attempts"] - 1
                _change(conn, row, state="pending", owner="", error=error, due_at=due, attempts=attempts)

        await self._on_held(f"nack:{lease.kind}", lease, work)

    async def refuse(self, lease: Lease, error: str, now: datetime) -> None:
        """See bot.ports.Store. Raises Stale."""
        await self._on_held(f"refuse:{lease.kind}", lease, lambda conn, row: _give_up(conn, row, error, now))

    async def _on_held(self, name: str, lease: Lease, work: Callable[[Connection, Row], object]) -> None:
        """A transaction on the leased row. Raises Stale if the lease was lost."""

        def checked(conn: Connection) -> None:
            sql = "SELECT * FROM outbox WHERE key = ? AND state = 'leased' AND fence = ? AND owner = ?"
            row = conn.execute(sql, (lease.key, lease.fence, lease.owner)).fetchone()
            if row is None:
                raise Stale(f"the lease of {lease.key} was lost: somebody else performs it now")
            work(conn, row)

        await self.database.write(name, checked)


def _grant(conn: Connection, row: Row, owner: str, expires: float, boot_id: str) -> Granted:
    fence, attempts = row["fence"] + 1, row["attempts"] + 1
    _change(conn, row, state="leased", owner=owner, boot_id=boot_id, expires=expires, fence=fence, attempts=attempts)
    lease = Lease(
        key=row["key"], kind=row["kind"], owner=owner, fence=fence, attempts=attempts, interrupted=row["interrupted"]
    )
    effect, found = EFFECT.validate_json(row["body"]), conn.execute(_WHERE, (row["ticket"],)).fetchone()
    if found is not None:  # the repository's name and installation as they are now
        repo = RepoRef.model_validate_json(found["repo"])
        effect = effect.model_copy(update={"repo": repo, "installation": found["installation"]})
    return lease, effect
