"""ORCHESTRATOR: from an agreed scope to a plan that the rules accept and, where the policy asks, a person approves.

Reads PlanSubmitted and the commands approve and replan. Wants RunAgent and the plan's comment.
"""

from bot.pipeline import messages, replies
from bot.pipeline.turn import Said, Turn
from bot.rules import globs
from schemas.base import Person
from schemas.events import PlanSubmitted
from schemas.plan import Plan, PlanApproval
from schemas.policy import Policy
from schemas.ticket import TaskProgress, TicketState

MIN_HASH_DIGITS = 8


def advance(turn: Turn) -> None:
    """Planning means that exactly one Orchestrator is at work."""
    if turn.ticket.state is TicketState.PLANNING and not turn.ticket.agent_running:
        attempt = turn.ticket.orchestrator_attempt + 1
        turn.call_agent("orchestrator", attempt, turn.ticket.policy.models.orchestrator)
        turn.set(orchestrator_attempt=attempt)


def plan_submitted(turn: Turn, event: PlanSubmitted) -> None:
    """Show the plan; start at once where nobody needs to approve it."""
    if not turn.agent_ended(event.usage, TicketState.PLANNING):
        return
    plan = event.plan
    why = f"plan {plan.hash[:12]} with {len(plan.tasks)} tasks"
    turn.move("propose", why, plan=plan, failures=0, faults=(), note="")
    if needs_approval(plan, turn.ticket.policy):
        turn.comment(f"plan:{plan.hash[:12]}", messages.plan(turn.ticket, plan, event.notes))
    else:
        turn.because("the policy asks nobody to approve this plan")
        _build(turn, plan, None)


def needs_approval(plan: Plan, policy: Policy) -> bool:
    """Whether the policy wants a person's approval of this plan."""
    if policy.approve.plan != "risky" or len(plan.tasks) > 1:
        return policy.approve.plan != "never"
    untested = not policy.checks and not any(task.checks for task in plan.tasks)
    owned = [glob for task in plan.tasks for glob in task.owns]
    return untested or any(not globs.disjoint(glob, protected) for glob in owned for protected in policy.protected)


def approve(turn: Turn, event: Said, digits: str) -> str:
    """A person approves the plan by its hash. Returns the answer to give, empty if there is nothing to say."""
    plan = turn.ticket.plan
    if turn.ticket.state is not TicketState.PROPOSED or plan is None:
        return replies.NO_PLAN
    wanted = digits.strip("`").lower()
    if len(wanted) < MIN_HASH_DIGITS:
        return replies.name_the_plan(plan)
    if not plan.hash.startswith(wanted):
        return replies.other_plan(plan)
    turn.because(f"plan approved by {event.by.login}")
    _build(turn, plan, event.by)
    return ""


def _build(turn: Turn, plan: Plan, by: Person | None) -> None:
    """Turn the plan's tasks into work."""
    approval = PlanApproval(hash=plan.hash, by=by, at=turn.now)
    fresh = tuple(TaskProgress(task=task) for task in plan.tasks)
    turn.move("build", "the plan is approved", approved_plan=approval, tasks=turn.ticket.tasks + fresh)


def replan(turn: Turn, event: Said, why: str) -> str:
    """A person wants another plan: before building starts it is made anew, with the reason shown to the agent."""
    if turn.ticket.state is TicketState.PLANNING and turn.ticket.agent_running:
        return replies.PLANNING_NOW
    if turn.ticket.state is not TicketState.PROPOSED:
        return replies.PLAN_AT_WORK
    turn.move("plan", "a person asked for another plan", plan=None, note=why or "A person asked for another plan.")
    return ""
