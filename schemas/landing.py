"""The merge queue's outcomes, as a ticket is told them. Part of the union in schemas.events."""

from typing import Literal

from schemas.base import Evidence, Sha, TicketEvent
from schemas.lane import EntryState, ErrorClass


class EntryLanded(TicketEvent, kind="entry_landed"):
    """An entry of this ticket is on its branch, read back from the remote. `commits`: (change request, commit)."""

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


class EntryReturned(TicketEvent, kind="entry_returned"):
    """An entry left the queue without landing: rework (the agent's turn), quarantined or cancelled."""

    entry: str
    entry_kind: Literal["change", "series", "rebase"]
    task: str = ""
    state: EntryState
    error_class: ErrorClass
    evidence: Evidence


class LaneStopped(TicketEvent, kind="lane_stopped"):
    """The lane is frozen or paused; nothing of this ticket lands until it is open again."""

    lane: str
    why: str


class LaneOpened(TicketEvent, kind="lane_opened"):
    """The lane goes on."""

    lane: str
