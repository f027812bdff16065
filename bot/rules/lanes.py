"""The lane: what happens to a train and its entries at each step. Pure, over literal tables.

A lane goes compose -> check -> confirm -> prepare the intents -> push -> read back -> settle. Whatever was not
settled is found again after a crash by the lane's own value: there is no other memory. An intent is settled only by
reading the remote; an infrastructure failure never changes a change's verdict.
"""

from collections.abc import Mapping
from enum import StrEnum

from bot.rules.lane_turn import LaneTurn
from schemas import lane as q
from schemas.base import Evidence
from schemas.decision import EntryMove, LaneDecision
from schemas.events import LaneOpened, LaneStopped

E, N, L = q.EntryState, q.TrainState, q.LaneState

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


class Step(StrEnum):
    """What the lander does next."""

    COMPOSE = "compose"
    CHECK = "check"
    CONFIRM = "confirm"
    LAND = "land"


def next_step(lane: q.Lane, due: bool) -> Step | None:
    """The step that this lane is at; None if there is nothing to do. A prepared intent is always settled first."""
    if lane.train is not None:
        return {N.COMPOSED: Step.CHECK, N.CHECKED: Step.CONFIRM, N.LANDING: Step.LAND}[lane.train.state]
    return Step.COMPOSE if due and lane.state is not L.PAUSED else None


def pending_intent(lane: q.Lane) -> q.Intent | None:
    """The intent that must be pushed or settled now; they are made one after the other."""
    return next((i for i in lane.train.intents if not i.settled), None) if lane.train else None


def decide(lane: q.Lane, event: q.LaneEvent, entries: Mapping[str, q.Entry]) -> LaneDecision:
    """The lane after `event`. `entries` holds those of the train and of the event."""
    turn = LaneTurn(lane, entries)
    match event, lane.train:
        case q.Composed() as composed, _:
            _composed(turn, composed)
        case q.Checked() as checked, q.Train() as train:
            _checked(turn, train, checked)
        case q.Confirmed() as confirmed, q.Train() as train:
            _confirmed(turn, train, confirmed)
        case q.HeadRead() as read, q.Train() as train:
            _head_read(turn, train, read)
    return turn.decision()


def _composed(turn: LaneTurn, event: q.Composed) -> None:
    if turn.lane.state is L.FROZEN:
        if event.base == turn.lane.head:
            turn.why = "the head is still the one that fails its checks"
            for result in event.results:
                turn.again(result.entry, delay=FROZEN_SECONDS)
            return
        turn.move_lane("head moved")
        turn.tell(LaneOpened(lane=turn.lane.key))
    taken = [_taken(turn, event, result) for result in event.results]
    carriages = tuple(carriage for carriage in taken if carriage is not None)
    turn.why = f"composed {len(carriages)} of {len(event.results)} on {event.base[:12]}"
    train = None
    if carriages:
        last = carriages[-1]
        train = q.Train(base=event.base, old=event.old, tip=last.commit, tree=last.tree, carriages=carriages)
    turn.set(train=train, head=event.base)


def _taken(turn: LaneTurn, event: q.Composed, result: q.ComposeResult) -> q.Carriage | None:
    """The entry's part of the train; None if it leaves the queue or must wait, for what composing it gave."""
    entry, outcome = turn.entries[result.entry], result.outcome
    evidence = result.evidence or Evidence(reason=outcome)
    if outcome is q.Outcome.COMPOSED and result.carriage is not None:
        if entry.deliveries - entry.outcomes <= CRASHES:
            turn.move_entry(EntryMove(entry=entry.id, to=E.COMPOSED))
            return result.carriage
        reason = f"it was under way {CRASHES} times when the process died"
        turn.back(entry.id, E.QUARANTINED, q.ErrorClass.INFRA, Evidence(reason=reason))
    elif outcome in (q.Outcome.NOOP, q.Outcome.ALREADY):
        commit = result.commit or event.base
        carriage = result.carriage or q.Carriage(entry=entry.id, commit=commit, tree=result.tree or commit)
        turn.landed(E.NOOP if outcome is q.Outcome.NOOP else E.LANDED, carriage)
    elif outcome in FAULTS:
        to, cls = FAULTS[outcome]
        turn.back(entry.id, E.REWORK if outcome is q.Outcome.POLICY and entry.series else to, cls, evidence)
    else:
        turn.again(entry.id, evidence.reason, counts=True, delay=RETRY_SECONDS)
    return None


def _checked(turn: LaneTurn, train: q.Train, event: q.Checked) -> None:
    evidence = event.evidence or Evidence(reason="the checks could not be run")
    reason = evidence.reason
    if event.outcome == "green":
        turn.why = event.verdict or "the checks pass"
        turn.move_train(train, "green", E.CHECKING, verdict=event.verdict)
    elif event.outcome == "unknown":
        turn.requeue_train(reason, counts=True, delay=RETRY_SECONDS)
    elif event.base_red:
        why = f"the head fails its checks without any of the waiting changes: {reason}"
        turn.requeue_train(why, delay=FROZEN_SECONDS)
        turn.move_lane("base is red", why)
        turn.tell(LaneStopped(lane=turn.lane.key, why=why))
    elif len(train.carriages) > 1:
        turn.requeue_train(f"red with {len(train.carriages)} changes: looking for the one")
        turn.set(window=max(1, len(train.carriages) // 2))
    else:
        turn.why = reason
        turn.back(train.carriages[0].entry, E.REWORK, q.ErrorClass.CHECK, evidence)
        turn.set(train=None, window=min(MAX_WINDOW, turn.lane.window * 2))


def _confirmed(turn: LaneTurn, train: q.Train, event: q.Confirmed) -> None:
    if event.unknown:
        turn.requeue_train(event.unknown, delay=RETRY_SECONDS)
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


def _intents(turn: LaneTurn, train: q.Train) -> tuple[q.Intent, ...]:
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


def _head_read(turn: LaneTurn, train: q.Train, event: q.HeadRead) -> None:
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
        turn.requeue_train(f"{intent.ref} moved to {(event.head or 'nothing')[:12]}: composing anew")
        turn.set(head=event.head)
    elif event.refusal:
        evidence = Evidence(reason=f"the remote refused the push: {event.refusal}")
        turn.why = evidence.reason
        for carriage in train.carriages:
            turn.back(carriage.entry, E.QUARANTINED, q.ErrorClass.POLICY, evidence)
        turn.set(train=None)
    else:
        turn.why = "not pushed yet"
