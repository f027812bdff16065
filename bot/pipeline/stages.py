"""Event -> its stages, then whatever the ticket's new state calls for. The only entry of the pipeline."""

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from bot.pipeline import (
    check_runs,
    developers,
    engineer,
    lifecycle,
    merge_queue,
    messages,
    orchestrator,
    reviews,
    spoken,
)
from bot.pipeline.turn import Turn
from schemas import events as e
from schemas.base import Frozen
from schemas.decision import Decision
from schemas.effects import UpdateStatus
from schemas.ticket import Ticket, TicketState

E = TypeVar("E", bound=Frozen)
Reaction = Callable[[Turn, Frozen], None]


def decide(ticket: Ticket | None, event: e.Event, now: datetime, generation: int = 1) -> Decision | str:
    """What this event means for this ticket; a sentence when it means nothing (no ticket is opened by it)."""
    turn = _react(ticket, event, now) if ticket else engineer.open_ticket(event, now, generation)
    if isinstance(turn, str):
        return turn
    _advance(turn)
    lifecycle.keep_watch(ticket, turn)
    _publish(None if turn.again else ticket, turn)
    return turn.decision()


def _react(ticket: Ticket, event: e.Event, now: datetime) -> Turn:
    turn = Turn(ticket.model_copy(update={"version": ticket.version + 1}), now)
    if ticket.open or event.late or isinstance(event, e.PullRequestOpened):
        _REACTIONS[type(event)](turn, event)
    else:
        turn.because(f"the ticket is {ticket.state}")
    return turn


def _gave_up(turn: Turn, event: e.EffectGaveUp) -> None:
    """What cannot be done is said; what the ticket cannot do without stops it."""
    turn.because(f"gave up {event.effect}: {event.reason}")
    kind = event.effect_kind
    if kind == "trial_compose" and event.effect != f"{turn.ticket.id}:trial:{turn.ticket.trial}":
        return  # a newer one is under way
    if kind == "read_repository":
        turn.set(rereading=False)
    if kind not in _NEEDED:
        turn.set(notice=f"GitHub refused ({kind.replace('_', ' ')}): {event.reason}")
    elif turn.may("stop"):
        body = messages.gave_up(event.effect_kind.replace("_", " "), event.reason)
        turn.stop_and_ask(event.reason, f"gave-up:{event.effect}", body)


_NEEDED = ("read_repository", "open_pull_request", "trial_compose", "run_agent", "take_back", "read_review")


def _on(kind: type[E], *handlers: Callable[[Turn, E], None]) -> tuple[type[Frozen], Reaction]:
    """A row of the table: an event, and the stages that it concerns."""

    def react(turn: Turn, event: Frozen) -> None:
        assert isinstance(event, kind)
        for handler in handlers:
            handler(turn, event)

    return kind, react


_REACTIONS: dict[type[Frozen], Reaction] = dict(
    [
        _on(e.IssueLabelled, lifecycle.issue_labelled),
        _on(e.IssueUnlabelled, lifecycle.issue_unlabelled),
        _on(e.IssueClosed, lifecycle.issue_closed),
        _on(e.IssueEdited, spoken.issue_edited),
        _on(e.PlaceChanged, lifecycle.place_changed),
        _on(e.RollbackAsked, spoken.rollback_asked),
        _on(e.CommentAdded, spoken.comment_added),
        _on(e.ButtonPressed, spoken.button_pressed),
        _on(e.CheckRerequested, spoken.check_rerequested),
        _on(e.RepositoryRead, engineer.repository_read, lifecycle.repository_read),
        _on(e.RepositoryRefused, engineer.repository_refused, lifecycle.repository_refused),
        _on(e.QuestionsAsked, engineer.questions_asked),
        _on(e.ScopeSubmitted, engineer.scope_submitted),
        _on(e.AgentDeclined, engineer.declined),
        _on(e.AgentFailed, engineer.failed),
        _on(e.PlanSubmitted, orchestrator.plan_submitted),
        _on(e.RunSucceeded, developers.run_succeeded),
        _on(e.RunFailed, developers.run_failed),
        _on(e.EntryLanded, developers.change_landed, merge_queue.entry_landed),
        _on(e.EntryReturned, developers.change_returned, merge_queue.entry_returned),
        _on(e.EntryReopened, developers.change_reopened),
        _on(e.LaneStopped, merge_queue.lane_stopped),
        _on(e.LaneOpened, merge_queue.lane_opened),
        _on(e.TrialComposed, merge_queue.trial_composed),
        _on(e.BaseMoved, merge_queue.base_moved, lifecycle.base_moved),
        _on(e.BranchPushed, merge_queue.branch_pushed),
        _on(e.PullRequestOpened, merge_queue.pull_request_opened),
        _on(e.PullRequestClosed, merge_queue.pull_request_closed),
        _on(e.PullRequestReopened, merge_queue.pull_request_reopened),
        _on(e.ReviewSubmitted, reviews.review_submitted),
        _on(e.ReviewRead, reviews.review_read),
        _on(e.EffectGaveUp, _gave_up),
        _on(e.Ticked, engineer.silence, merge_queue.waited),
    ]
)


def _advance(turn: Turn) -> None:
    """Let each stage want what the state calls for, until nothing moves. Bounded: each pass moves the ticket on."""
    for _ in range(len(TicketState)):
        before = turn.ticket
        if before.on_hold:
            return
        for stage in (engineer, orchestrator, developers, merge_queue):
            stage.advance(turn)
        if turn.ticket == before:
            return


def _publish(before: Ticket | None, turn: Turn) -> None:
    """Bring the status comment and the check runs up to date, if what they show has changed."""
    after, body = turn.ticket, messages.status(turn.ticket)
    if before is None or messages.status(before) != body:
        turn.want(UpdateStatus, f"status:v{after.version}", slot=f"{after.id}:status", issue=after.issue, body=body)
    turn.effects.extend(check_runs.changed(before, after))
