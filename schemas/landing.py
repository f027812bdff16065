"""The merge queue's outcomes, as a ticket is told them. Part of the union in schemas.events."""

from typing import Literal

from schemas.base import Evidence, Sha, TicketEvent
from schemas.lane import EntryState, ErrorClass


class EntryLanded(TicketEvent):
    """An entry of this ticket is on its branch, read back from the remote. `commits`: (change request, commit)."""

    kind: Literal["entry_landed"] = "entry_landed"
    entry: str
    entry_kind: Literal["change", "series", "rebase"]
    task: str = ""
    state: EntryState = EntryState.LANDED
    commit: Sha
    tree: Sha
    commits: tuple[tuple[str, Sha], ...] = ()
    paths: tuple[str, ...] = ()
    digest: str = ""
    verdict: str = ""
    onto: Sha | None = None
    dropped: tuple[tuple[str, Evidence], ...] = ()


class EntryReturned(TicketEvent):
    """An entry left the queue without landing: rework (the agent's turn), quarantined or cancelled."""

    kind: Literal["entry_returned"] = "entry_returned"
    entry: str
    entry_kind: Literal["change", "series", "rebase"]
    task: str = ""
    state: EntryState
    error_class: ErrorClass
    evidence: Evidence


class LaneStopped(TicketEvent):
    """The lane is frozen or paused; nothing of this ticket lands until it is open again."""

    kind: Literal["lane_stopped"] = "lane_stopped"
    lane: str
    why: str


class LaneOpened(TicketEvent):
    """The lane goes on."""

    kind: Literal["lane_opened"] = "lane_opened"
    lane: str
