"""The legal moves of everything that has a state, as literal tables. docs/states.md is drawn from them.

Rule 1: a state changes only along its table. Rule 2: nothing here knows why a move is made.
"""

from collections.abc import Mapping
from typing import Final, TypeVar

from schemas import lane as q
from schemas import ticket as t

S = TypeVar("S")
E, L, N = q.EntryState, q.LaneState, q.TrainState
T, K, R = t.TicketState, t.TaskState, t.RunState


def _moves(*rows: tuple[S, Mapping[str, S]]) -> dict[tuple[S, str], S]:
    return {(state, action): after for state, exits in rows for action, after in exits.items()}


_OVER = (T.DONE, T.DECLINED, T.CANCELLED)
_RESUMABLE = (T.OPENED, T.CLARIFYING, T.ASKING, T.PLANNING, T.PROPOSED, T.BUILDING, T.TRIALING)

TICKET_MOVES: Final = _moves(
    (T.OPENED, {"read": T.CLARIFYING, "take back": T.BUILDING, "decline": T.DECLINED}),
    (T.CLARIFYING, {"ask": T.ASKING, "settle": T.PLANNING, "decline": T.DECLINED}),
    (T.ASKING, {"clarify": T.CLARIFYING, "plan": T.PLANNING}),
    (T.PLANNING, {"ask": T.ASKING, "propose": T.PROPOSED, "decline": T.DECLINED}),
    (T.PROPOSED, {"plan": T.PLANNING, "build": T.BUILDING}),
    (T.BUILDING, {"try": T.TRIALING}),
    (T.TRIALING, {"build": T.BUILDING, "review": T.REVIEWING, "land": T.LANDING, "finish": T.DONE}),
    (T.REVIEWING, {"build": T.BUILDING, "try": T.TRIALING, "land": T.LANDING, "finish": T.DONE}),
    (T.LANDING, {"try": T.TRIALING, "finish": T.DONE}),
    *((state, {"stop": T.STOPPED}) for state in T if state not in (*_OVER, T.STOPPED)),
    *((state, {"cancel": T.CANCELLED}) for state in T if state not in _OVER),
    (T.STOPPED, {f"resume:{state}": state for state in _RESUMABLE}),
    (T.STOPPED, {"finish": T.DONE}),
)

TASK_MOVES: Final = _moves(
    (K.WAITING, {"free": K.READY}),
    (K.READY, {"start": K.RUNNING}),
    (K.RUNNING, {"submit": K.SUBMITTED, "hold": K.HELD, "return": K.READY, "fail": K.FAILED}),
    (K.HELD, {"release": K.SUBMITTED, "land": K.LANDED, "return": K.READY, "fail": K.FAILED}),
    (K.SUBMITTED, {"land": K.LANDED, "return": K.READY, "fail": K.FAILED, "quarantine": K.QUARANTINED}),
    (K.LANDED, {"return": K.READY}),
    (K.FAILED, {"retry": K.READY, "requeue": K.SUBMITTED}),
    (K.QUARANTINED, {"retry": K.READY, "requeue": K.SUBMITTED}),
    *((state, {"cancel": K.CANCELLED}) for state in K if state not in (K.LANDED, K.CANCELLED)),
)

RUN_MOVES: Final = _moves(
    (R.STARTED, {"succeed": R.SUCCEEDED, "fail": R.FAILED, "interrupt": R.INTERRUPTED, "cancel": R.CANCELLED})
)

_UNDER_WAY = (E.QUEUED, E.COMPOSED, E.CHECKING, E.LANDING)
WITHDRAWN = (E.CANCELLED, E.SUPERSEDED)

ENTRY_MOVES: Final = _moves(
    (E.QUEUED, {"compose": E.COMPOSED, "nothing to change": E.NOOP}),
    (E.COMPOSED, {"check": E.CHECKING}),
    (E.CHECKING, {"prepare": E.LANDING}),
    *((state, {"settle": E.LANDED}) for state in (E.LANDING, *WITHDRAWN)),
    *((state, {"found landed": E.LANDED}) for state in (E.QUEUED, *WITHDRAWN)),
    *((state, {"again": E.QUEUED, "send back": E.REWORK, "set aside": E.QUARANTINED}) for state in _UNDER_WAY),
    *((state, {"retry": E.QUEUED}) for state in (E.REWORK, E.QUARANTINED)),
    *((state, {"release": E.QUEUED}) for state in (E.HELD, E.QUARANTINED)),
    *((state, {"withdraw": E.CANCELLED}) for state in (E.QUEUED, E.HELD, E.COMPOSED, E.CHECKING, E.REWORK)),
    *((state, {"replace": E.SUPERSEDED}) for state in (E.QUEUED, E.HELD, E.REWORK)),
)

TRAIN_MOVES: Final = _moves((N.COMPOSED, {"green": N.CHECKED}), (N.CHECKED, {"confirm": N.LANDING}))

LANE_MOVES: Final = _moves(
    (L.OPEN, {"base is red": L.FROZEN, "pause": L.PAUSED}),
    (L.FROZEN, {"head moved": L.OPEN, "look again": L.OPEN, "pause": L.PAUSED}),
    (L.PAUSED, {"resume": L.OPEN}),
)


class IllegalMove(ValueError):
    """A decider asked for a move that its table does not have: a defect of ours."""


def move(table: Mapping[tuple[S, str], S], state: S, action: str) -> S:
    """The state that `action` leads to. Raises IllegalMove."""
    if not may(table, state, action):
        raise IllegalMove(f"no move {action!r} from {state!s}")
    return table[state, action]


def may(table: Mapping[tuple[S, str], S], state: S, action: str) -> bool:
    """Whether the table has this move."""
    return (state, action) in table


def leads(table: Mapping[tuple[S, str], S], before: S, after: S) -> bool:
    """Whether some move of the table leads from one state to the other."""
    return any(source == before and target == after for (source, _), target in table.items())
