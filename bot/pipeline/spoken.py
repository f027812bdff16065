"""What people say in comments and by buttons, brought to its stage. Only writers are heard."""

from collections.abc import Callable

from bot.pipeline import check_runs, developers, engineer, messages, notices, orchestrator, replies
from bot.pipeline.turn import Said, Turn
from bot.rules import gating
from bot.rules.commands import parse
from schemas import events as e
from schemas.effects import ReadRepository
from schemas.ticket import TicketState


def comment_added(turn: Turn, event: e.CommentAdded) -> None:
    """A command on the first line, or else an answer to what is asked."""
    command = parse(event.body)
    if not gating.may_steer(turn.ticket, event.by):
        if command is None or command.verb == "answer":
            engineer.offer(turn, event)
        turn.because(f"{event.by.login} may not write here: the comment changes nothing")
    elif command is not None:
        turn.because(f"{event.by.login}: /interlock {command.verb}")
        heard = turn.ticket.open or command.verb in _AFTER_THE_END
        if reply := _COMMANDS[command.verb](turn, event, command.rest) if heard else replies.over(turn.ticket):
            turn.comment(f"reply:{event.comment}", reply)
    elif turn.ticket.open and not engineer.answered(turn, event, event.body):
        turn.because("a comment that answers nothing")


def button_pressed(turn: Turn, event: e.ButtonPressed) -> None:
    """Like the command of the same name, on what the check run is about. A press that does nothing is answered with why."""
    who, about = event.by.login, event.about.split("@", 1)[0]
    shown = next((run for run in check_runs.shown(turn.ticket) if run.external_id == event.about), None)
    if not gating.may_steer(turn.ticket, event.by):
        refused = f"{who} may not write here"
    elif shown is None or shown.head != event.head:
        refused = "its check run is not about the newest commit any more"
    elif event.identifier not in [button.identifier for button in shown.buttons]:
        refused = "there is nothing left for it to do"
    else:
        turn.because(f"{who} pressed {event.identifier}")
        rest = "" if about == turn.ticket.id else about
        refused = _COMMANDS[event.identifier](turn, event, rest)
    if refused:
        turn.because(f"{who} pressed a button in vain: {refused}")
        turn.comment(f"pressed:{turn.ticket.version}", replies.pressed_in_vain(who, refused))


def check_rerequested(turn: Turn, event: e.CheckRerequested) -> None:
    """Somebody asks for our check runs on a commit: the verdicts stand, and are published once more."""
    again = [run for run in check_runs.shown(turn.ticket) if run.head == event.head]
    turn.because(f"{len(again)} check runs on {event.head[:12]} are published once more")
    turn.effects += [run.model_copy(update={"key": f"{run.key}:again{turn.ticket.version}"}) for run in again]


def _stop(turn: Turn, event: Said, rest: str) -> str:
    """Stop where it is, for a reason or none."""
    if not turn.may("stop"):
        return replies.STOPPED_ALREADY
    why = f": {messages.one_line(rest, 300)}" if rest else "."
    turn.stop(f"stopped by {event.by.login}", f"Stopped by {event.by.login}{why}")
    return ""


def _priority(turn: Turn, event: Said, rest: str) -> str:
    """How soon this ticket's entries are taken from the queues, those that wait and those to come."""
    if len(rest) != 1 or not rest.isascii() or not rest.isdigit():
        return replies.misused("priority")
    turn.because(f"priority {rest} instead of {turn.ticket.priority}")
    turn.priority = int(rest)
    turn.set(priority=turn.priority)
    return replies.priority(turn.priority)


def _rollback(turn: Turn, event: Said, rest: str) -> str:
    """A landed ticket is taken back by the issue's next ticket, through the same gate."""
    ticket = turn.ticket
    if ticket.open or not ticket.landed:
        return replies.nothing_landed(ticket)
    first = ticket.id.partition("~")[0]
    asked = e.RollbackAsked(ticket=f"{first}~{ticket.generation + 1}", of=ticket.id, repo=ticket.repo,
                            installation=ticket.installation, issue=ticket.issue, by=event.by)  # fmt: skip
    turn.emits.append(asked)
    return ""


def rollback_asked(turn: Turn, event: e.RollbackAsked) -> None:
    """The issue was labelled again a moment before: its new ticket goes first. (Asked twice at once, it is asked once.)"""
    if turn.ticket.rolls_back != event.of:
        turn.comment(f"no-rollback:{turn.ticket.version}", replies.over_first(event.of))


def _resume(turn: Turn, event: Said, rest: str) -> str:
    """Go on where it was stopped."""
    ticket = turn.ticket
    if ticket.state is not TicketState.STOPPED or ticket.resume is None:
        return replies.NOT_STOPPED
    if ticket.branch_lost:
        return notices.branch_not_back(ticket)
    turn.move(f"resume:{ticket.resume}", "resumed", resume=None, note="", failures=0, trial_running=False, waits_for="")
    if turn.ticket.state is TicketState.OPENED:
        turn.want(ReadRepository, f"read:{ticket.version}")
    if turn.ticket.state is TicketState.ASKING:
        engineer.wait_for_answers(turn)
    return ""


_COMMANDS: dict[str, Callable[[Turn, Said, str], str]] = {
    "answer": engineer.answer,
    "accept": engineer.accept,
    "approve": orchestrator.approve,
    "replan": orchestrator.replan,
    "release": developers.release,
    "retry": developers.retry,
    "stop": _stop,
    "resume": _resume,
    "priority": _priority,
    "rollback": _rollback,
    "status": lambda turn, event, rest: messages.status(turn.ticket),
    "help": lambda turn, event, rest: replies.HELP,
    "unknown": lambda turn, event, rest: replies.UNKNOWN,
    "misused": lambda turn, event, rest: replies.misused(rest),
}
"""What each does with the rest of the comment; it returns what to reply, empty if the ticket's own messages say it."""
_AFTER_THE_END = ("rollback", "status", "help", "unknown", "misused")


def issue_edited(turn: Turn, event: e.IssueEdited) -> None:
    """The work goes on with the text that a writer vouched for by labelling it; that is said."""
    turn.set(edited_by=event.by.login)
    turn.because(f"{event.by.login} edited the issue: the text stays as it was labelled")
