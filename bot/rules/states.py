"""The legal moves of tickets, tasks and runs, as literal tables. docs/states.md is drawn from them.

Rule 1: a state changes only by `move`. Rule 2: nothing here knows why a move is made. The tables of lanes,
entries and trains are in bot.rules.lanes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

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
