"""What people say in comments and by buttons, brought to its stage. Only writers are heard."""

from collections.abc import Callable

from bot.pipeline import developers, engineer, messages, notices, orchestrator
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
        engineer.offer(turn, event)
        turn.because(f"{event.by.login} may not write here: the comment changes nothing")
    elif command is not None:
        turn.because(f"{event.by.login}: /interlock {command.verb}")
        obey = _COMMANDS.get(command.verb)
        reply = obey(turn, event, command.rest) if obey else messages.HELP
        if reply:
            turn.comment(f"reply:{event.comment}", reply)
    elif not engineer.answered(turn, event, event.body):
        turn.because("a comment that answers nothing")


def button_pressed(turn: Turn, event: e.ButtonPressed) -> None:
    """Like the command of the same name, on the task whose check run carries the button."""
    if not gating.may_steer(turn.ticket, event.by):
        turn.because(f"{event.by.login} may not write here: the button does nothing")
        return
    turn.because(f"{event.by.login} pressed {event.identifier}")
    if event.identifier in ("release", "retry"):
        _COMMANDS[event.identifier](turn, event, event.about.split("@", 1)[0])


def _stop(turn: Turn, event: Said, rest: str) -> str:
    """Stop where it is."""
    if turn.may("stop"):
        turn.stop(f"stopped by {event.by.login}", f"Stopped by {event.by.login}.")
    return ""


def _resume(turn: Turn, event: Said, rest: str) -> str:
    """Go on where it was stopped."""
    ticket = turn.ticket
    if ticket.state is not TicketState.STOPPED or ticket.resume is None:
        return "Nothing is stopped here."
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
    "status": lambda turn, event, rest: messages.status(turn.ticket),
}
"""What each does with the rest of the comment; it returns what to reply, empty if the ticket's own messages say it."""
