"""ROLLBACK: a ticket whose one change is the inverse of a landed ticket, made by code, and gated like any other.

It is the issue's next generation, with a branch and a pull request of its own. A later change of the same lines refuses it
by name; after that one's own rollback it may be tried again.
"""

from datetime import datetime

from bot.pipeline.turn import Turn
from schemas.effects import ReadRepository, TakeBack
from schemas.events import RollbackAsked
from schemas.plan import Scope, Task
from schemas.ticket import TaskProgress, Ticket


def open_ticket(event: RollbackAsked, now: datetime, generation: int) -> Turn:
    """Agreed as soon as a writer asks for it: there is nothing to clarify or to plan."""
    goal = f"Take back what {event.of} landed"
    task = Task(id=f"{event.ticket}/1", ticket=event.ticket, kind="bugfix", title=goal, brief=goal, owns=("**",))
    turn = Turn(
        Ticket(
            id=event.ticket, repo=event.repo, installation=event.installation, issue=event.issue, generation=generation,
            requester=event.by, author=event.by, title=goal, body="", opened_at=now, rolls_back=event.of,
            scope=Scope(goal=goal, kind="bugfix"), tasks=(TaskProgress(task=task),),
        ), now,
    )  # fmt: skip
    turn.because(f"{event.by.login} asks for {event.of} to be taken back")
    turn.want(ReadRepository, "read:1")
    return turn


def start(turn: Turn, item: TaskProgress) -> None:
    """What stands where an agent's run would. Until there is a branch, it is made on the base as it is today."""
    base = (turn.ticket.tip or turn.ticket.base) if item.change else None
    turn.want(TakeBack, f"take-back:{item.attempt}", of=turn.ticket.rolls_back, task=item.task, attempt=item.attempt,
              base=base, base_ref=turn.ticket.base_ref)  # fmt: skip
