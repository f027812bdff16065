"""The legal moves of everything that has a state, as literal tables. docs/states.md is drawn from them.

Rule 1: a state changes only along its table. Rule 2: nothing here knows why a move is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

from schemas.lane import EntryState as E
from schemas.lane import LaneState as L
from schemas.lane import TrainState as N
from schemas.ticket import RunState as R
from schemas.ticket import TaskState as K
from schemas.ticket import TicketState as T

S = TypeVar("S")

TICKET_MOVES: Final[Mapping[tuple[T, str], T]] = {
    (T.OPENED, "read"): T.CLARIFYING,
    (T.OPENED, "decline"): T.DECLINED,
    (T.CLARIFYING, "ask"): T.ASKING,
    (T.CLARIFYING, "settle"): T.PLANNING,
    (T.CLARIFYING, "decline"): T.DECLINED,
    (T.ASKING, "clarify"): T.CLARIFYING,
    (T.ASKING, "plan"): T.PLANNING,
    (T.PLANNING, "ask"): T.ASKING,
    (T.PLANNING, "propose"): T.PROPOSED,
    (T.PLANNING, "decline"): T.DECLINED,
    (T.PROPOSED, "plan"): T.PLANNING,
    (T.PROPOSED, "build"): T.BUILDING,
    (T.BUILDING, "try"): T.TRIALING,
    (T.TRIALING, "build"): T.BUILDING,
    (T.TRIALING, "review"): T.REVIEWING,
    (T.TRIALING, "land"): T.LANDING,
    (T.REVIEWING, "build"): T.BUILDING,
    (T.REVIEWING, "try"): T.TRIALING,
    (T.REVIEWING, "land"): T.LANDING,
    (T.REVIEWING, "finish"): T.DONE,
    (T.LANDING, "try"): T.TRIALING,
    (T.LANDING, "finish"): T.DONE,
    **{(state, "stop"): T.STOPPED for state in T if state not in (T.DONE, T.DECLINED, T.CANCELLED, T.STOPPED)},
    **{(state, "cancel"): T.CANCELLED for state in T if state not in (T.DONE, T.DECLINED, T.CANCELLED)},
    **{
        (T.STOPPED, f"resume:{state}"): state
        for state in (T.OPENED, T.CLARIFYING, T.ASKING, T.PLANNING, T.PROPOSED, T.BUILDING, T.TRIALING)
    },
    (T.STOPPED, "finish"): T.DONE,
}

TASK_MOVES: Final[Mapping[tuple[K, str], K]] = {
    (K.WAITING, "free"): K.READY,
    (K.READY, "start"): K.RUNNING,
    (K.RUNNING, "submit"): K.SUBMITTED,
    (K.RUNNING, "hold"): K.HELD,
    (K.RUNNING, "return"): K.READY,
    (K.RUNNING, "fail"): K.FAILED,
    (K.HELD, "release"): K.SUBMITTED,
    (K.SUBMITTED, "land"): K.LANDED,
    (K.HELD, "land"): K.LANDED,
    (K.SUBMITTED, "return"): K.READY,
    (K.SUBMITTED, "fail"): K.FAILED,
    (K.SUBMITTED, "quarantine"): K.QUARANTINED,
    (K.LANDED, "return"): K.READY,
    (K.FAILED, "retry"): K.READY,
    (K.QUARANTINED, "retry"): K.READY,
    (K.HELD, "return"): K.READY,
    **{(state, "cancel"): K.CANCELLED for state in K if state not in (K.LANDED, K.CANCELLED)},
}

RUN_MOVES: Final[Mapping[tuple[R, str], R]] = {
    (R.STARTED, "succeed"): R.SUCCEEDED,
    (R.STARTED, "fail"): R.FAILED,
    (R.STARTED, "interrupt"): R.INTERRUPTED,
    (R.STARTED, "cancel"): R.CANCELLED,
}


ENTRY_MOVES: Final[Mapping[tuple[E, str], E]] = {
    (E.QUEUED, "compose"): E.COMPOSED,
    (E.COMPOSED, "check"): E.CHECKING,
    (E.CHECKING, "prepare"): E.LANDING,
    (E.LANDING, "settle"): E.LANDED,
    **{(state, "found landed"): E.LANDED for state in (E.QUEUED, E.CANCELLED, E.SUPERSEDED)},
    **{(state, "settle"): E.LANDED for state in (E.CANCELLED, E.SUPERSEDED)},
    (E.QUEUED, "nothing to change"): E.NOOP,
    **{(state, "retry"): E.QUEUED for state in (E.REWORK, E.QUARANTINED)},
    **{(state, "again"): E.QUEUED for state in (E.QUEUED, E.COMPOSED, E.CHECKING, E.LANDING)},
    **{(state, "send back"): E.REWORK for state in (E.QUEUED, E.COMPOSED, E.CHECKING, E.LANDING)},
    **{(state, "set aside"): E.QUARANTINED for state in (E.QUEUED, E.COMPOSED, E.CHECKING, E.LANDING)},
    (E.HELD, "release"): E.QUEUED,
    (E.QUARANTINED, "release"): E.QUEUED,
    **{(state, "withdraw"): E.CANCELLED for state in (E.QUEUED, E.HELD, E.COMPOSED, E.CHECKING, E.REWORK)},
    **{(state, "replace"): E.SUPERSEDED for state in (E.QUEUED, E.HELD, E.REWORK)},
}

TRAIN_MOVES: Final[Mapping[tuple[N, str], N]] = {(N.COMPOSED, "green"): N.CHECKED, (N.CHECKED, "confirm"): N.LANDING}

LANE_MOVES: Final[Mapping[tuple[L, str], L]] = {
    (L.OPEN, "base is red"): L.FROZEN,
    (L.FROZEN, "head moved"): L.OPEN,
    (L.OPEN, "pause"): L.PAUSED,
    (L.FROZEN, "pause"): L.PAUSED,
    (L.PAUSED, "resume"): L.OPEN,
    (L.FROZEN, "resume"): L.OPEN,
}


class IllegalMove(ValueError):
    """A decider asked for a move that its table does not have: a defect of ours."""


def move(table: Mapping[tuple[S, str], S], state: S, action: str) -> S:
    """The state that `action` leads to. Raises IllegalMove."""
    try:
        return table[state, action]
    except KeyError:
        raise IllegalMove(f"no move {action!r} from {state!s}") from None


def may(table: Mapping[tuple[S, str], S], state: S, action: str) -> bool:
    """Whether the table has this move."""
    return (state, action) in table


def leads(table: Mapping[tuple[S, str], S], before: S, after: S) -> bool:
    """Whether some move of the table leads from one state to the other."""
    return any(source == before and target == after for (source, _), target in table.items())
