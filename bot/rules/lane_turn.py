"""One decision on a lane while it is being made: the lane as it changes, its entries' moves, and what tickets are told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from bot.rules.states import ENTRY_MOVES, IllegalMove, leads
from schemas.base import Evidence
from schemas.decision import EntryMove, LaneDecision
from schemas.events import EntryLanded, EntryReturned, Event, LaneOpened, LaneStopped
from schemas.lane import Carriage, Entry, EntryState, ErrorClass, Lane, NewEntry

ATTEMPTS = 3


def kind_of(entry: NewEntry) -> Literal["change", "series", "rebase"]:
    """What an entry carries."""
    if entry.series is not None:
        return "series"
    return "rebase" if entry.rebase is not None else "change"


class LaneTurn:
    """Mutable only inside one call of `lanes.decide`."""

    def __init__(self, lane: Lane, entries: Mapping[str, Entry]) -> None:
        self.lane = lane.model_copy(update={"version": lane.version + 1})
        self.entries = entries
        self.moves: list[EntryMove] = []
        self.emits: list[Event] = []
        self.why = ""

    def set(self, **changes: object) -> None:
        """Change fields of the lane."""
        self.lane = self.lane.model_copy(update=changes)

    def again(self, entry: str, error: str = "", *, counts: bool = False, delay: float = 0.0) -> None:
        """Back into the queue; three counted failures set it aside."""
        known = self.entries.get(entry)
        if known is not None and known.state in (EntryState.CANCELLED, EntryState.SUPERSEDED):
            return  # withdrawn meanwhile: it stays so
        if counts and known is not None and known.attempts + 1 >= ATTEMPTS:
            self.back(entry, EntryState.QUARANTINED, ErrorClass.INFRA, Evidence(reason=error))
            return
        cls = ErrorClass.INFRA if counts else None
        self.moves.append(
            EntryMove(
                entry=entry, to=EntryState.QUEUED, error=error, error_class=cls, counts=counts, delay_seconds=delay
            )
        )

    def back(self, entry: str, to: EntryState, cls: ErrorClass, evidence: Evidence) -> None:
        """Out of the queue, with the reason."""
        self.moves.append(
            EntryMove(entry=entry, to=to, error_class=cls, error=evidence.reason, evidence=evidence, counts=True)
        )
        known = self.entries.get(entry)
        if known is not None and known.ticket:
            self.emits.append(
                EntryReturned(
                    ticket=known.ticket, entry=entry, entry_kind=kind_of(known), task=known.task, state=to,
                    error_class=cls, evidence=evidence,
                )
            )  # fmt: skip

    def landed(self, entry: str, state: EntryState, commit: str, tree: str, carriage: Carriage | None) -> None:
        """At rest on the branch."""
        self.moves.append(EntryMove(entry=entry, to=state, commit=commit))
        known = self.entries.get(entry)
        if known is None or not known.ticket:
            return
        self.emits.append(
            EntryLanded(
                ticket=known.ticket, entry=entry, entry_kind=kind_of(known), task=known.task, state=state,
                commit=commit, tree=tree,
                commits=carriage.commits if carriage else (),
                paths=carriage.paths if carriage else (),
                digest=carriage.digest if carriage else "",
                verdict=self.lane.train.verdict if self.lane.train else "",
                onto=known.rebase.onto if known.rebase else None,
                dropped=carriage.dropped if carriage else (),
            )
        )  # fmt: skip

    def requeue_train(self, why: str, *, counts: bool = False, delay: float = 0.0) -> None:
        """Take the train apart; nothing of it was landed."""
        self.why = why
        if self.lane.train is not None:
            for carriage in self.lane.train.carriages:
                self.again(carriage.entry, why if counts else "", counts=counts, delay=delay)
        self.set(train=None)

    def tell(self, event: type[LaneStopped] | type[LaneOpened], why: str = "") -> None:
        """Every ticket that waits in this lane."""
        for ticket in sorted({entry.ticket for entry in self.entries.values() if entry.ticket}):
            if event is LaneStopped:
                self.emits.append(LaneStopped(ticket=ticket, lane=self.lane.key, why=why))
            else:
                self.emits.append(LaneOpened(ticket=ticket, lane=self.lane.key))

    def decision(self) -> LaneDecision:
        """What is stored. Raises IllegalMove for a move that no table has: a defect of ours."""
        for move in self.moves:
            known = self.entries.get(move.entry)
            if known is not None and known.state != move.to and not leads(ENTRY_MOVES, known.state, move.to):
                raise IllegalMove(f"entry {move.entry} cannot go from {known.state} to {move.to}")
        return LaneDecision(lane=self.lane, moves=tuple(self.moves), emits=tuple(self.emits), why=self.why)
