"""ORCHESTRATOR: from an agreed scope to a plan that the rules accept and, where the policy asks, a person approves.

Reads PlanSubmitted and the commands approve and replan. Wants RunAgent and the plan's comment.
"""

from __future__ import annotations

from bot.pipeline import messages
from bot.pipeline.turn import Turn
from bot.rules import globs
from schemas.base import Evidence
from schemas.effects import RunAgent
from schemas.events import CommentAdded, PlanSubmitted
from schemas.plan import PlanApproval
from schemas.ticket import TaskProgress, Ticket, TicketState

MIN_HASH_DIGITS = 8


def advance(turn: Turn) -> None:
    """Planning means that exactly one Orchestrator is at work."""
    ticket = turn.ticket
    if ticket.state is not TicketState.PLANNING or ticket.agent_running or ticket.base is None:
        return
    attempt = ticket.orchestrator_attempt + 1
    turn.because(f"Orchestrator run {attempt}")
    turn.effects.append(
        RunAgent(
            **turn.base_of_effect(f"orchestrator:{attempt}"),
            role="orchestrator",
            attempt=attempt,
            base=ticket.base,
            title=ticket.title,
            body=ticket.body,
            questions=ticket.questions,
            scope=ticket.scope,
            outline=ticket.outline,
            faults=ticket.faults,
            evidence=Evidence(reason=ticket.note) if ticket.note else None,
            checks=ticket.policy.checks,
            protected=ticket.policy.protected,
            shared=ticket.policy.shared,
            max_tasks=ticket.policy.max_tasks,
            first_task=len(ticket.tasks) + 1,
            first_question=len(ticket.questions) + 1,
            limits=ticket.policy.limits,
            model=ticket.policy.models.orchestrator,
        )
    )
    turn.set(agent_running=True, orchestrator_attempt=attempt)


def plan_submitted(turn: Turn, event: PlanSubmitted) -> None:
    """Show the plan; start at once where nobody needs to approve it."""
    ticket = turn.ticket
    if ticket.state is not TicketState.PLANNING or not ticket.agent_running:
        return
    turn.add_usage(event.usage)
    turn.move(
        "propose",
        f"plan {event.plan.hash[:12]} with {len(event.plan.tasks)} tasks",
        plan=event.plan,
        agent_running=False,
        failures=0,
        faults=(),
        note="",
    )
    if not needs_approval(turn.ticket):
        turn.because("the policy asks nobody to approve this plan")
        build(turn, PlanApproval(hash=event.plan.hash, by=None, at=turn.now))
        return
    turn.comment(f"plan:{event.plan.hash[:12]}", messages.plan(turn.ticket, event.notes))


def needs_approval(ticket: Ticket) -> bool:
    """Whether the policy wants a person's approval of this plan."""
    plan = ticket.plan
    if plan is None or ticket.policy.approve.plan == "never":
        return False
    if ticket.policy.approve.plan == "always" or len(plan.tasks) > 1:
        return True
    untested = not ticket.policy.checks and not any(task.checks for task in plan.tasks)
    return untested or any(
        not globs.disjoint(owned, protected)
        for task in plan.tasks
        for owned in task.owns
        for protected in ticket.policy.protected
    )


def approve(turn: Turn, event: CommentAdded, digits: str) -> str:
    """A person approves the plan by its hash. Returns the answer to give, empty if there is nothing to say."""
    ticket = turn.ticket
    if ticket.state is not TicketState.PROPOSED or ticket.plan is None:
        return "There is no plan waiting for approval."
    wanted = digits.strip("`").lower()
    if len(wanted) < MIN_HASH_DIGITS:
        return f"Name the plan that you approve:\n\n    /interlock approve {ticket.plan.hash[:12]}"
    if not ticket.plan.hash.startswith(wanted):
        return f"That is not the hash of the plan above, which may have changed. Its hash is `{ticket.plan.hash[:12]}`."
    turn.because(f"plan approved by {event.by.login}")
    build(turn, PlanApproval(hash=ticket.plan.hash, by=event.by, at=turn.now))
    return ""


def build(turn: Turn, approval: PlanApproval) -> None:
    """Turn the plan's tasks into work."""
    plan = turn.ticket.plan
    if plan is None:
        return
    fresh = tuple(TaskProgress(task=task) for task in plan.tasks)
    turn.move("build", "the plan is approved", approved_plan=approval, tasks=turn.ticket.tasks + fresh)


def replan(turn: Turn, why: str) -> str:
    """A person wants another plan: before building starts it is made anew, with the reason shown to the agent."""
    ticket = turn.ticket
    if ticket.state is TicketState.PLANNING and ticket.agent_running:
        return "A plan is being made right now."
    if ticket.state is not TicketState.PROPOSED:
        return "There is no plan waiting for approval; a plan under work cannot be replaced."
    turn.move("plan", "a person asked for another plan", plan=None, note=why or "A person asked for another plan.")
    return ""
