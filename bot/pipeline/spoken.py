"""What people say in comments, by buttons and on the issue itself, brought to its stage. Only writers are heard."""

from bot.pipeline import developers, engineer, messages, orchestrator
from bot.pipeline.turn import Turn
from bot.rules import gating
from bot.rules.commands import Command, parse
from schemas import events as e
from schemas.base import Person
from schemas.effects import ReadRepository
from schemas.ticket import TaskState, TicketState


def comment_added(turn: Turn, event: e.CommentAdded) -> None:
    """A command on the first line, or else an answer to what is asked."""
    command = parse(event.body)
    if not gating.may_steer(turn.ticket, event.by):
        engineer.offer(turn, event)
        turn.because(f"{event.by.login} may not write here: the comment changes nothing")
    elif command is not None:
        turn.because(f"{event.by.login}: /interlock {command.verb}")
        reply = _obey(turn, event, command)
        if reply:
            turn.comment(f"reply:{event.comment}", reply)
    elif not engineer.answered(turn, event, None, event.body):
        turn.because("a comment that answers nothing")


def _obey(turn: Turn, event: e.CommentAdded, command: Command) -> str:
    """What to reply; nothing where the ticket's own messages say it."""
    match command.verb:
        case "answer":
            number, _, text = command.rest.partition(" ")
            known = number.isdigit() and engineer.answered(turn, event, int(number), text)
            return "" if known else "No open question has that number. Say `/interlock answer 2 your answer`."
        case "accept":
            return "" if engineer.accept(turn, event) else "The issue's author has left no answer to accept."
        case "approve":
            return orchestrator.approve(turn, event.by, command.rest)
        case "replan":
            return orchestrator.replan(turn, command.rest)
        case "release":
            known = developers.released(turn, command.rest, event.by.login)
            return "" if known else "No held change has that name; the status comment lists the tasks."
        case "retry":
            return "" if developers.retried(turn, command.rest) else "No task of that name waits for another try."
        case "stop":
            return _stop(turn, event.by)
        case "resume":
            return _resume(turn)
        case "status":
            return messages.status(turn.ticket)
        case _:
            return messages.HELP


def button_pressed(turn: Turn, event: e.ButtonPressed) -> None:
    """Like the command of the same name, on the task whose check run carries the button."""
    if not gating.may_steer(turn.ticket, event.by):
        turn.because(f"{event.by.login} may not write here: the button does nothing")
        return
    task = event.about.split("@", 1)[0]
    turn.because(f"{event.by.login} pressed {event.identifier}")
    if event.identifier == "release":
        developers.released(turn, task, event.by.login)
    elif event.identifier == "retry":
        developers.retried(turn, task)


def _stop(turn: Turn, by: Person) -> str:
    """Stop where it is: agents are stopped, queued changes taken back; nothing on the branch is undone."""
    if turn.may("stop"):
        for item in turn.ticket.tasks:
            if item.state in (TaskState.RUNNING, TaskState.SUBMITTED):
                turn.move_task(item, "return", ended="cancel")
        turn.take_back()
        turn.stop(f"stopped by {by.login}", note=f"Stopped by {by.login}.", rebasing=False)
    return ""


def _resume(turn: Turn) -> str:
    """Go on where it was stopped."""
    ticket = turn.ticket
    if ticket.state is not TicketState.STOPPED or ticket.resume is None:
        return "Nothing is stopped here."
    turn.move(f"resume:{ticket.resume}", "resumed", resume=None, note="", failures=0, trial_running=False, waits_for="")
    if turn.ticket.state is TicketState.OPENED:
        turn.want(ReadRepository, f"read:{ticket.version}")
    if turn.ticket.state is TicketState.ASKING:
        engineer.go_on_when_answered(turn)
    return ""


def issue_labelled(turn: Turn, event: e.IssueLabelled) -> None:
    """The label of a ticket that is there already."""
    turn.because("the ticket is open already")


def issue_unlabelled(turn: Turn, event: e.IssueUnlabelled) -> None:
    """Taking our label off cancels the ticket."""
    if event.label == engineer.TRIGGER_LABEL:
        _cancel(turn, f"{event.by.login} took the label off")


def issue_closed(turn: Turn, event: e.IssueClosed) -> None:
    """Closing the issue cancels the ticket."""
    _cancel(turn, f"the issue was {event.how} by {event.by.login}")


def _cancel(turn: Turn, why: str) -> None:
    """The issue is gone: nothing of this ticket goes on."""
    for item in turn.ticket.tasks:
        if item.state is not TaskState.LANDED:
            turn.move_task(item, "cancel")
    turn.take_back()
    turn.move("cancel", why, note=why, agent_running=False, wake_at=None)
