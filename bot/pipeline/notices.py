"""What is said of what happens around a ticket: see bot.pipeline.messages, which has everything else that we write."""

from typing import Final

from schemas.acts import How
from schemas.ticket import TaskState, Ticket, TicketState

UNREACHABLE: Final[dict[How, str]] = {
    "archived": "The repository was archived.", "removed": "The App was taken off this repository.",
}  # fmt: skip
"""Why a ticket stopped where nothing can be said before that is undone."""


def _ask(said: str, ask: str) -> str:
    return f"{said}\n\nSomeone who may write here: {ask}"


def reachable(ticket: Ticket) -> str:
    """What stopped the ticket is undone."""
    return _ask(f"{ticket.note} The work stopped then, and could go on now.", "`/interlock resume`.")


def refused(reason: str) -> str:
    """The repository cannot be worked on any more."""
    return _ask(reason, "mend that, then `/interlock resume`.")


def approval_dropped(reason: str) -> str:
    """Approved, but not this, or not by these people any more."""
    return f"The approval does not count any more: {reason}."


def branch_not_back(ticket: Ticket) -> str:
    """What may be done about a branch that is lost."""
    back = f"bring `{ticket.branch}` back to {ticket.tip} and comment `/interlock resume`, or " if ticket.tip else ""
    return f"Someone who may write here: {back}take the label off and put it on again to start anew."


def paused(ticket: Ticket) -> str:
    """The repository's own switch is on."""
    why = ticket.policy.pause if ticket.open else ""
    return (
        why
        and f"**Paused** by this repository's policy: {why}. Nothing starts or lands before its key `pause` is gone."
    )


def silence(ticket: Ticket) -> str:
    """What a ticket waits on that has had no news for a while."""
    if not ticket.silent or ticket.since is None:
        return ""
    return f"Nothing new since {ticket.since:%Y-%m-%d %H:%M} UTC: waits for {_waits_on(ticket)}."


def _waits_on(ticket: Ticket) -> str:
    ci = f", and there for CI ({', '.join(map(str, ticket.policy.ci))})" if ticket.policy.ci else ""
    building = [
        f"{what} of task {', '.join(named)}"
        for what, state in (("the agent", TaskState.RUNNING), ("the checks", TaskState.SUBMITTED))
        if (named := [item.task.id.rsplit("/", 1)[1] for item in ticket.tasks if item.state is state])
    ]
    return {
        TicketState.OPENED: "GitHub, to read the repository",
        TicketState.CLARIFYING: "the Engineer",
        TicketState.PLANNING: "the Orchestrator",
        TicketState.BUILDING: " and ".join(building) or "a person, about the tasks above",
        TicketState.TRIALING: ticket.waits_for or f"a try on the newest `{ticket.base_ref}`",
        TicketState.LANDING: f"its place in the queue of `{ticket.base_ref}`{ci}",
    }.get(ticket.state, "a person")
