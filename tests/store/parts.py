"""What the store's tests build their cases from: a clock moved by hand, small tickets and effects."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bot.ports import Faults, no_faults
from bot.store.connection import from_ms
from bot.store.database import Database
from bot.store.store import SqliteStore, open_store
from schemas.audit import AuditRow
from schemas.base import Person, RepoRef
from schemas.change_request import ChangeRequest
from schemas.decision import Decision
from schemas.effects import Effect, PostComment, RunAgent, UpdateStatus
from schemas.events import Address, Addressed, CommentAdded, IssueLabelled
from schemas.lane import NewEntry
from schemas.ticket import Ticket, TicketState

T0 = datetime(2026, 3, 1, 12, 0, 0, 250_000, UTC)
REPO = RepoRef(id=7, full_name="octo/app")
ALICE = Person(id=1, login="alice", permission="write")
SHA = "a" * 40
TICKET = "octo/app#12"
BRANCH = "7:refs/heads/interlock/12"
BASE = "7:refs/heads/main"


class ManualClock:
    """`bot.ports.Clock`, moved by the test."""

    def __init__(self) -> None:
        self.now, self.seconds, self.boot_name = T0, 1000.0, "boot-1"

    def wall(self) -> datetime:
        return self.now

    def boot(self) -> float:
        return self.seconds

    def boot_id(self) -> str:
        return self.boot_name

    async def sleep(self, seconds: float) -> None:
        self.move(seconds)

    def move(self, seconds: float) -> datetime:
        """Let both clocks run on; returns the new wall time."""
        self.now += timedelta(seconds=seconds)
        self.seconds += seconds
        return self.now


def opened(path: Path, clock: ManualClock | None = None, faults: Faults = no_faults, **options: Any) -> Any:
    """`open_store`, with a clock that stands still unless one is given."""
    return open_store(path / "interlock.db", clock or ManualClock(), faults, **options)


def labelled(issue: int = 12, name: str = "octo/app") -> IssueLabelled:
    return IssueLabelled(
        repo=RepoRef(id=7, full_name=name), installation=1, issue=issue, label="interlock",
        title="Greet", body="Say hello.", author=ALICE, by=ALICE, at=T0,
    )  # fmt: skip


def label(key: str = "labelled:1", issue: int = 12, name: str = "octo/app") -> Addressed:
    return Addressed(key=key, to=Address(repo_id=7, issue=issue), event=labelled(issue, name))


def comment(key: str, issue: int = 12, generation: int | None = None, body: str = "yes") -> Addressed:
    event = CommentAdded(comment=1, body=body, by=ALICE, at=T0)
    return Addressed(key=key, to=Address(repo_id=7, issue=issue, generation=generation), event=event)


def ticket(id_: str = TICKET, **changes: Any) -> Ticket:
    values: dict[str, Any] = {
        "id": id_, "repo": REPO, "installation": 1, "issue": 12, "requester": ALICE, "author": ALICE,
        "title": "Greet", "body": "Say hello.", "opened_at": T0,
    }  # fmt: skip
    return Ticket(**{**values, **changes})


def post(name: str, ticket_id: str = TICKET) -> Effect:
    return PostComment(key=f"{ticket_id}:{name}", ticket=ticket_id, repo=REPO, installation=1, issue=12, body=name)


def status(name: str, ticket_id: str = TICKET) -> Effect:
    return UpdateStatus(
        key=f"{ticket_id}:{name}", ticket=ticket_id, repo=REPO, installation=1, issue=12, body=name,
        slot=f"{ticket_id}:status",
    )  # fmt: skip


def agent(name: str, ticket_id: str = TICKET) -> Effect:
    return RunAgent(
        key=f"{ticket_id}:{name}", ticket=ticket_id, repo=REPO, installation=1, role="developer", attempt=1, base=SHA
    )


def change(id_: str, content: str = "hello\n") -> ChangeRequest:
    return ChangeRequest.model_validate(
        {
            "version": 1, "id": id_, "base": SHA, "title": "Greet", "summary": "",
            "patch": [{"op": "add", "path": "greet.txt", "content": content, "encoding": "utf-8"}],
        }
    )  # fmt: skip


def entry(id_: str, lane: str = BRANCH, *, content: str = "hello\n", **values: Any) -> NewEntry:
    return NewEntry(id=id_, lane=lane, change=change(id_, content), **values)


async def decide(store: SqliteStore, **decision: Any) -> Ticket:
    """Decide the ticket's next event: a first decision opens it, a later one raises its version."""
    due = await store.next_event(decision.pop("of", TICKET))
    assert due is not None
    if due.ticket is None:
        event = due.event
        assert isinstance(event, IssueLabelled)
        generation = int(event.ticket.partition("~")[2] or 1)
        new = ticket(event.ticket, issue=event.issue, generation=generation)
    else:
        new = due.ticket.model_copy(update={"version": due.ticket.version + 1})
    new = new.model_copy(update=decision.pop("change", {}))
    await store.commit(due.seq, Decision(ticket=new, why="because", **decision), T0)
    return new


async def open_ticket(store: SqliteStore, issue: int = 12, **decision: Any) -> Ticket:
    """Label an issue and store the decision that opens its ticket."""
    await store.put([label(f"labelled:{issue}", issue)], T0)
    return await decide(store, of=f"octo/app#{issue}", **decision)


async def close_ticket(store: SqliteStore, id_: str = TICKET, issue: int = 12) -> None:
    """End a ticket."""
    await store.put([comment(f"last:{id_}", issue)], T0)
    await decide(store, of=id_, change={"state": TicketState.CANCELLED})


async def value(database: Database, sql: str, *values: Any) -> Any:
    """The first column of the first row, read past the store's own methods."""
    row = await database.row(sql, *values)
    return row[0] if row else None


async def outbox_rows(store: SqliteStore, ticket_id: str | None = None) -> list[SimpleNamespace]:
    """The effects of one ticket, done ones too, in their order; of all tickets only what is not done."""
    rows = await store.database.rows(
        "SELECT * FROM outbox WHERE ticket = ? OR (? IS NULL AND state IN ('pending', 'leased', 'gave_up')) "
        "ORDER BY seq",
        ticket_id, ticket_id,
    )  # fmt: skip
    return [SimpleNamespace(**dict(row), due=from_ms(row["due_at"])) for row in rows]


async def history(store: SqliteStore, subject: str | None = None) -> list[tuple[AuditRow, str, str]]:
    """The audit chain as it is exported: rows in order, of one ticket or lane or of all, with their texts."""
    target = io.StringIO()
    await store.export(target)
    lines = [json.loads(line) for line in target.getvalue().splitlines()]
    rows = [(AuditRow.model_validate(line["row"]), line["event"] or "", line["decision"] or "") for line in lines]
    return [row for row in rows if subject in (None, row[0].subject)]
