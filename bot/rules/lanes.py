"""The lane: what happens to a train and its entries at each step. Pure, over literal tables.

A lane goes compose -> check -> confirm -> prepare the intents -> push -> read back -> settle. Whatever was not
settled is found again after a crash by the lane's own value: there is no other memory. An intent is settled only by
reading the remote; an infrastructure failure never changes a change's verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from bot.rules.lane_turn import LaneTurn
from bot.rules.states import LANE_MOVES, TRAIN_MOVES, move
from schemas.base import Evidence
from schemas.decision import EntryMove, LaneDecision
from schemas.events import LaneOpened, LaneStopped
from schemas.lane import (
    Carriage,
    Checked,
    Composed,
    ComposeResult,
    Confirmed,
    Entry,
    EntryState,
    ErrorClass,
    HeadRead,
    Intent,
    Lane,
    LaneEvent,
    LanePaused,
    LaneResumed,
    LaneState,
    Outcome,
    Train,
    TrainState,
)

E, N, L = EntryState, TrainState, LaneState

CRASHES = 20
MAX_WINDOW = 32
RETRY_SECONDS = 5.0
FROZEN_SECONDS = 60.0


class Step(StrEnum):
    """What the lander does next."""

    COMPOSE = "compose"
    CHECK = "check"
    CONFIRM = "confirm"
    LAND = "land"


def next_step(lane: Lane, due: bool) -> Step | None:
    """The step that this lane is at; None if there is nothing to do. A prepared intent is always settled first."""
    if lane.train is not None:
        if lane.train.state is N.LANDING:
            return Step.LAND
        return Step.CHECK if lane.train.state is N.COMPOSED else Step.CONFIRM
    return Step.COMPOSE if due and lane.state is not L.PAUSED else None


def pending_intent(lane: Lane) -> Intent | None:
    """The intent that must be pushed or settled now; they are made one after the other."""
    return next((i for i in lane.train.intents if not i.settled), None) if lane.train else None


def decide(lane: Lane, event: LaneEvent, entries: Mapping[str, Entry]) -> LaneDecision:
    """The lane after `event`. `entries` holds those of the train and of the event."""
    turn = LaneTurn(lane, entries)
    match event:
        case Composed():
            _composed(turn, event)
        case Checked():
            _checked(turn, event)
        case Confirmed():
            _confirmed(turn, event)
        case HeadRead():
            _head_read(turn, event)
        case LanePaused():
            turn.requeue_train(f"paused by {event.by.login}")
            turn.set(state=move(LANE_MOVES, turn.lane.state, "pause"), why=f"paused by {event.by.login}: {event.why}")
        case LaneResumed():
            turn.why = f"resumed by {event.by.login}"
            turn.set(state=move(LANE_MOVES, turn.lane.state, "resume"), why="")
    return turn.decision()


def _composed(turn: LaneTurn, event: Composed) -> None:
    if turn.lane.state is L.FROZEN:
        if event.base == turn.lane.head:
            turn.why = "the head is still the one that fails its checks"
            for result in event.results:
                turn.again(result.entry, delay=FROZEN_SECONDS)
            return
        turn.set(state=move(LANE_MOVES, turn.lane.state, "head moved"), why="")
        turn.tell(LaneOpened)
    carriages: list[Carriage] = []
    for result in event.results:
        if result.outcome is Outcome.COMPOSED and result.carriage is not None:
            entry = turn.entries.get(result.entry)
            if entry is not None and entry.deliveries - entry.outcomes > CRASHES:
                reason = f"it was under way {CRASHES} times when the process died"
                turn.back(result.entry, E.QUARANTINED, ErrorClass.INFRA, Evidence(reason=reason))
                continue
            carriages.append(result.carriage)
            turn.moves.append(EntryMove(entry=result.entry, to=E.COMPOSED))
        else:
            _not_composed(turn, event, result)
    turn.why = f"composed {len(carriages)} of {len(event.results)} on {event.base[:12]}"
    train = None
    if carriages:
        last = carriages[-1]
        train = Train(base=event.base, old=event.old, tip=last.commit, tree=last.tree, carriages=tuple(carriages))
    turn.set(train=train, head=event.base)


def _not_composed(turn: LaneTurn, event: Composed, result: ComposeResult) -> None:
    evidence = result.evidence or Evidence(reason=result.outcome)
    match result.outcome:
        case Outcome.NOOP:
            turn.landed(result.entry, E.NOOP, event.base, result.tree or event.base, result.carriage)
        case Outcome.ALREADY:
            commit = result.commit or event.base
            turn.landed(result.entry, E.LANDED, commit, result.tree or commit, result.carriage)
        case Outcome.CONFLICT:
            turn.back(result.entry, E.REWORK, ErrorClass.CONFLICT, evidence)
        case Outcome.INVALID:
            turn.back(result.entry, E.QUARANTINED, ErrorClass.INVALID, evidence)
        case Outcome.POLICY:
            entry = turn.entries.get(result.entry)
            to = E.REWORK if entry is not None and entry.series is not None else E.QUARANTINED
            turn.back(result.entry, to, ErrorClass.POLICY, evidence)
        case _:
            turn.again(result.entry, evidence.reason, counts=True, delay=RETRY_SECONDS)


def _checked(turn: LaneTurn, event: Checked) -> None:
    train = turn.lane.train
    if train is None:
        return
    if event.outcome == "green":
        turn.why = event.verdict or "the checks pass"
        turn.moves += [EntryMove(entry=c.entry, to=E.CHECKING) for c in train.carriages]
        turn.set(
            train=train.model_copy(update={"state": move(TRAIN_MOVES, train.state, "green"), "verdict": event.verdict})
        )
        return
    reason = event.evidence.reason if event.evidence else "the checks could not be run"
    if event.outcome == "unknown":
        turn.requeue_train(reason, counts=True, delay=RETRY_SECONDS)
    elif event.base_red:
        why = f"the head fails its checks without any of the waiting changes: {reason}"
        turn.requeue_train(why, delay=FROZEN_SECONDS)
        turn.set(state=move(LANE_MOVES, turn.lane.state, "base is red"), why=why)
        turn.tell(LaneStopped, why)
    elif len(train.carriages) > 1:
        turn.requeue_train(f"red with {len(train.carriages)} changes: looking for the one")
        turn.set(window=max(1, len(train.carriages) // 2))
    else:
        turn.why = reason
        evidence = event.evidence or Evidence(reason=reason)
        turn.back(train.carriages[0].entry, E.REWORK, ErrorClass.CHECK, evidence)
        turn.set(train=None, window=min(MAX_WINDOW, turn.lane.window * 2))


def _confirmed(turn: LaneTurn, event: Confirmed) -> None:
    train = turn.lane.train
    if train is None:
        return
    if event.unknown:
        turn.requeue_train(event.unknown, delay=RETRY_SECONDS)
        return
    if event.refused:
        refused = dict(event.refused)
        for carriage in train.carriages:
            if carriage.entry in refused:
                evidence = Evidence(reason=refused[carriage.entry])
                turn.back(carriage.entry, E.REWORK, ErrorClass.POLICY, evidence)
            else:
                turn.again(carriage.entry)
        turn.why = "; ".join(refused.values())
        turn.set(train=None)
        return
    intents, own = _intents(turn, train)
    turn.why = f"will move {', '.join(i.ref for i in intents)} to {train.tip[:12]}"
    turn.moves += [EntryMove(entry=c.entry, to=E.LANDING) for c in train.carriages]
    turn.set(
        train=train.model_copy(update={"state": move(TRAIN_MOVES, train.state, "confirm"), "intents": intents}),
        own_heads=own,
    )


def _intents(turn: LaneTurn, train: Train) -> tuple[tuple[Intent, ...], tuple[tuple[str, str], ...]]:
    """Tickets' own branches first, so that GitHub shows their pull requests as merged; the lane's ref last."""
    intents: list[Intent] = []
    own = list(turn.lane.own_heads)
    force = False
    for carriage in train.carriages:
        entry = turn.entries[carriage.entry]
        force = force or entry.rebase is not None
        if entry.series is not None and carriage.branch_old not in (None, carriage.commit):
            ref = f"refs/heads/{entry.series.branch}"
            intents.append(Intent(ref=ref, expected_old=carriage.branch_old, new_oid=carriage.commit, force=True))
            own.append((entry.series.branch, carriage.commit))
    intents.append(Intent(ref=turn.lane.ref, expected_old=train.old, new_oid=train.tip, force=force))
    return tuple(intents), tuple(own[-64:])


def _head_read(turn: LaneTurn, event: HeadRead) -> None:
    train, intent = turn.lane.train, pending_intent(turn.lane)
    if train is None or intent is None or intent.ref != event.ref:
        return
    if event.contains:
        settled = tuple(i.model_copy(update={"settled": True}) if i == intent else i for i in train.intents)
        turn.why = f"{intent.ref} holds {intent.new_oid[:12]}"
        turn.set(train=train.model_copy(update={"intents": settled}))
        if all(i.settled for i in settled):
            for carriage in train.carriages:
                turn.landed(carriage.entry, E.LANDED, carriage.commit, carriage.tree, carriage)
            fork = turn.lane.fork
            rebased = turn.entries[train.carriages[-1].entry].rebase
            turn.set(
                train=None,
                head=train.tip,
                window=min(MAX_WINDOW, turn.lane.window * 2),
                fork=rebased.onto if rebased else fork,
            )
    elif event.refusal and event.head == intent.expected_old:
        evidence = Evidence(reason=f"the remote refused the push: {event.refusal}")
        turn.why = evidence.reason
        for carriage in train.carriages:
            turn.back(carriage.entry, E.QUARANTINED, ErrorClass.POLICY, evidence)
        turn.set(train=None)
    elif event.head == intent.expected_old:
        turn.why = "not pushed yet"
    else:
        turn.requeue_train(f"{intent.ref} moved to {(event.head or 'nothing')[:12]}: composing anew")
        turn.set(head=event.head)
