"""What a pure decider answers: the aggregate's next value, what must happen, and why. One transaction stores it all."""

from schemas.base import Evidence, Frozen, Sha
from schemas.effects import Effect
from schemas.events import Event
from schemas.lane import EntryState, ErrorClass, Lane, NewEntry
from schemas.ticket import Ticket


class Decision(Frozen):
    """For a ticket. `enqueue` and `release` act on the queue in the decision's own transaction.

    `withdraw` cancels the ticket's open entries: all of them ("*"), or those of the named tasks.
    """

    ticket: Ticket
    effects: tuple[Effect, ...] = ()
    emits: tuple[Event, ...] = ()
    enqueue: tuple[NewEntry, ...] = ()
    release: tuple[tuple[str, str], ...] = ()
    """(entry id, who released it)."""
    withdraw: tuple[str, ...] = ()
    again: bool = False
    """GitHub listens again: what waits for it is due now, and what it refused to post is tried once more."""
    priority: int | None = None
    """What the ticket's open entries have from now on."""
    why: str


class EntryMove(Frozen):
    """One entry's next state. `delay_seconds` postpones its next try; `counts` says whether an attempt is used up."""

    entry: str
    to: EntryState
    error_class: ErrorClass | None = None
    error: str = ""
    evidence: Evidence | None = None
    commit: Sha | None = None
    counts: bool = False
    delay_seconds: float = 0.0


class LaneDecision(Frozen):
    """For a lane. Stored with synchronous=FULL: an intent is on disk before its push."""

    lane: Lane
    moves: tuple[EntryMove, ...] = ()
    emits: tuple[Event, ...] = ()
    why: str
