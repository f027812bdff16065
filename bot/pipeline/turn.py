"""One decision while it is being made: the ticket as it changes and what comes of it."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from bot.rules.states import RUN_MOVES, TASK_MOVES, TICKET_MOVES, may, move
from schemas.agent import Usage
from schemas.base import Evidence, Person, Role
from schemas.decision import Decision
from schemas.effects import CancelRuns, Effect, PostComment, RunAgent
from schemas.events import ButtonPressed, CommentAdded, Event
from schemas.lane import NewEntry
from schemas.ticket import RunState, TaskProgress, TaskState, Ticket, TicketState

Said = CommentAdded | ButtonPressed

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
        self.again = False
        self.emits: list[Event] = []
        self.priority: int | None = None
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

    def move_task(self, item: TaskProgress, action: str, ended: str = "", **changes: Any) -> TaskProgress:
        """Move a task along its table; a run of it that is under way makes the move `ended` along its own."""
        if ended and item.state is TaskState.RUNNING:
            changes["run"] = move(RUN_MOVES, RunState.STARTED, ended)
        return self.set_task(item, state=move(TASK_MOVES, item.state, action), **changes)

    def set_task(self, item: TaskProgress, **changes: Any) -> TaskProgress:
        """Change fields of a task."""
        new = item.model_copy(update=changes)
        self.set(tasks=tuple(new if other.task.id == new.task.id else other for other in self.ticket.tasks))
        return new

    def want(self, effect: Callable[..., Effect], name: str, **fields: Any) -> None:
        """Something that must happen; `name` makes the key by which a repeat finds it."""
        ticket = self.ticket
        common = {"ticket": ticket.id, "repo": ticket.repo, "installation": ticket.installation}
        self.effects.append(effect(key=f"{ticket.id}:{name}", **common, **fields))

    def comment(self, name: str, body: str) -> None:
        """A new comment on the issue, made once for this name."""
        self.want(PostComment, name, issue=self.ticket.issue, body=body)

    def put(self, entry: str, lane: str, **fields: Any) -> None:
        """Put an entry of this ticket into a lane."""
        ticket = self.ticket
        given = {"fork": ticket.base, "priority": ticket.priority, "environment": ticket.policy.environment, **fields}
        self.enqueue.append(NewEntry(id=entry, lane=lane, ticket=ticket.id, **given))

    def drop_approvals(self, but: str = "") -> None:
        """Approvals of anything but this digest no longer count; who gave them is asked to look again."""
        kept = tuple(approval for approval in self.ticket.approvals if approval.digest == but)
        self.look_again(*(approval.by for approval in self.ticket.approvals if approval not in kept))
        self.set(approvals=kept)

    def look_again(self, *people: Person) -> None:
        """These are asked when review is asked for the next time."""
        self.set(look_again=tuple({who.id: who for who in (*self.ticket.look_again, *people)}.values()))

    def call_agent(self, role: Role, attempt: int, model: str | None) -> None:
        """Start the Engineer or the Orchestrator on what the ticket holds."""
        ticket, policy = self.ticket, self.ticket.policy
        self.because(f"{role.title()} run {attempt}")
        self.want(
            RunAgent, f"{role}:{attempt}", role=role, attempt=attempt, model=model, base=ticket.base, title=ticket.title,
            body=ticket.body, questions=ticket.questions, scope=ticket.scope, outline=ticket.outline, faults=ticket.faults,
            evidence=Evidence(reason=ticket.note) if ticket.note else None, checks=policy.checks, limits=policy.limits,
            protected=policy.protected, shared=policy.shared, max_tasks=policy.max_tasks,
            first_task=len(ticket.tasks) + 1, first_question=len(ticket.questions) + 1,
        )  # fmt: skip
        self.set(agent_running=True)

    def agent_ended(self, usage: Usage, state: TicketState | None = None) -> bool:
        """Whether the Engineer or Orchestrator was awaited (in this state); then it is no longer at work."""
        awaited = self.ticket.agent_running and state in (None, self.ticket.state)
        if awaited:
            self.set(agent_running=False, usage=self.ticket.usage.plus(usage))
        return awaited

    def take_back(self) -> None:
        """Stop the agents, and take what is queued out of the lanes."""
        self.set(rebasing=False, agent_running=False, rereading=False, wake_at=None)
        self.withdraw.append("*")
        self.want(CancelRuns, f"cancel:{self.ticket.version}")

    def cancel(self, why: str) -> None:
        """Nothing of this ticket goes on."""
        for item in self.ticket.tasks:
            if item.state is not TaskState.LANDED:
                self.move_task(item, "cancel")
        self.take_back()
        self.move("cancel", why, note=why)

    def pull_back(self, why: str) -> None:
        """Not onto the base now: out of its lane, to be tried on it again. What is approved stays approved."""
        if self.ticket.state is TicketState.LANDING:
            self.withdraw.append("*")
            self.move("try", why, trial_running=False)

    def stop(self, why: str, note: str = "") -> None:
        """Stop the ticket where it is, and remember where it goes on; nothing on the branch is undone."""
        for item in self.ticket.tasks:
            if item.state in (TaskState.RUNNING, TaskState.SUBMITTED, TaskState.HELD):
                self.move_task(item, "return", ended="cancel")
        self.take_back()
        tried = self.ticket.state in (TicketState.REVIEWING, TicketState.LANDING)
        resume = TicketState.TRIALING if tried else self.ticket.state
        self.move("stop", why, resume=resume, note=note or why)

    def stop_and_ask(self, why: str, name: str, body: str) -> None:
        """Stop the ticket, and tell people what they must do."""
        self.stop(why)
        self.comment(name, body)

    def decision(self) -> Decision:
        """What is stored."""
        return Decision(
            ticket=self.ticket, effects=tuple(self.effects), emits=tuple(self.emits), enqueue=tuple(self.enqueue),
            release=tuple(self.release), withdraw=tuple(self.withdraw), priority=self.priority, again=self.again,
            why="; ".join(self.reasons) or "nothing to do",
        )  # fmt: skip
