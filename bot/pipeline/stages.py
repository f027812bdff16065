"""Event -> its stage, then whatever the ticket's new state calls for. The only entry of the pipeline."""

from __future__ import annotations

from datetime import datetime

from bot.pipeline import check_runs, developers, engineer, merge_queue, messages, orchestrator, spoken
from bot.pipeline.turn import Turn
from schemas import events as e
from schemas.decision import Decision
from schemas.effects import UpdateStatus
from schemas.ticket import RunState, TaskState, Ticket, TicketState


def decide(ticket: Ticket | None, event: e.Event, now: datetime, generation: int = 1) -> Decision | str:
    """What this event means for this ticket; a sentence when it means nothing (no ticket is opened by it)."""
    if ticket is None:
        if not isinstance(event, e.IssueLabelled):
            return f"{event.kind} for a ticket that does not exist"
        turn = engineer.open_ticket(event, now, generation)
        if turn is None:
            return f"label {event.label!r} by {event.by.login} requests nothing"
    else:
        turn = Turn(ticket.model_copy(update={"version": ticket.version + 1}), now)
        if ticket.open or isinstance(event, e.PullRequestOpened):
            _react(turn, event)
        else:
            turn.because(f"the ticket is {ticket.state}")
    _advance(turn)
    _publish(ticket, turn)
    return turn.decision()


def _react(turn: Turn, event: e.Event) -> None:
    match event:
        case e.IssueLabelled():
            turn.because("the ticket is open already")
        case e.IssueUnlabelled():
            if event.label == engineer.TRIGGER_LABEL:
                spoken.cancel(turn, f"{event.by.login} took the label off")
        case e.IssueClosed():
            spoken.cancel(turn, f"the issue was {event.how} by {event.by.login}")
        case e.CommentAdded():
            spoken.comment_added(turn, event)
        case e.ButtonPressed():
            spoken.button_pressed(turn, event)
        case e.RepositoryRead():
            engineer.repository_read(turn, event)
        case e.RepositoryRefused():
            engineer.repository_refused(turn, event)
        case e.QuestionsAsked():
            engineer.questions_asked(turn, event)
        case e.ScopeSubmitted():
            engineer.scope_submitted(turn, event)
        case e.AgentDeclined():
            engineer.declined(turn, event)
        case e.AgentFailed():
            attempts = turn.ticket.policy.attempts
            engineer.failed(turn, event, attempts.plan if turn.ticket.state is TicketState.PLANNING else attempts.scope)
        case e.PlanSubmitted():
            orchestrator.plan_submitted(turn, event)
        case e.RunSucceeded():
            developers.run_succeeded(turn, event)
        case e.RunFailed():
            developers.run_failed(turn, event)
        case e.EntryLanded(entry_kind="change"):
            developers.change_landed(turn, event)
        case e.EntryLanded(entry_kind="rebase"):
            merge_queue.rebased(turn, event)
        case e.EntryLanded():
            merge_queue.series_landed(turn, event)
        case e.EntryReturned(entry_kind="change"):
            developers.change_returned(turn, event)
        case e.EntryReturned(entry_kind="series"):
            merge_queue.series_returned(turn, event)
        case e.EntryReturned():
            turn.set(rebasing=False)
            if turn.ticket.state is not TicketState.STOPPED:
                reason = event.evidence.reason
                turn.stop(reason, f"rebase:{event.entry}", messages.not_landed(turn.ticket, reason))
        case e.TrialComposed():
            merge_queue.trial_composed(turn, event)
        case e.BaseMoved():
            merge_queue.base_moved(turn, event)
        case e.BranchPushed():
            merge_queue.branch_pushed(turn, event)
        case e.PullRequestOpened():
            merge_queue.pull_request_opened(turn, event)
        case e.PullRequestClosed():
            merge_queue.pull_request_closed(turn, event)
        case e.ReviewSubmitted():
            merge_queue.review_submitted(turn, event)
        case e.LaneStopped():
            turn.set(note=event.why)
            turn.because(event.why)
        case e.LaneOpened():
            turn.set(note="")
        case e.EffectGaveUp():
            _gave_up(turn, event)
        case e.Ticked():
            engineer.silence(turn)
            merge_queue.waited(turn)


def _gave_up(turn: Turn, event: e.EffectGaveUp) -> None:
    """What cannot be done is said; what the ticket cannot do without stops it."""
    turn.because(f"gave up {event.effect}: {event.reason}")
    needed = event.effect_kind in ("read_repository", "open_pull_request", "trial_compose", "run_agent")
    if not needed or turn.ticket.state is TicketState.STOPPED:
        return
    for item in turn.ticket.tasks:
        if item.state is TaskState.RUNNING and event.effect_kind == "run_agent":
            turn.move_task(item, "return", run=RunState.FAILED)
    what = event.effect_kind.replace("_", " ")
    turn.stop(event.reason, f"gave-up:{event.effect}", messages.gave_up(turn.ticket, what, event.reason))
    turn.set(trial_running=False)


def _advance(turn: Turn) -> None:
    """Let each stage want what the state calls for, until nothing moves. Bounded: each pass moves the ticket on."""
    for _ in range(len(TicketState)):
        before = turn.ticket
        engineer.advance(turn)
        orchestrator.advance(turn)
        developers.advance(turn)
        merge_queue.advance(turn)
        if turn.ticket == before:
            return


def _publish(before: Ticket | None, turn: Turn) -> None:
    """Bring the status comment and the check runs up to date, if what they show has changed."""
    after = turn.ticket
    if before is None or messages.status(before) != messages.status(after):
        turn.effects.append(
            UpdateStatus(
                **turn.base_of_effect(f"status:v{after.version}"),
                slot=f"{after.id}:status",
                issue=after.issue,
                body=messages.status(after),
            )
        )
    turn.effects.extend(check_runs.changed(before, after, turn.base_of_effect("")))
