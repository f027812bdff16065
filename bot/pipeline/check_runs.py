"""Which check runs a ticket shows, as a function of the ticket. A decision publishes those that changed.

One for each (name, commit): a task's on the branch's tip when it starts and on the commit that it landed as; the
aggregate `interlock` on each head of the pull request. None on a commit that is already on the base (decisions.md 21).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from bot.pipeline import messages
from bot.rules import gating
from bot.rules.sanitise import quote_safe
from schemas.base import Frozen
from schemas.effects import Button, PublishCheck
from schemas.ticket import TaskProgress, TaskState, Ticket, TicketState

RELEASE = Button(label="Release", description="Let this change go on", identifier="release")
RETRY = Button(label="Try again", description="Run this task again", identifier="retry")

Conclusion = Literal["success", "failure", "neutral", "cancelled", "action_required"]


class CheckRun(Frozen):
    """What one check run shows."""

    name: str
    head: str
    external_id: str
    conclusion: Conclusion | None
    title: str
    summary: str
    buttons: tuple[Button, ...] = ()


def check_runs(ticket: Ticket) -> dict[str, CheckRun]:
    """By external id."""
    runs = [*_aggregate(ticket), *(run for item in ticket.tasks for run in _task(ticket, item))]
    return {run.external_id: run for run in runs}


def changed(before: Ticket | None, after: Ticket, common: dict[str, Any]) -> Iterator[PublishCheck]:
    """The effects that bring GitHub from one to the other."""
    old = check_runs(before) if before else {}
    for key, run in check_runs(after).items():
        if old.get(key) == run:
            continue
        yield PublishCheck(
            **{**common, "key": f"{key}:v{after.version}"},
            slot=key,
            name=run.name,
            head=run.head,
            external_id=key,
            status="completed" if run.conclusion else "in_progress",
            conclusion=run.conclusion,
            title=run.title,
            summary=run.summary,
            buttons=run.buttons,
        )


def _aggregate(ticket: Ticket) -> Iterator[CheckRun]:
    if ticket.pull_request is None or ticket.tip is None or ticket.tip == ticket.base:
        return
    if ticket.pull_request.head != ticket.tip and ticket.state is not TicketState.DONE:
        return
    conclusion: Conclusion | None = None
    title = messages.one_line(ticket.note, 100) or "Being worked on"
    if ticket.state is TicketState.REVIEWING:
        conclusion, title = "action_required", "Waiting for an approving review"
    elif ticket.state is TicketState.LANDING:
        conclusion, title = "success", "Approved"
    elif ticket.state is TicketState.DONE:
        conclusion, title = "success", "On the base branch"
    elif ticket.state in (TicketState.STOPPED, TicketState.CANCELLED):
        conclusion, title = "cancelled", messages.one_line(ticket.note, 100) or "Stopped"
    verdict = gating.recorded(ticket)
    reasons = "\n".join(f"- {child.reason}" for child in verdict.children)
    yield CheckRun(
        name="interlock",
        head=ticket.tip,
        external_id=f"{ticket.id}@{ticket.tip[:12]}",
        conclusion=conclusion,
        title=title,
        summary=f"{verdict.reason}.\n{reasons}\n\nPatch digest `{ticket.digest[:16]}`.",
    )


def _task(ticket: Ticket, item: TaskProgress) -> Iterator[CheckRun]:
    heads = dict.fromkeys(head for head in (item.shown_on, item.commit) if head)
    if item.state in (TaskState.FAILED, TaskState.QUARANTINED) and ticket.tip and not heads:
        heads = {ticket.tip: None}
    for head in heads:
        if head == ticket.base:
            continue
        conclusion, title, buttons = _task_state(item)
        summary = item.summary or item.task.brief
        if item.evidence and item.state is not TaskState.LANDED:
            summary = messages.evidence_text(item.evidence)
        yield CheckRun(
            name=f"interlock / {messages.number(item.task)}",
            head=head,
            external_id=f"{item.task.id}@{head[:12]}",
            conclusion=conclusion,
            title=title,
            summary=f"{messages.one_line(item.task.title)}\n\n{quote_safe(summary)[:20_000]}",
            buttons=buttons,
        )


def _task_state(item: TaskProgress) -> tuple[Conclusion | None, str, tuple[Button, ...]]:
    match item.state:
        case TaskState.LANDED:
            return "success", f"Landed as {(item.commit or '')[:12]}", ()
        case TaskState.HELD:
            return "action_required", messages.one_line("Held: " + "; ".join(item.held), 200), (RELEASE,)
        case TaskState.FAILED | TaskState.QUARANTINED:
            reason = item.evidence.reason if item.evidence else "failed"
            return "failure", messages.one_line(reason), (RETRY,)
        case TaskState.CANCELLED:
            return "cancelled", "Cancelled", ()
        case TaskState.SUBMITTED:
            return None, "Being checked on the branch", ()
        case _:
            return None, f"Being written (attempt {max(item.attempt, 1)})", ()
