"""The audit chain: append-only rows of digests, and the erasable texts that they refer to.

A row's hash covers the previous row's hash, so a changed or removed row is found; the head's hash and the count are
kept in `meta`, so a tail that was cut off is found as well.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from bot.store.database import Connection, Database
from schemas.audit import AuditRow

GENESIS = "0" * 64


def digest_of(text: str) -> str:
    """SHA-256 of a text, in hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def to_ms(moment: datetime) -> int:
    """Milliseconds since the epoch."""
    return round(moment.timestamp() * 1000)


def from_ms(milliseconds: int) -> datetime:
    """The aware instant."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def keep_text(conn: Connection, ticket: str, text: str) -> str:
    """Store a text under its digest and return that; empty for an empty text."""
    if not text:
        return ""
    digest = digest_of(text)
    conn.execute("INSERT OR IGNORE INTO texts (digest, ticket, body) VALUES (?, ?, ?)", (digest, ticket, text))
    return digest


def chain_hash(previous: str, row: dict[str, Any]) -> str:
    """The hash of a row: its canonical JSON behind the previous row's hash."""
    canonical = json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(f"{previous}\n{canonical}".encode()).hexdigest()


def append(
    conn: Connection,
    *,
    now: datetime,
    subject: str,
    kind: str,
    event: str,
    decision: str = "",
    before: str = "",
    after: str = "",
    why: str = "",
    actor: str = "",
) -> None:
    """Append a row in the caller's transaction; `event` and `decision` are texts, stored by digest."""
    last = conn.execute("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
    previous = last["hash"] if last else GENESIS
    row = {
        "seq": (last["seq"] if last else 0) + 1,
        "at_ms": to_ms(now),
        "subject": subject,
        "kind": kind,
        "event": keep_text(conn, subject, event),
        "decision": keep_text(conn, subject, decision),
        "before": before,
        "after": after,
        "why": why,
        "actor": actor,
    }
    digest = chain_hash(previous, row)
    conn.execute(
        "INSERT INTO audit (seq, at_ms, subject, kind, event, decision, before, after, why, actor, previous, hash) "
        "VALUES (:seq, :at_ms, :subject, :kind, :event, :decision, :before, :after, :why, :actor, :previous, :hash)",
        {**row, "previous": previous, "hash": digest},
    )
    conn.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('audit', ?)", (f"{row['seq']}:{digest}",))


def _row(found: Any) -> AuditRow:
    fields = {name: found[name] for name in AuditRow.model_fields if name != "at"}
    return AuditRow(at=from_ms(found["at_ms"]), **fields)


async def verify(database: Database) -> tuple[int, list[str]]:
    """Walk the chain; returns how many rows there are and what is wrong with them."""
    faults: list[str] = []
    previous, count = GENESIS, 0
    async with database.reading() as reader, reader.execute("SELECT * FROM audit ORDER BY seq") as cursor:
        names = [column[0] for column in cursor.description]
        async for values in cursor:
            found = dict(zip(names, values, strict=True))
            count += 1
            if found["seq"] != count:
                faults.append(f"row {count} is missing")
                break
            body = {name: found[name] for name in names if name not in ("previous", "hash")}
            if found["previous"] != previous or chain_hash(previous, body) != found["hash"]:
                faults.append(f"row {count} was changed")
                break
            previous = found["hash"]
    anchor = await database.row("SELECT value FROM meta WHERE key = 'audit'")
    if not faults and (anchor[0] if anchor else f"0:{GENESIS}") != f"{count}:{previous}":
        faults.append(f"rows behind row {count} were cut off")
    for digest, body in await database.rows("SELECT digest, body FROM texts WHERE erased = 0"):
        if digest_of(body) != digest:
            faults.append(f"text {digest[:12]} was changed")
    return count, faults


async def history(database: Database, subject: str | None = None) -> AsyncIterator[tuple[AuditRow, str, str]]:
    """Rows in order, each with its event's and decision's texts (empty where erased)."""
    where = "WHERE a.subject = ?" if subject else ""
    sql = (
        "SELECT a.*, e.body, d.body FROM audit a LEFT JOIN texts e ON e.digest = a.event "
        f"LEFT JOIN texts d ON d.digest = a.decision {where} ORDER BY a.seq"
    )
    values = (subject,) if subject else ()
    async with database.reading() as reader, reader.execute(sql, values) as cursor:
        names = [column[0] for column in cursor.description]
        async for found in cursor:
            yield _row(dict(zip(names[:-2], found[:-2], strict=True))), found[-2] or "", found[-1] or ""


def forget(conn: Connection, subject: str) -> int:
    """Erase the texts of a ticket; the chain of digests stays whole. Returns how many."""
    done = conn.execute("UPDATE texts SET body = NULL, erased = 1 WHERE ticket = ? AND erased = 0", (subject,))
    return int(done.rowcount)
