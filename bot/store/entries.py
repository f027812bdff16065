"""An entry's row: how it is made, moved and read, as plain functions of the connection.

Only the entry state in here counts; tickets mirror it. Which moves are legal is decided by the rules; here they
are stored. The moves that a ticket's decision makes (supersede, release, withdraw) never touch an entry that is
landing.
"""

import hashlib
import json
from datetime import datetime, timedelta
from typing import Final

from bot.errors import Rejected, Stale
from bot.rules.lane_turn import kind_of
from bot.store import audit, inbox
from bot.store.connection import Connection, Row, insert, to_ms, update, upsert
from schemas import lane as q
from schemas.base import Evidence, Sha
from schemas.change_request import Add, ChangeRequest, Modify, Rename
from schemas.decision import EntryMove
from schemas.events import EntryReturned, LaneStopped

E = q.EntryState
_UNDER_WAY: Final = (E.COMPOSED, E.CHECKING, E.LANDING)
OPEN: Final = (E.QUEUED, E.HELD, *_UNDER_WAY)

ORDER: Final = "e.accepted_at - 3600000 * e.priority, e.seq"
"""Apply order (decisions.md 7): an hour of waiting is worth one step of priority, so nothing starves. The
difference of two entries never changes, so the order is the same whenever it is asked for; an index holds it.
Entries of one priority come in order of acceptance, those accepted in one second in the order given."""

SELECT: Final = """SELECT e.lane, json_object('seq', e.seq, 'id', e.id, 'lane', e.lane, 'ticket', e.ticket, 'task', e.task,
    'state', e.state, 'priority', e.priority, 'accepted', e.accepted_at / 1000.0, 'next_try', e.due_at / 1000.0,
    'deliveries', e.deliveries, 'outcomes', e.outcomes, 'attempts', e.attempts, 'error_class', e.error_class,
    'error', e.error, 'commit', e.oid, 'released_by', e.released_by) AS head, e.evidence, b.body
    FROM entries e JOIN entry_bodies b ON b.seq = e.seq """
"""An entry under the names that its model has, without its change request."""

WHOLE: Final = SELECT.replace("b.body\n", "b.body, b.change\n")
"""And with it."""

AGAIN: Final = "state = 'queued', due_at = ?, settled_at = NULL, attempts = 0, outcomes = deliveries"
"""How an entry at rest is opened again: with its counters anew."""

_IN_COLUMNS: Final = {"id", "lane", "ticket", "task", "priority", "change"}


def fresh_lane(key: str) -> q.Lane:
    """A lane that nothing is known of yet."""
    return q.Lane(key=key, ref=key.partition(":")[2])


def save_lane(conn: Connection, lane: q.Lane) -> None:
    """Write the lane; its lease's columns stay."""
    upsert(
        conn, "lanes", "key", key=lane.key, version=lane.version, state=lane.state, train=lane.train is not None,
        due_at=to_ms(lane.due) if lane.due else 0, body=lane.model_dump_json(by_alias=True),
    )  # fmt: skip


def make_lane(conn: Connection, key: str, fork: Sha | None = None) -> None:
    """Write a fresh lane unless there is one."""
    if conn.execute("SELECT 1 FROM lanes WHERE key = ?", (key,)).fetchone() is None:
        save_lane(conn, fresh_lane(key).model_copy(update={"fork": fork}))


def enqueue(conn: Connection, entry: q.NewEntry, now: datetime) -> bool:
    """Add an entry behind the others; False if its id is known with another body.

    What was set aside once is set aside at once under another id, with the reason: nothing is done twice to see the same
    failure. A person releases the first one, if it is to be tried again.
    """
    content = _content(entry.change) if entry.change is not None else ""
    head = entry.model_dump_json(include={"change", "series", "rebase"}, exclude={"change": {"patch"}}, by_alias=True)
    digest = audit.digest_of(f"{head}\n{content}")
    known = conn.execute("SELECT digest FROM entries WHERE lane = ? AND id = ?", (entry.lane, entry.id)).fetchone()
    if known is not None:
        return known["digest"] in ("", digest)  # an older release's is not comparable
    make_lane(conn, entry.lane, entry.fork)
    paused = "SELECT json_extract(body, '$.why') AS why FROM lanes WHERE key = ? AND state = 'paused'"
    if entry.ticket and (
        row := conn.execute(paused, (entry.lane,)).fetchone()
    ):  # the others were told when it was paused
        told = LaneStopped(lane=entry.lane, why=row["why"])
        inbox.put_for(conn, entry.ticket, f"enters:{entry.lane}:{entry.id}", told, now)
    if entry.ticket and entry.task:
        older = "lane = ? AND ticket = ? AND task = ? AND state IN ('queued', 'held', 'rework')"
        values = (entry.lane, entry.ticket, entry.task)
        update(conn, "entries", older, *values, state=E.SUPERSEDED, settled_at=to_ms(now))
    accepted = now.replace(microsecond=0)  # becomes the commit's time, which git keeps in whole seconds
    sql = """SELECT id, error_class, error, evidence FROM entries
        WHERE lane = ? AND content = ? AND content <> '' AND state = 'quarantined' ORDER BY seq"""
    twin = conn.execute(sql, (entry.lane, content)).fetchone()
    seq = insert(
        conn, "entries", lane=entry.lane, id=entry.id, ticket=entry.ticket, task=entry.task, digest=digest,
        content=content, state=E.HELD if entry.held else E.QUEUED, priority=entry.priority,
        accepted_at=to_ms(accepted), due_at=to_ms(now),
    ).lastrowid  # fmt: skip
    change = entry.change.model_dump_json(by_alias=True) if entry.change is not None else ""
    body = entry.model_dump_json(exclude=_IN_COLUMNS, by_alias=True)
    insert(conn, "entry_bodies", seq=seq, body=body, change=change)
    if twin is not None:
        _set_aside(conn, entry, twin, now)
    return True


def _content(change: ChangeRequest) -> str:
    """What a request would do, whatever it is called: its base and operations."""
    total = hashlib.sha256(change.base.encode())
    for edit in change.patch:
        source, before, mode = (getattr(edit, name, None) for name in ("source", "before", "mode"))
        content = getattr(edit, "content", None)
        data = edit.data() if isinstance(edit, Add | Modify | Rename) and content is not None else b""
        total.update(json.dumps([edit.op, edit.path, source, before, mode, content is None, len(data)]).encode())
        total.update(data)
    return total.hexdigest()


def _set_aside(conn: Connection, entry: q.NewEntry, twin: Row, now: datetime) -> None:
    reason = f"the same content was set aside as {twin['id']}: {twin['error']}"
    evidence = Evidence.model_validate_json(twin["evidence"]) if twin["evidence"] else Evidence(reason="")
    evidence = evidence.model_copy(update={"reason": reason})
    cls = q.ErrorClass(twin["error_class"] or q.ErrorClass.INVALID)
    move = EntryMove(entry=entry.id, to=E.QUARANTINED, error_class=cls, error=reason, evidence=evidence, counts=True)
    apply_move(conn, entry.lane, move, now)
    if entry.ticket:
        back = EntryReturned(
            entry=entry.id, entry_kind=kind_of(entry), task=entry.task, state=E.QUARANTINED, error_class=cls,
            evidence=evidence,
        )  # fmt: skip
        inbox.put_for(conn, entry.ticket, f"set-aside:{entry.lane}:{entry.id}", back, now)


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


def apply_move(conn: Connection, lane: str, move: EntryMove, now: datetime) -> None:
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


def entry_of(row: Row) -> q.Entry:
    """A row of SELECT or WHOLE as the lander sees it."""
    body, evidence = row["body"], row["evidence"] or "null"
    change = (row["change"] if "change" in row.keys() else "") or "null"  # noqa: SIM118 (a row's own keys)
    # One document, read once: the body is most of it. That of a forgotten ticket is empty.
    comma = "," if body != "{}" else ""
    return q.Entry.model_validate_json(f'{row["head"][:-1]},"evidence":{evidence},"change":{change}{comma}{body[1:]}')
