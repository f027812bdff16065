"""The merge queue's tables: what tickets' decisions do to them, and what the lander sees of them (`bot.ports.Queue`).

Only the entry state in here counts; tickets mirror it. Which moves are legal is decided by the rules; here they
are stored. The moves that a ticket's decision makes (supersede, release, withdraw) never touch an entry that is
landing.
"""

import json
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Final

from pydantic import TypeAdapter

from bot.errors import Rejected, Stale
from bot.ports import CheckVerdict, Lease
from bot.rules.lane_turn import kind_of
from bot.store import audit, inbox
from bot.store.connection import Connection, Row, from_ms, insert, to_ms, update, upsert
from bot.store.database import Part
from schemas import lane as q
from schemas.base import Evidence, Sha
from schemas.decision import EntryMove, LaneDecision
from schemas.events import EntryReturned

VERDICT: Final = TypeAdapter(CheckVerdict)

E = q.EntryState
_UNDER_WAY: Final = (E.COMPOSED, E.CHECKING, E.LANDING)
OPEN: Final = (E.QUEUED, E.HELD, *_UNDER_WAY)

ORDER: Final = "e.accepted_at - 3600000 * e.priority, e.seq"
"""Apply order (decisions.md 7): an hour of waiting is worth one step of priority, so nothing starves. The
difference of two entries never changes, so the order is the same whenever it is asked for; an index holds it.
Entries of one priority come in order of acceptance, those accepted in one second in the order given."""

SELECT: Final = """SELECT e.seq, e.id, e.lane, e.ticket, e.task, e.state, e.priority, e.accepted_at AS accepted,
    e.due_at AS next_try, e.deliveries, e.outcomes, e.attempts, e.error_class, e.error, e.evidence, e.oid AS "commit",
    e.released_by, b.body FROM entries e JOIN entry_bodies b ON b.seq = e.seq """
"""An entry under the names that its model has, without its change request."""

WHOLE: Final = SELECT.replace("b.body FROM", "b.body, b.change FROM")
"""And with it."""

AGAIN: Final = "state = 'queued', due_at = ?, settled_at = NULL, attempts = 0, outcomes = deliveries"
"""How an entry at rest is opened again: with its counters anew."""

_IN_COLUMNS: Final = {"id", "lane", "ticket", "task", "priority", "change"}


def _fresh_lane(key: str) -> q.Lane:
    """A lane that nothing is known of yet."""
    return q.Lane(key=key, ref=key.partition(":")[2])


def save_lane(conn: Connection, lane: q.Lane) -> None:
    """Write the lane; its lease's columns stay."""
    upsert(
        conn, "lanes", "key", key=lane.key, version=lane.version, state=lane.state, train=lane.train is not None,
        body=lane.model_dump_json(by_alias=True),
    )  # fmt: skip


def _make_lane(conn: Connection, key: str, fork: Sha | None = None) -> None:
    """Write a fresh lane unless there is one."""
    if conn.execute("SELECT 1 FROM lanes WHERE key = ?", (key,)).fetchone() is None:
        save_lane(conn, _fresh_lane(key).model_copy(update={"fork": fork}))


def enqueue(conn: Connection, entry: q.NewEntry, now: datetime) -> bool:
    """Add an entry behind the others; False if its id is known with another body."""
    change = entry.change.model_dump_json(by_alias=True) if entry.change is not None else ""
    series, rebase = (one.model_dump_json() if one is not None else "" for one in (entry.series, entry.rebase))
    digest = audit.digest_of("\n".join((change, series, rebase)))
    known = conn.execute("SELECT digest FROM entries WHERE lane = ? AND id = ?", (entry.lane, entry.id)).fetchone()
    if known is not None:
        return bool(known["digest"] == digest)
    _make_lane(conn, entry.lane, entry.fork)
    if entry.ticket and entry.task:
        older = "lane = ? AND ticket = ? AND task = ? AND state IN ('queued', 'held', 'rework')"
        values = (entry.lane, entry.ticket, entry.task)
        update(conn, "entries", older, *values, state=E.SUPERSEDED, settled_at=to_ms(now))
    accepted = now.replace(microsecond=0)  # becomes the commit's time, which git keeps in whole seconds
    seq = insert(
        conn, "entries", lane=entry.lane, id=entry.id, ticket=entry.ticket, task=entry.task, digest=digest,
        state=E.HELD if entry.held else E.QUEUED, priority=entry.priority,
        accepted_at=to_ms(accepted), due_at=to_ms(now),
    ).lastrowid  # fmt: skip
    insert(conn, "entry_bodies", seq=seq, body=entry.model_dump_json(exclude=_IN_COLUMNS, by_alias=True), change=change)
    return True


def known_otherwise(entry: q.NewEntry) -> EntryReturned:
    """What a ticket is told whose entry has the id of another one."""
    reason = f"{entry.id} is known in {entry.lane} with another content: give it an id of its own"
    return EntryReturned(
        entry=entry.id, entry_kind=kind_of(entry), task=entry.task, state=E.QUARANTINED,
        error_class=q.ErrorClass.INVALID, evidence=Evidence(reason=reason),
    )  # fmt: skip


def release(conn: Connection, ticket: str, entry: str, by: str, now: datetime) -> None:
    """A person lets an entry go on that was held or set aside, unless its task has a newer one."""
    sql = f"""UPDATE entries AS e SET {AGAIN}, released_by = ? WHERE ticket = ? AND id = ?
        AND state IN ('held', 'quarantined') AND (task = '' OR NOT EXISTS (SELECT 1 FROM entries n
        WHERE n.lane = e.lane AND n.ticket = e.ticket AND n.task = e.task AND n.seq > e.seq))"""
    conn.execute(sql, (to_ms(now), by, ticket, entry))


def withdraw(conn: Connection, ticket: str, task: str, now: datetime) -> None:
    """Cancel a ticket's open entries, of one task or ('*') of all. What is landing is not called back."""
    whose = "ticket = ? AND (? = '*' OR task = ?) AND state IN ('queued', 'held', 'composed', 'checking', 'rework')"
    update(conn, "entries", whose, ticket, task, task, state=E.CANCELLED, settled_at=to_ms(now))


def _apply_move(conn: Connection, lane: str, move: EntryMove, now: datetime) -> None:
    """One entry's next state, as the lane decided it.

    A withdrawn entry stays withdrawn unless it turns out to have landed. Raises Stale when it was about to be
    landed, so that the lander looks again; Rejected for an entry that the lane does not have.
    """
    if move.to in _UNDER_WAY and not move.counts:  # a step forward, which most moves are
        sql = "UPDATE entries SET state = ? WHERE lane = ? AND id = ? AND state NOT IN ('cancelled', 'superseded')"
        if conn.execute(sql, (move.to, lane, move.entry)).rowcount:
            return
    sql = "SELECT seq, state, outcomes, attempts, failures, oid FROM entries WHERE lane = ? AND id = ?"
    row = conn.execute(sql, (lane, move.entry)).fetchone()
    if row is None:
        raise Rejected(f"there is no entry {move.entry} in lane {lane}")
    if row["state"] in (E.CANCELLED, E.SUPERSEDED) and move.to not in (E.LANDED, E.NOOP):
        if move.to is E.LANDING:
            raise Stale(f"{move.entry} was withdrawn meanwhile")
        return
    if move.counts:  # the last failure stays, whatever becomes of the entry
        evidence = move.evidence.model_dump_json() if move.evidence else None
        failure = {"error_class": move.error_class, "error": move.error, "evidence": evidence, "failed_at": to_ms(now)}
        update(conn, "entries", "seq = ?", row["seq"], failures=row["failures"] + 1, **failure)
    update(
        conn, "entries", "seq = ?", row["seq"], state=move.to, oid=move.commit or row["oid"],
        due_at=to_ms(now + timedelta(seconds=move.delay_seconds)),
        settled_at=None if move.to in OPEN else to_ms(now),
        outcomes=row["outcomes"] + (move.to not in _UNDER_WAY), attempts=row["attempts"] + move.counts,
    )  # fmt: skip


def entry_of(row: Row, more: Collection[str] = ()) -> q.Entry:
    """A row of SELECT as the lander sees it, leaving out `more` columns."""
    columns = {name: value for name, value in dict(row).items() if name not in more}
    body, evidence, change = columns.pop("body"), columns.pop("evidence") or "null", columns.pop("change", "") or "null"
    columns["accepted"], columns["next_try"] = row["accepted"] / 1000, row["next_try"] / 1000
    # One document, read once: the body is most of it. That of a forgotten ticket is empty.
    comma = "," if body != "{}" else ""
    return q.Entry.model_validate_json(
        f'{json.dumps(columns)[:-1]},"evidence":{evidence},"change":{change}{comma}{body[1:]}'
    )


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
        where = f"WHERE lane = ? AND state = 'queued' AND due_at <= ? ORDER BY {ORDER} LIMIT ?"
        return await self._entries(WHOLE, where, lane, to_ms(now), limit)

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
            sql = "UPDATE entries SET deliveries = deliveries + 1 WHERE lane = ? AND id = ?"
            conn.executemany(sql, [(lease.key, name) for name in ids])

        await self.database.write("begin", work)

    # --- lanes ----------------------------------------------------------------------------------------------
    async def busy_lanes(self, now: datetime) -> Sequence[str]:
        """See bot.ports.Queue. A frozen lane is busy too: it sees by trying again that its head has moved."""
        sql = """SELECT key FROM lanes l WHERE train = 1 OR (state <> 'paused' AND EXISTS (SELECT 1
            FROM entries e WHERE e.lane = l.key AND e.state = 'queued' AND e.due_at <= ?)) ORDER BY key"""
        return [row["key"] for row in await self.database.rows(sql, to_ms(now))]

    async def next_due(self) -> datetime | None:
        """See bot.ports.Queue."""
        sql = """SELECT e.due_at FROM entries e JOIN lanes l ON l.key = e.lane
            WHERE e.state = 'queued' AND l.state <> 'paused' ORDER BY e.due_at LIMIT 1"""
        row = await self.database.row(sql)
        return from_ms(row["due_at"]) if row else None

    async def lane(self, key: str) -> q.Lane:
        """See bot.ports.Queue."""
        found = await self.database.models(q.Lane, "SELECT body FROM lanes WHERE key = ?", key)
        return found[0] if found else _fresh_lane(key)

    async def lease_lane(self, lane: str, owner: str, seconds: float) -> Lease | None:
        """See bot.ports.Queue. None as well while this owner's own lease runs: a lane is driven once."""
        boot, boot_id = self._clock.boot(), self._clock.boot_id()

        def work(conn: Connection) -> Lease | None:
            _make_lane(conn, lane)
            row = conn.execute("SELECT owner, boot_id, expires, fence FROM lanes WHERE key = ?", (lane,)).fetchone()
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
                _apply_move(conn, lease.key, move, now)
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
