"""Which check runs a ticket shows, as a function of the ticket. A decision publishes those that changed.

One for each (name, commit): a task's on the branch's tip when it starts and on the commit that it landed as; the
aggregate `interlock` on each head of the pull request. None on a commit that is already on the base (decisions.md 21).
"""

from collections.abc import Iterator
from typing import Literal

from bot.pipeline import messages
from bot.rules import gating
from bot.rules.sanitise import quote_safe
from schemas.effects import Button, PublishCheck
from schemas.ticket import TaskProgress, TaskState, Ticket, TicketState

RELEASE = Button(label="Release", description="Let this change go on", identifier="release")
RESUME = Button(label="Resume", description="Go on where it was stopped", identifier="resume")
RETRY = Button(label="Try again", description="Run this task again", identifier="retry")

Shown = tuple[Literal["success", "failure", "cancelled", "action_required"] | None, str, tuple[Button, ...]]
"""A check run's conclusion, title and buttons."""


def changed(before: Ticket | None, after: Ticket) -> Iterator[PublishCheck]:
    """The effects that bring GitHub from one to the other."""
    old = list(shown(before)) if before else []
    for run in shown(after):
        if run not in old:
            yield run.model_copy(update={"key": f"{run.key}:v{after.version}"})


def shown(ticket: Ticket) -> Iterator[PublishCheck]:
    """All that a ticket shows."""
    yield from _aggregate(ticket)
    for item in ticket.tasks:
        yield from _task(ticket, item)


def _check_run(ticket: Ticket, about: str, name: str, head: str, now: Shown, summary: str) -> PublishCheck:
    conclusion, title, buttons = now
    key = f"{about}@{head[:12]}"
    return PublishCheck(
        key=key, ticket=ticket.id, repo=ticket.repo, installation=ticket.installation, slot=key, external_id=key,
        name=name, head=head, status="completed" if conclusion else "in_progress", conclusion=conclusion,
        title=title, summary=summary, buttons=buttons,
    )  # fmt: skip


def _aggregate(ticket: Ticket) -> Iterator[PublishCheck]:
    pull, tip, done = ticket.pull_request, ticket.tip, ticket.state is TicketState.DONE
    if pull is None or tip is None or tip == ticket.base or (pull.head != tip and not done):
        return
    note = messages.one_line(ticket.note, 100)
    by_state: dict[TicketState, Shown] = {
        TicketState.REVIEWING: ("action_required", messages.waiting_for_review(ticket), ()),
        TicketState.LANDING: ("success", "Approved", ()),
        TicketState.DONE: ("success", "On the base branch", ()),
        TicketState.STOPPED: ("action_required", note or "Stopped", (RESUME,)),
        TicketState.CANCELLED: ("cancelled", note or "Stopped", ()),
    }
    now = by_state.get(ticket.state, (None, note or "Being worked on", ()))
    verdict = gating.recorded(ticket)
    reasons = "\n".join(f"- {child.reason}" for child in verdict.children)
    summary = f"{verdict.reason}.\n{reasons}\n\nPatch digest `{ticket.digest[:16]}`."
    yield _check_run(ticket, ticket.id, "interlock", tip, now, summary)


def _task(ticket: Ticket, item: TaskProgress) -> Iterator[PublishCheck]:
    heads = list(dict.fromkeys(head for head in (item.shown_on, item.commit) if head))
    if item.state in (TaskState.FAILED, TaskState.QUARANTINED) and ticket.tip and not heads:
        heads = [ticket.tip]
    summary = item.summary or item.task.brief
    if item.evidence and item.state is not TaskState.LANDED:
        summary = messages.evidence_text(item.evidence)
    summary = f"{messages.one_line(item.task.title)}\n\n{quote_safe(summary)[:20_000]}"
    name = f"interlock / {messages.number(item.task.id)}"
    for head in heads:
        if head != ticket.base:
            yield _check_run(ticket, item.task.id, name, head, _task_shown(item), summary)


def _task_shown(item: TaskProgress) -> Shown:
    failure = messages.one_line(item.evidence.reason if item.evidence else "failed")
    by_state: dict[TaskState, Shown] = {
        TaskState.LANDED: ("success", f"Landed as {(item.commit or '')[:12]}", ()),
        TaskState.HELD: ("action_required", messages.one_line("Held: " + "; ".join(item.held)), (RELEASE,)),
        TaskState.FAILED: ("failure", failure, (RETRY,)),
        TaskState.QUARANTINED: ("failure", failure, (RETRY,)),
        TaskState.CANCELLED: ("cancelled", "Cancelled", ()),
        TaskState.SUBMITTED: (None, "Being checked on the branch", ()),
    }
    return by_state.get(item.state, (None, f"Being written (attempt {max(item.attempt, 1)})", ()))
