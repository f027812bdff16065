"""One decision while it is being made: the ticket as it changes and what comes of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from bot.rules.states import RUN_MOVES, TASK_MOVES, TICKET_MOVES, IllegalMove, leads, may, move
from schemas.agent import Usage
from schemas.decision import Decision
from schemas.effects import Effect, PostComment
from schemas.lane import NewEntry
from schemas.ticket import RunState, TaskProgress, TaskState, Ticket, TicketState

INTERRUPTED_LIMIT = 20
"""Runs of one task (or of the Engineer or Orchestrator) that restarts of ours may cut before a person is asked."""


class Turn:
    """Mutable only inside one call of `stages.decide`; everything it holds is a value."""

    def __init__(self, ticket: Ticket, now: datetime) -> None:
        self.ticket = ticket
        self.now = now
        self.effects: list[Effect] = []
        self.enqueue: list[NewEntry] = []
        self.release: list[tuple[str, str]] = []
        self.withdraw: list[str] = []
        self.reasons: list[str] = []

    def set(self, **changes: Any) -> None:
        """Change fields of the ticket."""
        self.ticket = self.ticket.model_copy(update=changes)

    def because(self, reason: str) -> None:
        """Say why; all reasons go into the audit row."""
        self.reasons.append(reason)

    def move(self, action: str, why: str, **changes: Any) -> None:
        """Move the ticket along its table."""
        self.because(why)
        self.set(state=move(TICKET_MOVES, self.ticket.state, action), **changes)

    def may(self, action: str) -> bool:
        """Whether the ticket has this move now."""
        return may(TICKET_MOVES, self.ticket.state, action)

    def task(self, task_id: str) -> TaskProgress | None:
        """One task of the ticket."""
        return next((item for item in self.ticket.tasks if item.task.id == task_id), None)

    def move_task(self, item: TaskProgress, action: str, **changes: Any) -> TaskProgress:
        """Move a task along its table."""
        return self.set_task(item, state=move(TASK_MOVES, item.state, action), **changes)

    def set_task(self, item: TaskProgress, **changes: Any) -> TaskProgress:
        """Change fields of a task. Raises IllegalMove for a run that its table does not let end like this."""
        run = changes.get("run")
        if run not in (None, item.run, RunState.STARTED) and not leads(RUN_MOVES, item.run, run):
            raise IllegalMove(f"a run cannot go from {item.run} to {run}")
        new = item.model_copy(update=changes)
        self.set(tasks=tuple(new if other.task.id == new.task.id else other for other in self.ticket.tasks))
        return new

    def add_usage(self, usage: Usage) -> None:
        """Count what a run consumed."""
        self.set(usage=self.ticket.usage.plus(usage))

    def base_of_effect(self, name: str) -> dict[str, Any]:
        """The fields that every effect of this ticket has; `name` makes the key."""
        ticket = self.ticket
        return {
            "key": f"{ticket.id}:{name}",
            "ticket": ticket.id,
            "repo": ticket.repo,
            "installation": ticket.installation,
        }

    def comment(self, name: str, body: str) -> None:
        """A new comment on the issue, made once for this name."""
        self.effects.append(PostComment(**self.base_of_effect(name), issue=self.ticket.issue, body=body))

    def stop(self, why: str, name: str, body: str, **changes: Any) -> None:
        """Stop the ticket where it is, remember where it goes on, and tell people."""
        resume = self.ticket.state
        if resume in (TicketState.REVIEWING, TicketState.LANDING):
            resume = TicketState.TRIALING
        self.move("stop", why, resume=resume, note=why, wake_at=None, agent_running=False, **changes)
        self.comment(name, body)

    def all_landed(self) -> bool:
        """Whether every task that still counts is on the branch."""
        live = [item for item in self.ticket.tasks if item.state is not TaskState.CANCELLED]
        return bool(live) and all(item.state is TaskState.LANDED for item in live)

    def decision(self) -> Decision:
        """What is stored."""
        return Decision(
            ticket=self.ticket,
            effects=tuple(self.effects),
            enqueue=tuple(self.enqueue),
            release=tuple(self.release),
            withdraw=tuple(self.withdraw),
            why="; ".join(self.reasons) or "nothing to do",
        )
