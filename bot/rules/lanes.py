"""The lane: what happens to a train and its entries at each step. Pure, over literal tables.

A lane goes compose -> check -> confirm -> prepare the intents -> push -> read back -> settle. Whatever was not
settled is found again after a crash by the lane's own value: there is no other memory. An intent is settled only by
reading the remote; an infrastructure failure never changes a change's verdict.
"""

from collections.abc import Mapping
from typing import Literal

from bot.rules.states import ENTRY_MOVES, LANE_MOVES, TRAIN_MOVES, WITHDRAWN, IllegalMove, leads, move
from schemas import events as e
from schemas import lane as q
from schemas.base import Evidence
from schemas.decision import EntryMove, LaneDecision

E = q.EntryState

ATTEMPTS = 3
CRASHES = 20
MAX_WINDOW = 32
RETRY_SECONDS = 5.0
FROZEN_SECONDS = 60.0
FAULTS = {
    q.Outcome.CONFLICT: (E.REWORK, q.ErrorClass.CONFLICT),
    q.Outcome.INVALID: (E.QUARANTINED, q.ErrorClass.INVALID),
    q.Outcome.POLICY: (E.QUARANTINED, q.ErrorClass.POLICY),
}
"""Where an entry goes that could not be composed, and whose turn it is (a series that the policy stops is reworked)."""


def pending_intent(lane: q.Lane) -> q.Intent | None:
    """The intent that must be pushed or settled now; they are made one after the other."""
    return next((i for i in lane.train.intents if not i.settled), None) if lane.train else None


def kind_of(entry: q.NewEntry) -> Literal["change", "series", "rebase"]:
    """What an entry carries."""
    if entry.series is not None:
        return "series"
    return "rebase" if entry.rebase is not None else "change"


class _Turn:
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

    def landed(self, to: q.EntryState, carriage: q.Carriage) -> None:
        """At rest on the branch."""
        known = self.move_entry(EntryMove(entry=carriage.entry, to=to, commit=carriage.commit))
        if known is not None and known.ticket:
            event = e.EntryLanded(ticket=known.ticket, entry=known.id, entry_kind=kind_of(known), task=known.task,
                                  state=to, commit=carriage.commit, tree=carriage.tree, commits=carriage.commits,
                                  paths=carriage.paths, digest=carriage.digest, dropped=carriage.dropped,
                                  verdict=self.lane.train.verdict if self.lane.train else "",
                                  onto=known.rebase.onto if known.rebase else None)  # fmt: skip
            self.emits.append(event)

    def requeue_train(self, train: q.Train, why: str, *, counts: bool = False, delay: float = 0.0) -> None:
        """Take the train apart; nothing of it was landed."""
        self.why = why
        for carriage in train.carriages:
            self.again(carriage.entry, why if counts else "", counts=counts, delay=delay)
        self.set(train=None)

    def tell(self, event: e.LaneStopped | e.LaneOpened) -> None:
        """Every ticket that waits in this lane."""
        for ticket in sorted({entry.ticket for entry in self.entries.values() if entry.ticket}):
            self.emits.append(event.model_copy(update={"ticket": ticket}))


def decide(lane: q.Lane, event: q.LaneEvent, entries: Mapping[str, q.Entry]) -> LaneDecision:
    """The lane after `event`. `entries` holds those of the train and of the event."""
    turn = _Turn(lane, entries)
    match event, lane.train:
        case q.Composed() as composed, _:
            _composed(turn, composed)
        case q.Checked() as checked, q.Train() as train:
            _checked(turn, train, checked)
        case q.Confirmed() as confirmed, q.Train() as train:
            _confirmed(turn, train, confirmed)
        case q.HeadRead() as read, q.Train() as train:
            _head_read(turn, train, read)
    return LaneDecision(lane=turn.lane, moves=tuple(turn.moves), emits=tuple(turn.emits), why=turn.why)


def _composed(turn: _Turn, event: q.Composed) -> None:
    for entry in sorted(turn.entries.keys() - {result.entry for result in event.results}):
        turn.again(entry)  # behind the end of this train: begun, and no crash
    if turn.lane.state is q.LaneState.FROZEN:
        if event.base == turn.lane.head:
            turn.why = "the head is still the one that fails its checks"
            for result in event.results:
                turn.again(result.entry, delay=FROZEN_SECONDS)
            return
        turn.move_lane("head moved")
        turn.tell(e.LaneOpened(lane=turn.lane.key))
    carriages = tuple(filter(None, [_taken(turn, result) for result in event.results]))
    turn.why = f"composed {len(carriages)} of {len(event.results)} on {event.base[:12]}"
    train = None
    if carriages:
        last = carriages[-1]
        train = q.Train(base=event.base, old=event.old, tip=last.commit, tree=last.tree, carriages=carriages)
    turn.set(train=train, head=event.base)


def _taken(turn: _Turn, result: q.ComposeResult) -> q.Carriage | None:
    """The entry's part of the train; None if it leaves the queue or must wait, for what composing it gave."""
    entry, outcome = turn.entries[result.entry], result.outcome
    evidence = result.evidence or Evidence(reason=outcome)
    if outcome is q.Outcome.COMPOSED and result.carriage is not None:
        if entry.deliveries - entry.outcomes <= CRASHES:
            turn.move_entry(EntryMove(entry=entry.id, to=E.COMPOSED))
            return result.carriage
        reason = f"it was under way {CRASHES} times when the process died"
        turn.back(entry.id, E.QUARANTINED, q.ErrorClass.INFRA, Evidence(reason=reason))
    elif result.carriage is not None:
        turn.landed(E.NOOP if outcome is q.Outcome.NOOP else E.LANDED, result.carriage)
    elif outcome in FAULTS:
        to, cls = FAULTS[outcome]
        turn.back(entry.id, E.REWORK if outcome is q.Outcome.POLICY and entry.series else to, cls, evidence)
    else:
        turn.again(entry.id, evidence.reason, counts=True, delay=RETRY_SECONDS)
    return None


def _checked(turn: _Turn, train: q.Train, event: q.Checked) -> None:
    evidence = event.evidence or Evidence(reason="the checks could not be run")
    reason = evidence.reason
    if event.outcome == "green":
        turn.why = event.verdict or "the checks pass"
        turn.move_train(train, "green", E.CHECKING, verdict=event.verdict)
    elif event.outcome == "unknown":
        turn.requeue_train(train, reason, counts=True, delay=RETRY_SECONDS)
    elif event.base_red:
        why = f"the head fails its checks without any of the waiting changes: {reason}"
        turn.requeue_train(train, why, delay=FROZEN_SECONDS)
        turn.move_lane("base is red", why)
        turn.tell(e.LaneStopped(lane=turn.lane.key, why=why))
    elif len(train.carriages) > 1:
        turn.requeue_train(train, f"red with {len(train.carriages)} changes: looking for the one")
        turn.set(window=max(1, len(train.carriages) // 2))
    else:
        turn.why = reason
        turn.back(train.carriages[0].entry, E.REWORK, q.ErrorClass.CHECK, evidence)
        turn.set(train=None, window=min(MAX_WINDOW, turn.lane.window * 2))


def _confirmed(turn: _Turn, train: q.Train, event: q.Confirmed) -> None:
    if event.unknown:
        turn.requeue_train(train, event.unknown, delay=RETRY_SECONDS)
    elif event.refused:
        refused = dict(event.refused)
        for carriage in train.carriages:
            if carriage.entry in refused:
                evidence = Evidence(reason=refused[carriage.entry])
                turn.back(carriage.entry, E.REWORK, q.ErrorClass.POLICY, evidence)
            else:
                turn.again(carriage.entry)
        turn.why = "; ".join(refused.values())
        turn.set(train=None)
    else:
        intents = _intents(turn, train)
        turn.why = f"will move {', '.join(i.ref for i in intents)} to {train.tip[:12]}"
        turn.move_train(train, "confirm", E.LANDING, intents=intents)


def _intents(turn: _Turn, train: q.Train) -> tuple[q.Intent, ...]:
    """Tickets' own branches first, so that GitHub shows their pull requests as merged; the lane's ref last."""
    intents: list[q.Intent] = []
    for carriage in train.carriages:
        series = turn.entries[carriage.entry].series
        if series is not None and carriage.branch_old not in (None, carriage.commit):
            ref = f"refs/heads/{series.branch}"
            intents.append(q.Intent(ref=ref, expected_old=carriage.branch_old, new_oid=carriage.commit, force=True))
            turn.set(own_heads=(*turn.lane.own_heads, (series.branch, carriage.commit))[-64:])
    force = any(turn.entries[carriage.entry].rebase is not None for carriage in train.carriages)
    return (*intents, q.Intent(ref=turn.lane.ref, expected_old=train.old, new_oid=train.tip, force=force))


def _head_read(turn: _Turn, train: q.Train, event: q.HeadRead) -> None:
    intent = pending_intent(turn.lane)
    if intent is None or intent.ref != event.ref:
        return
    if event.contains:
        turn.why = f"{intent.ref} holds {intent.new_oid[:12]}"
        settled = tuple(i.model_copy(update={"settled": True}) if i == intent else i for i in train.intents)
        turn.set(train=train.model_copy(update={"intents": settled}))
        if pending_intent(turn.lane) is None:
            for carriage in train.carriages:
                turn.landed(E.LANDED, carriage)
            rebased = turn.entries[train.carriages[-1].entry].rebase
            fork = rebased.onto if rebased else turn.lane.fork
            turn.set(train=None, head=train.tip, window=min(MAX_WINDOW, turn.lane.window * 2), fork=fork)
    elif event.head != intent.expected_old:
        turn.requeue_train(train, f"{intent.ref} moved to {(event.head or 'nothing')[:12]}: composing anew")
        turn.set(head=event.head)
    elif event.refusal:
        evidence = Evidence(reason=f"the remote refused the push: {event.refusal}")
        turn.why = evidence.reason
        for carriage in train.carriages:
            turn.back(carriage.entry, E.QUARANTINED, q.ErrorClass.POLICY, evidence)
        turn.set(train=None)
    else:
        turn.why = "not pushed yet"
