"""An operator's acts on the queue: each is one transaction with its row in the audit chain and its word to the ticket."""

import difflib
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from bot.errors import Rejected
from bot.rules.lane_turn import kind_of
from bot.rules.operating import operated, reopening
from bot.rules.states import LANE_MOVES, may, move
from bot.store import audit, inbox
from bot.store.connection import Connection, Row, to_ms, update
from bot.store.database import Part
from bot.store.entries import AGAIN, OPEN, WHOLE, entry_of, save_lane
from schemas import events as e
from schemas import lane as q
from schemas.base import Evidence
from schemas.commands import Command, Done
from schemas.ticket import Ticket

NEAR_AMONG: Final = 20_000
"""How many of the newest ids are compared with an unknown one."""


class Unknown(Rejected):
    """There is no entry or lane of that name."""


class Ambiguous(Rejected):
    """Several lanes have an entry of that name."""


def unknown(name: str, known: Sequence[str]) -> Unknown:
    """With the names that are nearly so."""
    parts = [one for one in known if name and name in one][:3]
    near = parts or difflib.get_close_matches(name, known, n=3)
    return Unknown(f"there is no {name} here" + (f"; did you mean {', '.join(near)}?" if near else ""))


def find(conn: Connection, entry: str, lane: str = "") -> Row:
    """The row of queue.WHOLE of one entry. Raises Unknown, with near ids, and Ambiguous, with the lanes."""
    rows = conn.execute(WHOLE + "WHERE e.id = ? AND ? IN ('', e.lane) ORDER BY e.seq", (entry, lane)).fetchall()
    if len(rows) > 1:
        lanes = ", ".join(row["lane"] for row in rows)
        raise Ambiguous(f"{entry} is in {len(rows)} lanes ({lanes}): name one with --lane")
    if not rows:
        sql = "SELECT id FROM entries ORDER BY seq DESC LIMIT ?"
        raise unknown(entry, list(dict.fromkeys(row["id"] for row in conn.execute(sql, (NEAR_AMONG,)))))
    found: Row = rows[0]
    return found


def _operate(conn: Connection, command: Command, now: datetime) -> Done:
    is_lane = "SELECT 1 FROM lanes WHERE key = ?"
    if command.command == "release":
        key = command.entry or command.lane
        if not command.entry or conn.execute(is_lane, (key,)).fetchone():
            return _resume(conn, key, command, now)
    entry = entry_of(find(conn, command.entry, command.lane))
    to = operated(entry.id, entry.state, command.command)
    if not isinstance(to, q.EntryState):
        raise Rejected(to)
    reason = f"{command.command} by {command.by}"
    if to is q.EntryState.QUEUED:
        _reopen(conn, entry, command, now)
    else:
        update(conn, "entries", "seq = ?", entry.seq, state=to, settled_at=to_ms(now))
        reason = f"taken out of the queue by {command.by}"
    done = Done(command=command.command, lane=entry.lane, entry=entry.id, before=entry.state, after=to,
                by=command.by, why=reason)  # fmt: skip
    seq = _record(conn, command, done, now)
    if entry.ticket:
        common = {"ticket": entry.ticket, "entry": entry.id, "entry_kind": kind_of(entry), "task": entry.task}
        told: e.Event = e.EntryReopened.model_validate({**common, "by": command.by})
        if to is q.EntryState.CANCELLED:
            returned = {"state": to, "error_class": q.ErrorClass.POLICY, "evidence": Evidence(reason=reason)}
            told = e.EntryReturned.model_validate({**common, **returned})
        inbox.put_for(conn, entry.ticket, f"command:{seq}", told, now)
    return done


def _reopen(conn: Connection, entry: q.Entry, command: Command, now: datetime) -> None:
    """Back into the queue. Raises Rejected if the entry's ticket goes another way meanwhile."""
    row = conn.execute("SELECT body FROM tickets WHERE id = ? AND body <> ''", (entry.ticket,)).fetchone()
    ticket = Ticket.model_validate_json(row["body"]) if row else None
    if ticket and (why_not := reopening(ticket, entry.id, entry.task)):
        raise Rejected(why_not)
    if entry.change is None and entry.series is None and entry.rebase is None:
        raise Rejected(f"the content of {entry.id} was erased")
    conn.execute(f"UPDATE entries SET {AGAIN} WHERE seq = ?", (to_ms(now), entry.seq))
    if command.command == "release":
        update(conn, "entries", "seq = ?", entry.seq, released_by=command.by)


def _resume(conn: Connection, key: str, command: Command, now: datetime) -> Done:
    """A paused lane goes on, a frozen one asks its base again; the tickets that wait in it are told."""
    row = conn.execute("SELECT body FROM lanes WHERE key = ?", (key,)).fetchone()
    if row is None:
        raise unknown(key, [row["key"] for row in conn.execute("SELECT key FROM lanes ORDER BY key")])
    lane = q.Lane.model_validate_json(row["body"])
    action = next((one for one in ("resume", "look again") if may(LANE_MOVES, lane.state, one)), None)
    if action is None:
        raise Rejected(f"{key} is {lane.state}: nothing to resume")
    state = move(LANE_MOVES, lane.state, action)
    # Those that wait for another head are due now.
    conn.execute(
        "UPDATE entries SET due_at = ?1 WHERE lane = ?2 AND state = 'queued' AND due_at > ?1", (to_ms(now), key)
    )
    # A lander that works on the version before is told so (Stale) and looks again.
    save_lane(conn, lane.model_copy(update={"state": state, "why": "", "version": lane.version + 1}))
    done = Done(
        command="release", lane=key, before=lane.state, after=state, by=command.by, why=f"resumed by {command.by}"
    )
    seq = _record(conn, command, done, now)
    waiting = f"""SELECT DISTINCT ticket FROM entries WHERE lane = ? AND ticket <> ''
        AND state IN ({", ".join("?" * len(OPEN))}) ORDER BY ticket"""
    for found in conn.execute(waiting, (key, *OPEN)).fetchall():
        opened = e.LaneOpened(lane=key)
        inbox.put_for(conn, found["ticket"], f"command:{seq}:{found['ticket']}", opened, now)
    return done


def _record(conn: Connection, command: Command, done: Done, now: datetime) -> int:
    """The chain's row; returns its number."""
    about = f"{done.entry}: {done.why}" if done.entry else done.why
    return audit.append(conn, now, audit.Record(
        done.lane, f"operator_{command.command}", command.model_dump_json(), before=done.before, after=done.after,
        why=about, actor=command.by,
    ))  # fmt: skip


class Operating(Part):
    """What `interlock queue` and `POST /commands` write."""

    async def operate(self, command: Command, now: datetime) -> Done:
        """Do it. Raises Unknown, Ambiguous, or Rejected with why it cannot be done; nothing is changed then."""
        return await self.database.write(f"operate:{command.command}", lambda conn: _operate(conn, command, now))
