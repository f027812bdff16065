"""The rows of the merge queue. Only the entry state in here counts; tickets mirror it.

Which moves are legal is decided by the rules; here they are stored. The moves that a ticket's decision makes
(supersede, release, withdraw) never touch an entry that is landing.
"""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from bot.errors import Rejected, Stale
from bot.store.audit import digest_of
from bot.store.connection import Connection, Row, from_ms, insert, to_ms, update, upsert
from schemas.base import Evidence, Sha
from schemas.decision import EntryMove
from schemas.events import EntryReturned
from schemas.lane import Entry, EntryState, ErrorClass, Lane, NewEntry

E = EntryState
_UNDER_WAY: Final = (E.COMPOSED, E.CHECKING, E.LANDING)
_OPEN: Final = (E.QUEUED, E.HELD, *_UNDER_WAY)

ORDER: Final = "e.accepted_at - 3600000 * e.priority, e.seq"
"""Apply order (decisions.md 7): an hour of waiting is worth one step of priority, so nothing starves. The
difference of two entries never changes, so the order is the same whenever it is asked for; an index holds it.
Entries of one priority come in order of acceptance, those accepted in one second in the order given."""

COLUMNS: Final = """e.id, e.lane, e.ticket, e.task, e.state, e.priority, e.accepted_at AS accepted,
    e.due_at AS next_try, e.deliveries, e.attempts, e.error, e.released_by"""
"""What everybody sees of an entry, under the names that the models have."""

SELECT: Final = f"""SELECT {COLUMNS}, e.seq, e.outcomes, e.error_class, e.evidence, e.oid AS "commit", b.body
    FROM entries e JOIN entry_bodies b ON b.seq = e.seq """

_AGAIN: Final = "state = 'queued', due_at = ?, settled_at = NULL, attempts = 0, outcomes = deliveries"
"""How an entry at rest is opened again: with its counters anew."""

_IN_COLUMNS: Final = {"id", "lane", "ticket", "task", "priority"}


def fresh_lane(key: str) -> Lane:
    """A lane that nothing is known of yet."""
    return Lane(key=key, ref=key.partition(":")[2])


def save_lane(conn: Connection, lane: Lane) -> None:
    """Write the lane; its lease's columns stay."""
    upsert(
        conn, "lanes", "key", key=lane.key, version=lane.version, state=lane.state, train=lane.train is not None,
        body=lane.model_dump_json(by_alias=True),
    )  # fmt: skip


def make_lane(conn: Connection, key: str, fork: Sha | None = None) -> None:
    """Write a fresh lane unless there is one."""
    if conn.execute("SELECT 1 FROM lanes WHERE key = ?", (key,)).fetchone() is None:
        save_lane(conn, fresh_lane(key).model_copy(update={"fork": fork}))


def enqueue(conn: Connection, entry: NewEntry, now: datetime) -> bool:
    """Add an entry behind the others; False if its id is known with another body."""
    payload = entry.model_dump(mode="json", include={"change", "series", "rebase"}, by_alias=True)
    digest = digest_of(json.dumps(payload, sort_keys=True))
    known = conn.execute("SELECT digest FROM entries WHERE lane = ? AND id = ?", (entry.lane, entry.id)).fetchone()
    if known is not None:
        return bool(known["digest"] == digest)
    make_lane(conn, entry.lane, entry.fork)
    if entry.ticket and entry.task:
        older = "lane = ? AND ticket = ? AND task = ? AND state IN ('queued', 'held', 'rework')"
        values = (entry.lane, entry.ticket, entry.task)
        update(conn, "entries", older, *values, state=E.SUPERSEDED, settled_at=to_ms(now))
    accepted = now.replace(microsecond=0)  # becomes the commit's time, which git keeps in whole seconds
    seq = insert(
        conn, "entries", lane=entry.lane, id=entry.id, ticket=entry.ticket, task=entry.task, digest=digest,
        state=E.HELD if entry.held else E.QUEUED, priority=entry.priority,
        accepted_at=to_ms(accepted), due_at=to_ms(now),
    )  # fmt: skip
    insert(conn, "entry_bodies", seq=seq, body=entry.model_dump_json(exclude=_IN_COLUMNS, by_alias=True))
    return True


def known_otherwise(entry: NewEntry) -> EntryReturned:
    """What a ticket is told whose entry has the id of another one."""
    reason = f"{entry.id} is known in {entry.lane} with another content: give it an id of its own"
    return EntryReturned(
        entry=entry.id, entry_kind="series" if entry.series else "rebase" if entry.rebase else "change",
        task=entry.task, state=E.QUARANTINED, error_class=ErrorClass.INVALID, evidence=Evidence(reason=reason),
    )  # fmt: skip


def release(conn: Connection, ticket: str, entry: str, by: str, now: datetime) -> None:
    """A person lets an entry go on that was held or set aside, unless its task has a newer one."""
    sql = f"""UPDATE entries AS e SET {_AGAIN}, released_by = ? WHERE ticket = ? AND id = ?
        AND state IN ('held', 'quarantined') AND (task = '' OR NOT EXISTS (SELECT 1 FROM entries n
        WHERE n.lane = e.lane AND n.ticket = e.ticket AND n.task = e.task AND n.seq > e.seq))"""
    conn.execute(sql, (to_ms(now), by, ticket, entry))


def withdraw(conn: Connection, ticket: str, task: str, now: datetime) -> None:
    """Cancel a ticket's open entries, of one task or ('*') of all. What is landing is not called back."""
    whose = "ticket = ? AND (? = '*' OR task = ?) AND state IN ('queued', 'held', 'composed', 'checking', 'rework')"
    update(conn, "entries", whose, ticket, task, task, state=E.CANCELLED, settled_at=to_ms(now))


def retry(conn: Connection, lane: str, ids: Sequence[str], now: datetime) -> int:
    """Queue entries again that came back (rework, quarantined), at their old place; returns how many."""
    sql = f"UPDATE entries SET {_AGAIN} WHERE lane = ? AND id = ? AND state IN ('rework', 'quarantined')"
    return conn.executemany(sql, [(to_ms(now), lane, name) for name in ids]).rowcount


def apply_move(conn: Connection, lane: str, move: EntryMove, now: datetime) -> None:
    """One entry's next state, as the lane decided it.

    A withdrawn entry stays withdrawn unless it turns out to have landed. Raises Stale when it was about to be
    landed, so that the lander looks again; Rejected for an entry that the lane does not have.
    """
    sql = "SELECT seq, state, outcomes, attempts, oid FROM entries WHERE lane = ? AND id = ?"
    row = conn.execute(sql, (lane, move.entry)).fetchone()
    if row is None:
        raise Rejected(f"there is no entry {move.entry} in lane {lane}")
    if row["state"] in (E.CANCELLED, E.SUPERSEDED) and move.to not in (E.LANDED, E.NOOP):
        if move.to is E.LANDING:
            raise Stale(f"{move.entry} was withdrawn meanwhile")
        return
    update(
        conn, "entries", "seq = ?", row["seq"], state=move.to, error_class=move.error_class, error=move.error,
        evidence=move.evidence.model_dump_json() if move.evidence else None, oid=move.commit or row["oid"],
        due_at=to_ms(now + timedelta(seconds=move.delay_seconds)),
        settled_at=None if move.to in _OPEN else to_ms(now),
        outcomes=row["outcomes"] + (move.to not in _UNDER_WAY), attempts=row["attempts"] + move.counts,
    )  # fmt: skip


def columns_of(row: Row) -> dict[str, Any]:
    """What COLUMNS and the like have read, by the models' names."""
    found = dict(row)
    instants = {
        name: from_ms(found[name]) for name in ("accepted", "next_try", "settled") if found.get(name) is not None
    }
    return found | instants


def entry_of(row: Row) -> Entry:
    """A row of SELECT as the lander sees it."""
    columns = columns_of(row)
    body = json.loads(columns.pop("body"))
    evidence = json.loads(row["evidence"]) if row["evidence"] else None
    return Entry.model_validate({**body, **columns, "evidence": evidence})
