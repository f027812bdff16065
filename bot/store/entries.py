"""The rows of the merge queue. Only the entry state in here counts; tickets mirror it.

Which moves are legal is decided by the rules; here they are stored. The moves that a ticket's decision makes
(supersede, release, withdraw) never touch an entry that is landing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from bot.errors import Rejected, Stale
from bot.store.audit import digest_of
from bot.store.connection import Connection, Row
from bot.store.instants import from_ms, to_ms
from schemas.base import Evidence
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

SELECT: Final = "SELECT e.*, b.body FROM entries e JOIN entry_bodies b ON b.seq = e.seq "

_IN_COLUMNS: Final = {"id", "lane", "ticket", "task", "priority"}


def lane_of(conn: Connection, key: str) -> Lane:
    """The lane as stored, or a fresh open one."""
    row = conn.execute("SELECT body FROM lanes WHERE key = ?", (key,)).fetchone()
    return Lane.model_validate_json(row["body"]) if row else fresh_lane(key)


def fresh_lane(key: str) -> Lane:
    """A lane that nothing is known of yet."""
    return Lane(key=key, ref=key.partition(":")[2])


def save_lane(conn: Connection, lane: Lane) -> None:
    """Write the lane; its lease's columns stay."""
    conn.execute(
        "INSERT INTO lanes (key, version, state, train, body) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (key) DO UPDATE SET version = excluded.version, state = excluded.state, "
        "train = excluded.train, body = excluded.body",
        (lane.key, lane.version, lane.state, int(lane.train is not None), lane.model_dump_json(by_alias=True)),
    )


def enqueue(conn: Connection, entries: Sequence[NewEntry], now: datetime) -> list[tuple[str, bool]]:
    """Add entries in the order given; False where the id is known with another body."""
    return [(entry.id, _enqueue_one(conn, entry, now)) for entry in entries]


def _enqueue_one(conn: Connection, entry: NewEntry, now: datetime) -> bool:
    payload = entry.model_dump(mode="json", include={"change", "series", "rebase"}, by_alias=True)
    digest = digest_of(json.dumps(payload, sort_keys=True))
    known = conn.execute("SELECT digest FROM entries WHERE lane = ? AND id = ?", (entry.lane, entry.id)).fetchone()
    if known is not None:
        return bool(known["digest"] == digest)
    if conn.execute("SELECT 1 FROM lanes WHERE key = ?", (entry.lane,)).fetchone() is None:
        save_lane(conn, fresh_lane(entry.lane).model_copy(update={"fork": entry.fork}))
    if entry.ticket and entry.task:
        conn.execute(
            "UPDATE entries SET state = 'superseded', settled_at = ? WHERE lane = ? AND ticket = ? "
            "AND task = ? AND state IN ('queued', 'held', 'rework')",
            (to_ms(now), entry.lane, entry.ticket, entry.task),
        )
    state = E.HELD if entry.held else E.QUEUED
    accepted = now.replace(microsecond=0)  # becomes the commit's time, which git keeps in whole seconds
    row = conn.execute(
        "INSERT INTO entries (lane, id, ticket, task, state, priority, accepted_at, due_at, digest) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING seq",
        (
            entry.lane, entry.id, entry.ticket, entry.task, state, entry.priority,
            to_ms(accepted), to_ms(now), digest,
        ),
    ).fetchone()  # fmt: skip
    body = entry.model_dump_json(exclude=_IN_COLUMNS, by_alias=True)
    conn.execute("INSERT INTO entry_bodies (seq, body) VALUES (?, ?)", (row["seq"], body))
    return True


def known_otherwise(entry: NewEntry) -> EntryReturned:
    """What a ticket is told whose entry has the id of another one."""
    reason = f"{entry.id} is known in {entry.lane} with another content: give it an id of its own"
    return EntryReturned(
        entry=entry.id,
        entry_kind="series" if entry.series else "rebase" if entry.rebase else "change",
        task=entry.task,
        state=E.QUARANTINED,
        error_class=ErrorClass.INVALID,
        evidence=Evidence(reason=reason),
    )


def release(conn: Connection, ticket: str, entry: str, by: str, now: datetime) -> None:
    """A person lets an entry go on that was held or set aside, unless its task has a newer one."""
    conn.execute(
        "UPDATE entries AS e SET state = 'queued', released_by = ?, due_at = ?, settled_at = NULL, "
        "attempts = 0, outcomes = deliveries "
        "WHERE ticket = ? AND id = ? AND state IN ('held', 'quarantined') AND (task = '' OR NOT EXISTS "
        "(SELECT 1 FROM entries n WHERE n.lane = e.lane AND n.ticket = e.ticket AND n.task = e.task "
        "AND n.seq > e.seq))",
        (by, to_ms(now), ticket, entry),
    )


def withdraw(conn: Connection, ticket: str, task: str, now: datetime) -> None:
    """Cancel a ticket's open entries, of one task or ('*') of all. What is landing is not called back."""
    conn.execute(
        "UPDATE entries SET state = 'cancelled', settled_at = ? WHERE ticket = ? AND (? = '*' OR task = ?) "
        "AND state IN ('queued', 'held', 'composed', 'checking', 'rework')",
        (to_ms(now), ticket, task, task),
    )


def retry(conn: Connection, lane: str, ids: Sequence[str], now: datetime) -> int:
    """Queue entries again that came back (rework, quarantined), at their old place; returns how many."""
    count = 0
    for name in ids:
        done = conn.execute(
            "UPDATE entries SET state = 'queued', due_at = ?, settled_at = NULL, attempts = 0, "
            "outcomes = deliveries WHERE lane = ? AND id = ? AND state IN ('rework', 'quarantined')",
            (to_ms(now), lane, name),
        )
        count += done.rowcount
    return count


def apply_move(conn: Connection, lane: str, move: EntryMove, now: datetime) -> None:
    """One entry's next state, as the lane decided it.

    A withdrawn entry stays withdrawn unless it turns out to have landed. Raises Stale when it was about to be
    landed, so that the lander looks again; Rejected for an entry that the lane does not have.
    """
    row = conn.execute("SELECT state FROM entries WHERE lane = ? AND id = ?", (lane, move.entry)).fetchone()
    if row is None:
        raise Rejected(f"there is no entry {move.entry} in lane {lane}")
    if row["state"] in (E.CANCELLED, E.SUPERSEDED) and move.to not in (E.LANDED, E.NOOP):
        if move.to is E.LANDING:
            raise Stale(f"{move.entry} was withdrawn meanwhile")
        return
    conn.execute(
        "UPDATE entries SET state = ?, error_class = ?, error = ?, evidence = ?, oid = COALESCE(?, oid), "
        "due_at = ?, settled_at = ?, outcomes = outcomes + ?, attempts = attempts + ? "
        "WHERE lane = ? AND id = ?",
        (
            move.to,
            move.error_class,
            move.error,
            move.evidence.model_dump_json() if move.evidence else None,
            move.commit,
            to_ms(now + timedelta(seconds=move.delay_seconds)),
            None if move.to in _OPEN else to_ms(now),
            0 if move.to in _UNDER_WAY else 1,
            int(move.counts),
            lane,
            move.entry,
        ),
    )


def entry_of(row: Row) -> Entry:
    """A row of SELECT as the lander sees it."""
    return Entry.model_validate(
        {
            **json.loads(row["body"]),
            "id": row["id"],
            "lane": row["lane"],
            "ticket": row["ticket"],
            "task": row["task"],
            "priority": row["priority"],
            "seq": row["seq"],
            "state": row["state"],
            "accepted": from_ms(row["accepted_at"]),
            "deliveries": row["deliveries"],
            "outcomes": row["outcomes"],
            "attempts": row["attempts"],
            "error_class": row["error_class"],
            "error": row["error"],
            "evidence": json.loads(row["evidence"]) if row["evidence"] else None,
            "next_try": from_ms(row["due_at"]),
            "commit": row["oid"],
            "released_by": row["released_by"],
        }
    )
