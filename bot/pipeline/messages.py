"""Every sentence that we write on GitHub. At most eight visible lines each, ending in who must do what.

Texts of people and agents are quoted safely (no mentions, no closing keywords). No word of our machinery.
"""

import re
from collections.abc import Sequence

from bot.pipeline import notices
from bot.rules.sanitise import quote_safe
from schemas.base import Evidence
from schemas.landing import Way
from schemas.plan import Plan, Question, Task
from schemas.ticket import TaskProgress, TaskState, Ticket, TicketState

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

_BY: dict[Way, str] = {
    "push": "",
    "api": ", in commits that GitHub signed",
    "merge_queue": ", by GitHub's merge queue; checked afterwards: it is what was approved",
}


def one_line(text: str, limit: int = 200) -> str:
    """Text of somebody else in one safe line."""
    flat = " ".join(quote_safe(text).split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def number(task_id: str) -> str:
    """A task's number in its ticket."""
    return task_id.rsplit("/", 1)[1]


def _named(task: Task, limit: int = 80) -> str:
    return f"{number(task.id)}. {one_line(task.title, limit)}"


def _some(names: Sequence[str], limit: int) -> str:
    return ", ".join(f"`{name}`" for name in names[:limit]) + (" …" if len(names) > limit else "")


def your_turn(said: str, ask: str, who: str = "Someone who may write here") -> str:
    """What is the case and, set apart, who must do what."""
    return f"{said}\n\n{who}: {ask}"


def status(ticket: Ticket) -> str:
    """The one status comment, edited in place."""
    over = ticket.state in (TicketState.STOPPED, TicketState.DECLINED, TicketState.DONE)
    hidden = ticket.hidden_removed
    lines = [
        f"### Interlock · {ticket.state}",
        f"**{ticket.scope.kind}:** {one_line(ticket.scope.goal)}" if ticket.scope else "",
        *(_task_line(item) for item in ticket.tasks),
        f"{hidden} hidden characters of the issue's text were left out." if hidden else "",
        f"What {ticket.edited_by} changed in the issue's text since is not read." if ticket.edited_by else "",
        f"Priority {ticket.priority} in the queue." if ticket.priority else "",
        one_line(ticket.policy_note, 300),
        one_line(ticket.notice, 400),
        f"Waits for {ticket.waits_for}, which changes the same lines and was first." if ticket.waits_for else "",
        f"Pull request #{ticket.pull_request.number}" if ticket.pull_request else "",
        f"On `{ticket.base_ref}` as {ticket.landed[-1]}{_BY[ticket.landed_by]}." if ticket.landed else "",
        one_line(ticket.note, 400) if over or ticket.state is TicketState.LANDING else "",
        one_line(notices.paused(ticket), 400),
        notices.silence(ticket),
        _TURN[ticket.state] if not ticket.branch_lost else notices.branch_not_back(ticket),
    ]
    return "\n".join(filter(None, lines))


def _task_line(item: TaskProgress) -> str:
    commit = f" as {item.commit}" if item.commit else ""
    tries = f", attempt {item.attempt}" if item.attempt > 1 else ""
    return f"- {_named(item.task)}: {_MARK[item.state]}{tries}{commit}"


def approve_again(ticket: Ticket, who: str, why: str) -> str:
    """An approval that is not counted, given while one is waited for."""
    said = f"@{who}, your approval was {why}, so it does not count."
    return your_turn(said, f"look at the patch `{ticket.digest[:16]}` and approve again.", f"@{who}")


def look_again(ticket: Ticket, logins: Sequence[str]) -> str:
    """An approval that no longer counts, or changes that were asked for and made."""
    names = ", ".join(f"@{login}" for login in logins) or "Someone who may write here, with no part in the work"
    number = ticket.pull_request.number if ticket.pull_request else ""
    why = one_line(ticket.note, 400) or f"Pull request #{number} is not what it was when you reviewed it."
    more = " Its description shows how it differs from what was approved." if ticket.interdiff else ""
    return your_turn(f"{why}{more}", f"review #{number} again.", names)


def too_late(ticket: Ticket, task: Task) -> str:
    """Work that was asked for when everything was landed already."""
    said = f"This landed before it could be done: {one_line(task.title)}."
    return your_turn(said, "open an issue for it, or `/interlock rollback`.")


def waiting_for_review(ticket: Ticket) -> str:
    """The title of the check run that waits for people."""
    names = ", ".join(one.by.login for one in ticket.objections)
    return one_line(f"Waiting for {names}, who asked for changes" if names else "Waiting for an approving review")


def questions(ticket: Ticket, asked: Sequence[Question]) -> str:
    """The questions, numbered."""
    lines = [f"@{ticket.requester.login}, before the work starts:"]
    for question in asked:
        options = f" ({' / '.join(one_line(o, 60) for o in question.options)})" if question.options else ""
        why = f" _{one_line(question.why)}_" if question.why else ""
        lines.append(f"{question.number}. {one_line(question.text, 500)}{options}{why}")
    ask = "answer all in one comment, or one with `/interlock answer N ...`."
    return your_turn("\n".join(lines), ask, "Anyone who may write here")


_NAMED = re.compile(r"'([^'`]+)'")
"""A name in a note: as code, lest Markdown reads `__main__` as bold."""


def plan(ticket: Ticket, made: Plan, notes: Sequence[str]) -> str:
    """The plan with its hash and the line to paste."""
    lines = [f"**Plan `{made.hash[:12]}`** for: {one_line(ticket.scope.goal if ticket.scope else ticket.title)}"]
    for task in made.tasks:
        after = f", after {', '.join(number(other) for other in task.after)}" if task.after else ""
        lines.append(f"{_named(task, 100)} — {_some(task.owns, 6)}{after}")
    commands = {check.command for checks in (ticket.policy.checks, *(t.checks for t in made.tasks)) for check in checks}
    lines.append("\nChecks: " + (", ".join(f"`{c}`" for c in sorted(commands)) or "**none: nothing will be tested**"))
    lines += [_NAMED.sub(r"`\1`", one_line(note, 300)) for note in (*notes, ticket.policy_note) if note]
    ask = f"approve it, or say `/interlock replan <why>`.\n\n    /interlock approve {made.hash[:12]}"
    return your_turn("\n".join(lines), ask)


def pull_request(ticket: Ticket) -> str:
    """The pull request's description, made by code."""
    goal = one_line(ticket.scope.goal, 600) if ticket.scope else ""
    acceptance = ticket.scope.acceptance if ticket.scope else ()
    lines = [
        f"For issue {ticket.issue}, asked for by {ticket.requester.login}.\n\n{goal}\n",
        *(f"- [ ] {one_line(text)}" for text in acceptance),
        "\n| task | files | attempts |\n| --- | --- | --- |",
        *(f"| {_named(item.task)} | {_some(item.paths, 8)} | {item.attempt} |" for item in ticket.tasks),
        f"\nPatch digest `{ticket.digest[:16]}`. An approving review lands exactly this patch.",
    ]
    if ticket.interdiff:
        shown = quote_safe(ticket.interdiff).replace("```", "'''")
        lines.append(f"\nChanged since it was approved:\n\n```diff\n{shown}\n```")
    return "\n".join(lines)


def held(task: Task, change: str, reasons: Sequence[str]) -> str:
    """A change that a person must look at before it goes on."""
    why = "\n".join(f"- {one_line(reason, 300)}" for reason in reasons)
    said = f"The change for task {number(task.id)} ({one_line(task.title, 80)}) is held:\n{why}"
    return your_turn(said, f"look at it, then let it go on.\n\n    /interlock release {change}")


def evidence_text(evidence: Evidence) -> str:
    """What went wrong, shortly, with the end of the log folded away."""
    ran = f"\n`{one_line(evidence.command, 120)}` exited {evidence.exit_code}." if evidence.command else ""
    log = evidence.log[-1500:].replace("```", "'''")
    folded = f"\n<details><summary>end of the log</summary>\n\n```\n{log}\n```\n</details>" if log else ""
    return one_line(evidence.reason, 400) + ran + folded


def task_failed(item: TaskProgress, evidence: Evidence) -> str:
    """Out of attempts."""
    said = f"Task {number(item.task.id)} ({one_line(item.task.title, 80)}) failed {item.failures} times."
    return _retry(item.task, f"{said}\n{evidence_text(evidence)}")


def quarantined(task: Task, evidence: Evidence) -> str:
    """Set aside."""
    return _retry(task, f"The change for task {number(task.id)} was set aside: {evidence_text(evidence)}")


def _retry(task: Task, said: str) -> str:
    return your_turn(said, f"`/interlock retry {number(task.id)}`, or `/interlock stop`.")


def declined(ticket: Ticket, reason: str) -> str:
    """The agent says no."""
    ask = "change the issue and put the label on again if you see it differently."
    return your_turn(f"This will not be worked on: {one_line(reason, 800)}", ask, f"@{ticket.requester.login}")


def silence(ticket: Ticket) -> str:
    """Nobody answered."""
    said = f"Nobody answered within {ticket.policy.questions.deadline_hours:g} hours, so the work has stopped."
    return your_turn(said, "`/interlock resume`, then answer the questions above.", f"@{ticket.requester.login}")


def agent_failed(reason: str) -> str:
    """The Engineer or Orchestrator gave no answer."""
    return your_turn(f"The agent gave no usable answer: {one_line(reason, 600)}", "`/interlock resume` to try again.")


def base_forced(ticket: Ticket) -> str:
    """History was rewritten under us."""
    said = f"`{ticket.base_ref}` was moved by force, so nothing of this ticket goes on by itself."
    return your_turn(said, "look at the branch, then `/interlock resume`.")


def branch_lost(ticket: Ticket, what: str, by: str) -> str:
    """Our branch was taken away."""
    said = f"The branch `{ticket.branch}` was {what} by {by}, so the work has stopped."
    return f"{said}\n\n{notices.branch_not_back(ticket)}"


def not_landed(ticket: Ticket, reason: str) -> str:
    """Approved, yet refused at the end."""
    said = f"The approved change could not be brought to `{ticket.base_ref}`: {one_line(reason, 600)}"
    return your_turn(said, "mend that, then `/interlock resume`.")


def not_allowed(why: str) -> str:
    """The branch's rules are in the way."""
    return your_turn(one_line(why, 600), "change that; then it goes on by itself.", "A maintainer")


def pull_request_closed(by: str) -> str:
    """Closed by hand."""
    said = f"{by} closed the pull request, so the work has stopped."
    return your_turn(said, "`/interlock resume` opens it again; closing the issue ends it.")


def gave_up(what: str, reason: str) -> str:
    """GitHub refused something that we cannot do without."""
    said = f"GitHub refused ({what}): {one_line(reason, 600)}"
    return your_turn(said, "mend that, then comment `/interlock resume`.", "Someone who runs Interlock here")
