"""What the records say of one ticket, entry or commit, for `interlock why`. It only reads; erased texts are None."""

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from bot.store.connection import from_ms
from bot.store.database import Part
from bot.store.entries import WHOLE, entry_of
from schemas.base import Frozen, Instant, Sha
from schemas.lane import Carriage, Composed, Entry
from schemas.ticket import Ticket


class Told(Frozen):
    """An event of a ticket as the chain has it; `text` is its JSON."""

    at: Instant
    kind: str
    actor: str
    text: dict[str, Any] | None


class Landing(Frozen):
    """How an entry came onto its lane. `train` is the number of the chain's row that composed it."""

    lane: str
    at: Instant
    train: int
    onto: Sha | None
    carriage: Carriage | None


class Traces(Part):
    """From a commit back to its request, and forth."""

    async def entries_like(self, *, ticket: str = "", commit: str = "", name: str = "") -> Sequence[tuple[Entry, str]]:
        """Entries of a ticket, or landed as a commit, or of an id, in order, each with the digest of its content."""
        which = [(column, value) for column, value in (("ticket", ticket), ("oid", commit), ("id", name)) if value]
        where = " AND ".join(f"e.{column} = ?" for column, _ in which)
        sql = WHOLE.replace("b.body,", "b.body, e.digest,")
        rows = await self.database.rows(f"{sql} WHERE {where} ORDER BY e.seq", *(value for _, value in which))
        return [(entry_of(row), row["digest"]) for row in rows]

    async def told(self, ticket: str, *kinds: str) -> Sequence[Told]:
        """A ticket's events of these kinds, oldest first."""
        sql = f"""SELECT a.at, a.kind, a.actor, t.body FROM audit a LEFT JOIN texts t ON t.digest = a.event
            WHERE a.subject = ? AND a.kind IN ({", ".join("?" * len(kinds))}) ORDER BY a.seq"""
        rows = await self.database.rows(sql, ticket, *kinds)
        return [
            Told(at=from_ms(row["at"]), kind=row["kind"], actor=row["actor"], text=json.loads(row["body"] or "null"))
            for row in rows
        ]

    async def landing(self, entry: Entry) -> Landing | None:
        """When and onto what an entry landed; None if it has not."""
        row = await self.database.row("SELECT settled_at FROM entries WHERE seq = ? AND oid IS NOT NULL", entry.seq)
        if row is None or row["settled_at"] is None:
            return None
        sql = """SELECT a.seq, t.body FROM audit a LEFT JOIN texts t ON t.digest = a.event WHERE a.subject = ?1
            AND a.kind = 'composed' AND a.seq <= (SELECT MAX(seq) FROM audit WHERE subject = ?1 AND at = ?2)
            ORDER BY a.seq DESC LIMIT 1"""
        train = await self.database.row(sql, entry.lane, row["settled_at"])
        if train is None:
            return None
        composed = Composed.model_validate_json(train["body"]) if train["body"] else None
        carriages = {result.entry: result.carriage for result in composed.results} if composed else {}
        return Landing(
            lane=entry.lane, at=from_ms(row["settled_at"]), train=train["seq"], onto=composed.base if composed else None,
            carriage=carriages.get(entry.id),
        )  # fmt: skip

    async def verdict_of(self, lane: str, train: int) -> str | None:
        """What the last checks of a train gave, as its row says it."""
        sql = """SELECT kind, why FROM audit WHERE subject = ? AND kind IN ('checked', 'confirmed', 'composed')
            AND seq > ? ORDER BY seq"""
        rows = await self.database.rows(f"{sql} LIMIT 64", lane, train)
        row = next((one for one, next_one in pairwise(rows) if next_one["kind"] != "checked"), None)
        return row["why"] if row else None

    async def composed_once(self, lane: str, commit: str) -> bool:
        """Whether the lane's trains ever held this commit, though no entry ends in it any more (it was rebased)."""
        sql = """SELECT 1 FROM audit a JOIN texts t ON t.digest = a.event
            WHERE a.subject = ? AND a.kind = 'composed' AND instr(t.body, ?) > 0 LIMIT 1"""
        return await self.database.row(sql, lane, f'"{commit}"') is not None

    async def tickets_of(self, issue: int, repository: str = "") -> Sequence[Ticket]:
        """Every ticket of an issue number, of one repository's printed name or of all."""
        sql = "SELECT body FROM tickets WHERE issue = ? AND body <> '' AND (? = '' OR id LIKE ? || '#%') ORDER BY opened_at"
        return await self.database.models(Ticket, sql, issue, repository, repository)

    async def base_lanes(self) -> Sequence[str]:
        """The lanes of the branches that tickets land on."""
        sql = """SELECT DISTINCT l.key FROM lanes l JOIN tickets t
            ON l.key = t.repo_id || ':refs/heads/' || t.base_ref ORDER BY l.key"""
        return [row["key"] for row in await self.database.rows(sql)]

    async def lane_keys(self) -> Sequence[str]:
        """Every lane."""
        return [row["key"] for row in await self.database.rows("SELECT key FROM lanes ORDER BY key")]
