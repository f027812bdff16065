"""What people say in comments and by buttons, brought to the stage that it concerns. Only writers are heard."""

from __future__ import annotations

from bot.pipeline import developers, engineer, messages, orchestrator
from bot.pipeline.turn import Turn
from bot.rules import gating
from bot.rules.commands import Command, parse
from schemas.effects import CancelRuns, ReadRepository
from schemas.events import ButtonPressed, CommentAdded
from schemas.ticket import RunState, TaskState, TicketState


def comment_added(turn: Turn, event: CommentAdded) -> None:
    """A command on the first line, or else an answer to what is asked."""
    command = parse(event.body)
    if not gating.may_steer(turn.ticket, event.by):
        engineer.offer(turn, event)
        turn.because(f"{event.by.login} may not write here: the comment changes nothing")
        return
    if command is None:
        if not engineer.answered(turn, event, None, event.body):
            turn.because("a comment that answers nothing")
        return
    turn.because(f"{event.by.login}: /interlock {command.verb}")
    reply = _obey(turn, event, command)
    if reply:
        turn.comment(f"reply:{event.comment}", reply)


def _obey(turn: Turn, event: CommentAdded, command: Command) -> str:
    match command.verb:
        case "answer":
            number, _, text = command.rest.partition(" ")
            if not number.isdigit() or not engineer.answered(turn, event, int(number), text):
                return "No open question has that number. Say `/interlock answer 2 your answer`."
        case "accept":
            if not engineer.accept(turn, event):
                return "The issue's author has left no answer to accept."
        case "approve":
            return orchestrator.approve(turn, event, command.rest)
        case "replan":
            return orchestrator.replan(turn, command.rest)
        case "release":
            if not developers.released(turn, command.rest, event.by.login):
                return "No held change has that name; the status comment lists the tasks."
        case "retry":
            if not developers.retried(turn, command.rest):
                return "No task of that name waits for another try."
        case "stop":
            stop(turn, event.by.login)
        case "resume":
            return resume(turn)
        case "status":
            return messages.status(turn.ticket)
        case _:
            return messages.HELP
    return ""


def button_pressed(turn: Turn, event: ButtonPressed) -> None:
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


def stop(turn: Turn, by: str) -> None:
    """Stop where it is: agents are stopped, queued changes taken back; nothing on the branch is undone."""
    ticket = turn.ticket
    if not turn.may("stop"):
        return
    resume_in = ticket.state
    if resume_in in (TicketState.REVIEWING, TicketState.LANDING):
        resume_in = TicketState.TRIALING
    for item in ticket.tasks:
        if item.state in (TaskState.RUNNING, TaskState.SUBMITTED):
            run = RunState.CANCELLED if item.state is TaskState.RUNNING else item.run
            turn.move_task(item, "return", run=run)
    turn.withdraw.append("*")
    turn.effects.append(CancelRuns(**turn.base_of_effect(f"cancel:{ticket.version}")))
    turn.move("stop", f"stopped by {by}", resume=resume_in, note=f"Stopped by {by}.", agent_running=False)
    turn.set(trial_running=False, rebasing=False, wake_at=None)


def resume(turn: Turn) -> str:
    """Go on where it was stopped."""
    ticket = turn.ticket
    if ticket.state is not TicketState.STOPPED or ticket.resume is None:
        return "Nothing is stopped here."
    turn.move(f"resume:{ticket.resume}", "resumed", resume=None, note="", failures=0)
    turn.set(agent_running=False, trial_running=False, waits_for="")
    if turn.ticket.state is TicketState.OPENED:
        turn.effects.append(ReadRepository(**turn.base_of_effect(f"read:{ticket.version}")))
    if turn.ticket.state is TicketState.ASKING:
        engineer.go_on_when_answered(turn)
    return ""


def cancel(turn: Turn, why: str) -> None:
    """The issue is gone: nothing of this ticket goes on."""
    ticket = turn.ticket
    for item in ticket.tasks:
        if item.state not in (TaskState.LANDED, TaskState.CANCELLED):
            turn.move_task(item, "cancel")
    turn.withdraw.append("*")
    turn.effects.append(CancelRuns(**turn.base_of_effect(f"cancel:{ticket.version}")))
    turn.move("cancel", why, note=why, agent_running=False, wake_at=None)
