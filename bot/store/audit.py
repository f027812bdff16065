"""The audit chain: append-only rows that hold digests, and the erasable texts that they refer to.

A row's hash covers the hash before it, so a row that was changed, removed or put in is found; `meta` holds
the count and the newest hash, so a tail that was cut off is found as well. docs/audit-log.md shows how to
check an export without this code.
"""

import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple, TextIO

from bot.errors import Rejected
from bot.store.connection import Connection, Row, from_ms, insert, to_ms, update, upsert
from bot.store.database import Part
from schemas.audit import AuditRow

GENESIS: Final = "0" * 64
"""What stands before the first row."""

LINKS_AT_ONCE: Final = 100

_ANCHOR: Final = "audit-head"


class Record(NamedTuple):
    """What a row says. `event` and `decision` are texts, kept by their digests."""

    subject: str
    kind: str
    event: str
    decision: str = ""
    before: str = ""
    after: str = ""
    why: str = ""
    actor: str = ""


class Verified(NamedTuple):
    """How many rows the chain has, what is wrong with it (nothing: it is whole), and its newest hash."""

    records: int
    faults: tuple[str, ...]
    head: str


def digest_of(text: str) -> str:
    """SHA-256 of a text's UTF-8, in hex. Lone surrogates, which JSON can carry, count as themselves."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def chain_hash(previous: str, row: dict[str, Any]) -> str:
    """SHA-256 of the hash before, a newline and the row's canonical JSON: sorted keys, no spaces, ASCII."""
    canonical = json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(f"{previous}\n{canonical}".encode("ascii")).hexdigest()


def append(conn: Connection, now: datetime, record: Record) -> int:
    """Append a row in the caller's transaction; returns its number."""
    last = conn.execute("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
    seq, previous = (last["seq"] + 1, last["hash"]) if last else (1, GENESIS)
    at, event, decision = to_ms(now), _keep_text(conn, record.event), _keep_text(conn, record.decision)
    row = {"seq": seq, **record._asdict(), "event": event, "decision": decision}
    head = chain_hash(previous, {**row, "at": _shown(at)})
    insert(conn, "audit", **row, at=at, previous=previous, hash=head)
    upsert(conn, "meta", "key", key=_ANCHOR, value=f"{seq}:{head}")
    return int(seq)


def _keep_text(conn: Connection, text: str) -> str:
    """Store a text under its digest and return that; an empty text has the empty digest."""
    if not text:
        return ""
    digest = digest_of(text)
    known = "ON CONFLICT (digest) DO UPDATE SET body = excluded.body, erased = 0 WHERE erased = 1"
    insert(conn, "texts", known, digest=digest, body=text)
    return digest


def _shown(at: int) -> str:
    """An instant as a row's hash and an export have it: RFC 3339 with milliseconds."""
    return from_ms(at).isoformat(timespec="milliseconds")


def _exported(found: Row) -> dict[str, Any]:
    """A row as an export has it. Its hash covers all of it but `previous` and `hash`."""
    return {**{name: found[name] for name in AuditRow.model_fields}, "at": _shown(found["at"])}


def _verify(conn: Connection) -> Verified:
    faults: list[str] = []
    previous, count = GENESIS, 0
    for count, found in enumerate(conn.execute("SELECT * FROM audit ORDER BY seq"), 1):
        if found["seq"] != count:
            faults.append(f"row {count} is missing")
            break
        row = _exported(found)
        links = (row.pop("previous"), row.pop("hash"))
        if links != (previous, chain_hash(previous, row)):
            faults.append(f"row {count} was changed")
            break
        previous = found["hash"]
    anchor = conn.execute("SELECT value FROM meta WHERE key = ?", (_ANCHOR,)).fetchone()
    if not faults and (anchor["value"] if anchor else f"0:{GENESIS}") != f"{count}:{previous}":
        faults.append(f"the rows behind row {count} were cut off")
    for text in conn.execute("SELECT digest, body FROM texts WHERE erased = 0"):
        if text["body"] is None or digest_of(text["body"]) != text["digest"]:
            faults.append(f"text {text['digest']} was changed")
    missing = """SELECT seq FROM audit WHERE (event <> '' AND event NOT IN (SELECT digest FROM texts))
        OR (decision <> '' AND decision NOT IN (SELECT digest FROM texts)) ORDER BY seq"""
    faults += [f"a text of row {row['seq']} is missing" for row in conn.execute(missing)]
    return Verified(count, tuple(faults), previous)


_HISTORY: Final = """SELECT a.*, e.body AS event_text, d.body AS decision_text FROM audit a
    LEFT JOIN texts e ON e.digest = a.event LEFT JOIN texts d ON d.digest = a.decision """


class Link(NamedTuple):
    """A row with its texts; None for one that was erased, empty for one that there never was."""

    row: AuditRow
    event: str | None
    decision: str | None


def _row_of(found: Row) -> AuditRow:
    return AuditRow.model_validate(_exported(found))


class AuditLog(Part):
    """The chain as the loop's neighbours read it: verify, show, replay, export, forget."""

    async def newest(self, subject: str, last: int) -> tuple[Sequence[tuple[AuditRow, bool]], int]:
        """The last rows (of one subject, or "" of all), oldest first, and whether a text was erased; how many there are."""
        which, values = ("WHERE a.subject = ? ", (subject,)) if subject else ("", ())
        sql = f"""SELECT a.*, COALESCE(e.erased, 0) + COALESCE(d.erased, 0) AS erased FROM audit a
            LEFT JOIN texts e ON e.digest = a.event LEFT JOIN texts d ON d.digest = a.decision
            {which} ORDER BY a.seq DESC LIMIT ?"""
        rows = await self.database.rows(sql, *values, last)
        many = (await self.database.rows(f"SELECT COUNT(*) AS n FROM audit a {which}", *values))[0]["n"]
        return [(_row_of(row), bool(row["erased"])) for row in reversed(rows)], many

    async def subjects(self) -> Sequence[str]:
        """Every ticket and lane that the chain is about."""
        return [row["subject"] for row in await self.database.rows("SELECT DISTINCT subject FROM audit ORDER BY 1")]

    async def links(self, subject: str) -> AsyncIterator[Link]:
        """One subject's rows with their texts, oldest first; a few at a time, however many there are."""
        after = 0
        while True:
            sql = _HISTORY + "WHERE a.subject = ? AND a.seq > ? ORDER BY a.seq LIMIT ?"
            rows = await self.database.rows(sql, subject, after, LINKS_AT_ONCE)
            for found in rows:
                row = _row_of(found)
                texts = [found[f"{name}_text"] if getattr(row, name) else "" for name in ("event", "decision")]
                yield Link(row, *texts)
            if len(rows) < LINKS_AT_ONCE:
                return
            after = rows[-1]["seq"]

    async def verify(self) -> Verified:
        """Walk the chain and recompute every digest, on one snapshot of the file."""
        return await self.database.scan(_verify)

    async def export(self, target: TextIO) -> int:
        """Write the chain as JSON lines `{row, event, decision}` (null: erased); returns how many rows."""

        def work(conn: Connection) -> int:
            for found in conn.execute(_HISTORY + "ORDER BY a.seq"):
                line = {"row": _exported(found), "event": found["event_text"], "decision": found["decision_text"]}
                target.write(json.dumps(line, ensure_ascii=True) + "\n")
            return int(conn.execute("SELECT COUNT(*) FROM audit").fetchone()[0])

        return await self.database.scan(work)

    async def forget(self, ticket: str, now: datetime, by: str = "") -> int:
        """Erase what people and agents wrote for a closed ticket; returns how many texts of the chain.

        The digests stay whole, and a row records the erasure. Raises Rejected for an open or unknown ticket.
        """
        erased = await self.database.write("forget", lambda conn: _erase(conn, ticket, now, by))
        # Moves the write-ahead log into the file, so that nothing erased is left in it.
        await self.database.rows("PRAGMA wal_checkpoint(TRUNCATE)")
        return erased


def _erase(conn: Connection, ticket: str, now: datetime, by: str) -> int:
    found = conn.execute("SELECT open FROM tickets WHERE id = ?", (ticket,)).fetchone()
    if found is None:
        raise Rejected(f"there is no ticket {ticket}")
    if found["open"]:
        raise Rejected(f"{ticket} is still open: close its issue first")
    # The rows of a lane name every ticket of a train: only lanes that this ticket alone has used go with it.
    lanes = """SELECT DISTINCT lane FROM entries e WHERE ticket = ?
        AND NOT EXISTS (SELECT 1 FROM entries o WHERE o.lane = e.lane AND o.ticket <> e.ticket)"""
    erased = 0
    for subject in (ticket, *(row["lane"] for row in conn.execute(lanes, (ticket,)))):
        for column in ("event", "decision"):
            used = f"erased = 0 AND digest IN (SELECT {column} FROM audit WHERE subject = ?)"
            erased += update(conn, "texts", used, subject, body=None, erased=1)
    # The other places that hold such texts, once nothing reads them any more (events: only until decided).
    rested = "ticket = ? AND settled_at IS NOT NULL"
    update(conn, "outbox", "ticket = ? AND state NOT IN ('pending', 'leased')", ticket, body="{}", error="")
    update(conn, "entry_bodies", f"seq IN (SELECT seq FROM entries WHERE {rested})", ticket, body="{}", change="")
    update(conn, "entries", rested, ticket, error="", evidence=None)
    conn.execute(_EMPTIED, (ticket,))
    append(conn, now, Record(ticket, "forgotten", event="", why="its texts were erased", actor=by))
    return erased


_EMPTIED: Final = """UPDATE tickets SET body = json_set(body, '$.title', '', '$.body', '', '$.outline', '', '$.note', '',
    '$.scope', NULL, '$.plan', NULL, '$.questions', json('[]'), '$.offered', json('[]'),
    '$.faults', json('[]'), '$.tasks', json('[]')) WHERE id = ?"""
