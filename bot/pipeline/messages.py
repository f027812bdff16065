"""Every sentence that we write on GitHub. At most eight visible lines each, ending in who must do what.

Texts of people and agents are quoted safely (no mentions, no closing keywords). No word of our machinery.
"""

from __future__ import annotations

from collections.abc import Sequence

from bot.rules.sanitise import quote_safe
from schemas.base import Evidence
from schemas.plan import Question, Task
from schemas.ticket import TaskProgress, TaskState, Ticket, TicketState

HELP = (
    "`/interlock` knows: `approve <plan hash>`, `replan [why]`, `answer N ...`, `accept`, `release <change>`, "
    "`retry [task]`, `stop`, `resume`, `status`, `help`."
)

_TURN: dict[TicketState, str] = {
    TicketState.OPENED: "Reading the repository. Nothing to do for you.",
    TicketState.CLARIFYING: "The Engineer is reading the issue and the code. Nothing to do for you.",
    TicketState.ASKING: "**Your turn:** answer the questions in a comment.",
    TicketState.PLANNING: "The Orchestrator is splitting the work. Nothing to do for you.",
    TicketState.PROPOSED: "**Your turn:** approve the plan, or ask for another one.",
    TicketState.BUILDING: "The tasks are being worked on. Nothing to do for you.",
    TicketState.TRIALING: "Everything is written; trying it on the newest base. Nothing to do for you.",
    TicketState.REVIEWING: "**Your turn:** review the pull request.",
    TicketState.LANDING: "Approved; bringing it to the base branch. Nothing to do for you.",
    TicketState.DONE: "Done.",
    TicketState.DECLINED: "Not taken on.",
    TicketState.STOPPED: "**Stopped.** Comment `/interlock resume` to go on.",
    TicketState.CANCELLED: "Cancelled. Label the issue again to start anew.",
}

_MARK: dict[TaskState, str] = {
    TaskState.WAITING: "waits",
    TaskState.READY: "next",
    TaskState.RUNNING: "being written",
    TaskState.SUBMITTED: "being checked",
    TaskState.HELD: "waits for a release",
    TaskState.LANDED: "on the branch",
    TaskState.FAILED: "needs a person",
    TaskState.QUARANTINED: "needs a person",
    TaskState.CANCELLED: "cancelled",
}


def one_line(text: str, limit: int = 200) -> str:
    """Text of somebody else in one safe line."""
    flat = " ".join(quote_safe(text).split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def number(task: Task) -> str:
    """A task's number in its ticket."""
    return task.id.rsplit("/", 1)[1]


def status(ticket: Ticket) -> str:
    """The one status comment, edited in place."""
    lines = [f"### Interlock · {ticket.state}"]
    if ticket.scope:
        lines.append(f"**{ticket.scope.kind}:** {one_line(ticket.scope.goal)}")
    for item in ticket.tasks:
        commit = f" as {item.commit}" if item.commit else ""
        tries = f", attempt {item.attempt}" if item.attempt > 1 else ""
        lines.append(f"- {number(item.task)}. {one_line(item.task.title, 80)}: {_MARK[item.state]}{tries}{commit}")
    if ticket.hidden_removed:
        lines.append(f"{ticket.hidden_removed} hidden characters of the issue's text were left out.")
    if ticket.policy_note:
        lines.append(one_line(ticket.policy_note))
    if ticket.waits_for:
        lines.append(f"Waits for {ticket.waits_for}, which changes the same lines and was first.")
    if ticket.pull_request:
        lines.append(f"Pull request #{ticket.pull_request.number}")
    if ticket.state is TicketState.DONE and ticket.landed:
        lines.append(f"On `{ticket.base_ref}` as {ticket.landed[-1]}.")
    if ticket.note and ticket.state in (TicketState.STOPPED, TicketState.DECLINED, TicketState.DONE):
        lines.append(one_line(ticket.note, 400))
    lines.append(_TURN[ticket.state])
    return "\n".join(lines)


def questions(ticket: Ticket, asked: Sequence[Question]) -> str:
    """The questions, numbered."""
    lines = [f"@{ticket.requester.login}, before the work starts:"]
    for question in asked:
        options = f" ({' / '.join(one_line(o, 60) for o in question.options)})" if question.options else ""
        why = f" _{one_line(question.why)}_" if question.why else ""
        lines.append(f"{question.number}. {one_line(question.text, 500)}{options}{why}")
    lines.append("\nAnyone who may write here: answer all in one comment, or one with `/interlock answer N ...`.")
    return "\n".join(lines)


def plan(ticket: Ticket, notes: Sequence[str]) -> str:
    """The plan with its hash and the line to paste."""
    made = ticket.plan
    if made is None:
        return ""
    lines = [f"**Plan `{made.hash[:12]}`** for: {one_line(ticket.scope.goal if ticket.scope else ticket.title)}"]
    for task in made.tasks:
        after = f", after {', '.join(a.rsplit('/', 1)[1] for a in task.after)}" if task.after else ""
        owns = ", ".join(f"`{glob}`" for glob in task.owns[:6]) + (" …" if len(task.owns) > 6 else "")
        lines.append(f"{number(task)}. {one_line(task.title, 100)} — {owns}{after}")
    checks = {check.command for task in made.tasks for check in task.checks}
    checks |= {check.command for check in ticket.policy.checks}
    lines.append("Checks: " + (", ".join(f"`{c}`" for c in sorted(checks)) or "**none: nothing will be tested**"))
    lines += [one_line(note) for note in notes]
    lines.append(
        f"\nSomeone who may write here: approve it, or say `/interlock replan <why>`.\n\n"
        f"    /interlock approve {made.hash[:12]}"
    )
    return "\n".join(lines)


def pull_request(ticket: Ticket) -> str:
    """The pull request's description, made by code."""
    goal = one_line(ticket.scope.goal, 600) if ticket.scope else ""
    lines = [f"For issue {ticket.issue}, asked for by {ticket.requester.login}.", "", goal, ""]
    if ticket.scope:
        lines += [f"- [ ] {one_line(text)}" for text in ticket.scope.acceptance]
    lines += ["", "| task | files | attempts |", "| --- | --- | --- |"]
    for item in ticket.tasks:
        files = ", ".join(f"`{path}`" for path in item.paths[:8]) + (" …" if len(item.paths) > 8 else "")
        lines.append(f"| {number(item.task)}. {one_line(item.task.title, 80)} | {files} | {item.attempt} |")
    lines += ["", f"Patch digest `{ticket.digest[:16]}`. An approving review lands exactly this patch."]
    return "\n".join(lines)


def held(ticket: Ticket, item: TaskProgress, change: str, reasons: Sequence[str]) -> str:
    """A change that a person must look at before it goes on."""
    why = "\n".join(f"- {one_line(reason, 300)}" for reason in reasons)
    return (
        f"The change for task {number(item.task)} ({one_line(item.task.title, 80)}) is held:\n{why}\n\n"
        f"Someone who may write here: look at it, then let it go on.\n\n    /interlock release {change}"
    )


def evidence_text(evidence: Evidence) -> str:
    """What went wrong, shortly, with the end of the log folded away."""
    parts = [one_line(evidence.reason, 400)]
    if evidence.command:
        parts.append(f"`{one_line(evidence.command, 120)}` exited {evidence.exit_code}.")
    if evidence.log:
        log = evidence.log[-1500:].replace("```", "'''")
        parts.append(f"<details><summary>end of the log</summary>\n\n```\n{log}\n```\n</details>")
    return "\n".join(parts)


def task_failed(ticket: Ticket, item: TaskProgress, evidence: Evidence) -> str:
    """Out of attempts."""
    return (
        f"Task {number(item.task)} ({one_line(item.task.title, 80)}) failed {item.failures} times.\n"
        f"{evidence_text(evidence)}\n\n"
        f"Someone who may write here: `/interlock retry {number(item.task)}`, or `/interlock stop`."
    )


def quarantined(ticket: Ticket, item: TaskProgress, evidence: Evidence) -> str:
    """Set aside."""
    return (
        f"The change for task {number(item.task)} was set aside: {evidence_text(evidence)}\n\n"
        f"Someone who may write here: `/interlock retry {number(item.task)}`, or `/interlock stop`."
    )


def declined(ticket: Ticket, reason: str) -> str:
    """The agent says no."""
    return (
        f"This will not be worked on: {one_line(reason, 800)}\n\n"
        f"@{ticket.requester.login}: change the issue and put the label on again if you see it differently."
    )


def silence(ticket: Ticket) -> str:
    """Nobody answered."""
    return (
        f"Nobody answered within {ticket.policy.questions.deadline_hours:g} hours, so the work has stopped.\n\n"
        f"@{ticket.requester.login}: `/interlock resume`, then answer the questions above."
    )


def agent_failed(ticket: Ticket, reason: str) -> str:
    """The Engineer or Orchestrator gave no answer."""
    return (
        f"The agent gave no usable answer: {one_line(reason, 600)}\n\n"
        "Someone who may write here: `/interlock resume` to try again."
    )


def base_forced(ticket: Ticket) -> str:
    """History was rewritten under us."""
    return (
        f"`{ticket.base_ref}` was moved by force, so nothing of this ticket goes on by itself.\n\n"
        "Someone who may write here: look at the branch, then `/interlock resume`."
    )


def branch_lost(ticket: Ticket, what: str, by: str) -> str:
    """Our branch was taken away."""
    return (
        f"The branch `{ticket.branch}` was {what} by {by}, so the work has stopped.\n\n"
        "Someone who may write here: label the issue again to start anew."
    )


def not_landed(ticket: Ticket, reason: str) -> str:
    """Approved, yet refused at the end."""
    return (
        f"The approved change could not be brought to `{ticket.base_ref}`: {one_line(reason, 600)}\n\n"
        "Someone who may write here: mend that, then `/interlock resume`."
    )


def pull_request_closed(ticket: Ticket, by: str) -> str:
    """Closed by hand."""
    return (
        f"{by} closed the pull request, so the work has stopped.\n\n"
        "Someone who may write here: `/interlock resume` opens it again; closing the issue ends it."
    )


def gave_up(ticket: Ticket, what: str, reason: str) -> str:
    """GitHub refused something that we cannot do without."""
    return (
        f"GitHub refused ({what}): {one_line(reason, 600)}\n\n"
        "Someone who runs Interlock here: mend that, then comment `/interlock resume`."
    )
