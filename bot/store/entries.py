"""The rows of the merge queue: lanes and entries. Only entry state in here counts; tickets mirror it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from bot.errors import Rejected, Stale
from bot.store.audit import digest_of, from_ms, to_ms
from bot.store.database import Connection
from schemas.base import Evidence
from schemas.decision import EntryMove
from schemas.lane import Entry, EntryState, ErrorClass, Lane, NewEntry

AGE_SECONDS_PER_PRIORITY = 3600
"""An entry that has waited this long has gained one step of priority: nothing starves (decisions.md 7)."""

_STORED_APART = {"id", "lane", "ticket", "task", "priority"}


def lane_of(conn: Connection, key: str) -> Lane:
    """The lane as stored, or a fresh open one."""
    row = conn.execute("SELECT body, version FROM lanes WHERE key = ?", (key,)).fetchone()
    if row is None:
        return Lane(key=key, ref=key.split(":", 1)[1])
    return Lane.model_validate_json(row["body"])


def save_lane(conn: Connection, lane: Lane) -> None:
    """Write the lane; its lease's columns stay."""
    conn.execute(
        "INSERT INTO lanes (key, version, state, train, body) VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE "
        "SET version = excluded.version, state = excluded.state, train = excluded.train, body = excluded.body",
        (lane.key, lane.version, lane.state, int(lane.train is not None), lane.model_dump_json()),
    )


def body_digest(entry: NewEntry) -> str:
    """What must be equal for the same id to be the same entry: the payload, not its circumstances."""
    payload = entry.model_dump(mode="json", include={"change", "series", "rebase"}, by_alias=True)
    return digest_of(json.dumps(payload, sort_keys=True))


def enqueue(conn: Connection, entries: Sequence[NewEntry], now: datetime) -> list[tuple[str, bool]]:
    """Add entries in order; the second of each pair is False where the id is known with another body."""
    answers = []
    for entry in entries:
        if conn.execute("SELECT 1 FROM lanes WHERE key = ?", (entry.lane,)).fetchone() is None:
            save_lane(conn, lane_of(conn, entry.lane).model_copy(update={"fork": entry.fork}))
        digest = body_digest(entry)
        known = conn.execute(
            "SELECT digest FROM entries WHERE lane = ? AND id = ?", (entry.lane, entry.id)
        ).fetchone()
        if known is not None:
            answers.append((entry.id, known["digest"] == digest))
            continue
        if entry.ticket and entry.task:
            conn.execute(
                "UPDATE entries SET state = 'superseded' WHERE lane = ? AND ticket = ? AND task = ? "
                "AND state IN ('queued', 'held', 'rework')",
                (entry.lane, entry.ticket, entry.task),
            )
        accepted = now.replace(microsecond=0)
        conn.execute(
            "INSERT INTO entries (lane, id, ticket, task, state, priority, accepted_ms, due_ms, digest, body) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                entry.lane,
                entry.id,
                entry.ticket,
                entry.task,
                EntryState.HELD if entry.held else EntryState.QUEUED,
                entry.priority,
                to_ms(accepted),
                to_ms(now),
                digest,
                entry.model_dump_json(exclude=_STORED_APART, by_alias=True),
            ),
        )
        answers.append((entry.id, True))
    return answers


def release(conn: Connection, ticket: str, entry: str, by: str, now: datetime) -> None:
    """A person lets a held entry go on."""
    conn.execute(
        "UPDATE entries SET state = 'queued', released_by = ?, due_ms = ? WHERE ticket = ? AND id = ? AND state = 'held'",
        (by, to_ms(now), ticket, entry),
    )


def withdraw(conn: Connection, ticket: str, task: str) -> None:
    """Cancel a ticket's open entries, of one task or ('*') of all. What is landing is not called back."""
    conn.execute(
        "UPDATE entries SET state = 'cancelled' WHERE ticket = ? AND (? = '*' OR task = ?) "
        "AND state IN ('queued', 'held', 'composed', 'checking', 'rework')",
        (ticket, task, task),
    )


def apply_move(conn: Connection, lane: str, move: EntryMove, now: datetime) -> None:
    """One entry's next state. A withdrawn entry stays withdrawn unless it turns out to have landed."""
    row = conn.execute("SELECT state FROM entries WHERE lane = ? AND id = ?", (lane, move.entry)).fetchone()
    if row is None:
        raise Rejected(f"no entry {move.entry} in lane {lane}")
    landed = move.to in (EntryState.LANDED, EntryState.NOOP)
    if row["state"] in ("cancelled", "superseded") and not landed:
        if move.to is EntryState.LANDING:
            raise Stale(f"{move.entry} was withdrawn meanwhile")
        return
    working = move.to in (EntryState.COMPOSED, EntryState.CHECKING, EntryState.LANDING)
    conn.execute(
        "UPDATE entries SET state = ?, error_class = ?, error = ?, evidence = ?, oid = COALESCE(?, oid), due_ms = ?, "
        "outcomes = outcomes + ?, attempts = attempts + ? WHERE lane = ? AND id = ?",
        (
            move.to,
            move.error_class,
            move.error,
            move.evidence.model_dump_json() if move.evidence else None,
            move.commit,
            to_ms(now + timedelta(seconds=move.delay_seconds)),
            0 if working else 1,
            1 if move.counts else 0,
            lane,
            move.entry,
        ),
    )


DUE_SQL = f"""SELECT * FROM entries WHERE lane = ? AND state = 'queued' AND due_ms <= ?
    ORDER BY priority + CAST((? - accepted_ms) / {AGE_SECONDS_PER_PRIORITY * 1000} AS INTEGER) DESC, seq LIMIT ?"""


def entry_of(row: Any) -> Entry:
    """A row as the lander sees it."""
    return Entry(
        **json.loads(row["body"]),
        id=row["id"],
        lane=row["lane"],
        ticket=row["ticket"],
        task=row["task"],
        priority=row["priority"],
        seq=row["seq"],
        state=EntryState(row["state"]),
        accepted=from_ms(row["accepted_ms"]),
        deliveries=row["deliveries"],
        outcomes=row["outcomes"],
        attempts=row["attempts"],
        error_class=ErrorClass(row["error_class"]) if row["error_class"] else None,
        error=row["error"],
        evidence=Evidence.model_validate_json(row["evidence"]) if row["evidence"] else None,
        next_try=from_ms(row["due_ms"]),
        commit=row["oid"],
        released_by=row["released_by"],
    )
