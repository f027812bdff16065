"""One decision about a lane while it is being made: its moves along the tables, and what tickets are told."""

from collections.abc import Iterable, Mapping
from typing import Literal

from bot.rules.states import ENTRY_MOVES, LANE_MOVES, TRAIN_MOVES, WITHDRAWN, IllegalMove, leads, move
from schemas import events as e
from schemas import lane as q
from schemas.base import Evidence
from schemas.decision import EntryMove

E = q.EntryState

ATTEMPTS = 3
FROZEN_SECONDS = 60.0


def kind_of(entry: q.NewEntry) -> Literal["change", "series", "rebase"]:
    """What an entry carries."""
    if entry.series is not None:
        return "series"
    return "rebase" if entry.rebase is not None else "change"


class LaneTurn:
    """One decision while it is being made; mutable only inside one call of `decide`."""

    def __init__(self, lane: q.Lane, entries: Mapping[str, q.Entry]) -> None:
        self.lane = lane.model_copy(update={"version": lane.version + 1})
        self.entries = entries
        self.moves: list[EntryMove] = []
        self.emits: list[e.Event] = []
        self.why = ""

    def set(self, **changes: object) -> None:
        """Change fields of the lane."""
        self.lane = self.lane.model_copy(update=changes)

    def move_lane(self, action: str, why: str = "") -> None:
        """Along the lane's table, with the reason that people are shown."""
        self.set(state=move(LANE_MOVES, self.lane.state, action), why=why)

    def move_train(self, train: q.Train, action: str, to: q.EntryState, **changes: object) -> None:
        """Along the train's table, all its entries with it."""
        state = move(TRAIN_MOVES, train.state, action)
        self.set(train=train.model_copy(update={"state": state, **changes}))
        for carriage in train.carriages:
            self.move_entry(EntryMove(entry=carriage.entry, to=to))

    def move_entry(self, step: EntryMove) -> q.Entry | None:
        """The entry that moves; None for one that was withdrawn meanwhile: it stays so unless it is found landed.

        Raises IllegalMove for a move that no table has: a defect of ours.
        """
        known = self.entries[step.entry]
        if known.state in WITHDRAWN and step.to not in (E.LANDING, E.LANDED):
            return None
        if known.state != step.to and not leads(ENTRY_MOVES, known.state, step.to):
            raise IllegalMove(f"entry {step.entry} cannot go from {known.state} to {step.to}")
        self.moves.append(step)
        return known

    def again(self, entry: str, error: str = "", *, counts: bool = False, delay: float = 0.0) -> None:
        """Back into the queue; three counted failures set it aside."""
        if counts and self.entries[entry].attempts + 1 >= ATTEMPTS:
            self.back(entry, E.QUARANTINED, q.ErrorClass.INFRA, Evidence(reason=error))
            return
        cls = q.ErrorClass.INFRA if counts else None
        step = EntryMove(entry=entry, to=E.QUEUED, error=error, error_class=cls, counts=counts, delay_seconds=delay)
        self.move_entry(step)

    def back(self, entry: str, to: q.EntryState, cls: q.ErrorClass, evidence: Evidence) -> None:
        """Out of the queue, with the reason."""
        step = EntryMove(entry=entry, to=to, error_class=cls, error=evidence.reason, evidence=evidence, counts=True)
        known = self.move_entry(step)
        if known is not None and known.ticket:
            event = e.EntryReturned(ticket=known.ticket, entry=entry, entry_kind=kind_of(known), task=known.task,
                                    state=to, error_class=cls, evidence=evidence)  # fmt: skip
            self.emits.append(event)

    def landed(self, to: q.EntryState, carriage: q.Carriage, said: str = "") -> None:
        """At rest on the branch; `said` adds to the train's verdict."""
        train = self.lane.train
        known = self.move_entry(EntryMove(entry=carriage.entry, to=to, commit=carriage.commit))
        if known is not None and known.ticket:
            event = e.EntryLanded(ticket=known.ticket, entry=known.id, entry_kind=kind_of(known), task=known.task,
                                  state=to, commit=carriage.commit, tree=carriage.tree, commits=carriage.commits,
                                  paths=carriage.paths, digest=carriage.digest, dropped=carriage.dropped,
                                  verdict="; ".join(filter(None, (train.verdict if train else "", said))),
                                  way=train.way if train else "push",
                                  onto=known.rebase.onto if known.rebase else None)  # fmt: skip
            self.emits.append(event)

    def requeue_train(self, train: q.Train, why: str, *, counts: bool = False, delay: float = 0.0) -> None:
        """Take the train apart; nothing of it was landed."""
        self.why = why
        for carriage in train.carriages:
            self.again(carriage.entry, why if counts else "", counts=counts, delay=delay)
        self.set(train=None)

    def tell(self, event: e.LaneStopped | e.LaneOpened) -> None:
        """Every ticket that waits in this lane and was not told yet: its entry's error is what it heard."""
        news = event.why if isinstance(event, e.LaneStopped) else ""
        told = {entry.ticket for entry in self.entries.values() if entry.error != news}
        for ticket in sorted(told - {""}):
            self.emits.append(event.model_copy(update={"ticket": ticket}))

    def wait_for_head(self, entries: Iterable[str], why: str) -> None:
        """They stay in the queue of a lane that is frozen, and their tickets hear why."""
        self.tell(e.LaneStopped(lane=self.lane.key, why=why))
        for entry in entries:
            self.again(entry, why, delay=FROZEN_SECONDS)
