"""MERGE QUEUE, as the ticket sees it: from landed tasks to a reviewed pull request on the base branch.

Reads TrialComposed, BaseMoved, BranchPushed, PullRequestOpened, ReviewSubmitted, PullRequestClosed and the queue's
outcomes for series and rebases. Wants TrialCompose, OpenPullRequest and CloseIssue; puts series and rebases into lanes.
The lanes themselves are decided in bot.rules.lanes.
"""

from __future__ import annotations

from datetime import timedelta

from bot.pipeline import messages
from bot.pipeline.turn import Turn
from bot.rules import gating
from schemas.base import CheckCommand, Evidence
from schemas.effects import CloseIssue, OpenPullRequest, TrialCompose
from schemas.events import (
    BaseMoved,
    BranchPushed,
    EntryLanded,
    EntryReturned,
    PullRequestClosed,
    PullRequestOpened,
    ReviewSubmitted,
    TrialComposed,
)
from schemas.gates import Status
from schemas.lane import EntryState, NewEntry, Rebase, Series
from schemas.plan import Task
from schemas.ticket import Approval, PullRequest, TaskProgress, TaskState, Ticket, TicketState

RIVAL_RETRY = timedelta(minutes=2)
_TRIED = (TicketState.BUILDING, TicketState.TRIALING, TicketState.REVIEWING)


def advance(turn: Turn) -> None:
    """Everything landed: try the tip on the base; review is asked only for a tip that composes clean."""
    ticket = turn.ticket
    if ticket.state is TicketState.BUILDING and turn.all_landed() and ticket.tip is not None and not ticket.rebasing:
        turn.move("try", "every task has landed on the branch")
        turn.set(trial_running=False)
    if turn.ticket.state is TicketState.TRIALING and not turn.ticket.trial_running and not turn.ticket.waits_for:
        start_trial(turn, "before review is asked for")


def start_trial(turn: Turn, why: str) -> None:
    """Compose the tip on the base without a push; only the newest trial's answer counts."""
    ticket = turn.ticket
    if ticket.tip is None or ticket.base is None:
        return
    trial = ticket.trial + 1
    turn.because(f"trial {trial} {why}")
    turn.effects.append(
        TrialCompose(
            **turn.base_of_effect(f"trial:{trial}"),
            slot=f"{ticket.id}:trial",
            trial=trial,
            fork=ticket.base,
            tip=ticket.tip,
            base_ref=ticket.base_ref,
        )
    )
    turn.set(trial=trial, trial_running=True, waits_for="", wake_at=None)


def base_moved(turn: Turn, event: BaseMoved) -> None:
    """Look again whether the tip still fits; a forced push on the base asks people instead."""
    ticket = turn.ticket
    if event.ref.removeprefix("refs/heads/") != ticket.base_ref:
        return
    if event.forced and ticket.open and ticket.state is not TicketState.STOPPED:
        turn.stop("the base branch was moved by force", f"base-forced:{event.head[:12]}", messages.base_forced(ticket))
    elif ticket.state in _TRIED and ticket.tip is not None:
        start_trial(turn, f"because the base moved to {event.head[:12]}")


def trial_composed(turn: Turn, event: TrialComposed) -> None:
    """Clean: ask for review. Conflict: rebase, so that the tasks that no longer fit are reworked."""
    ticket = turn.ticket
    if event.trial != ticket.trial or event.tip != ticket.tip or ticket.state not in _TRIED:
        return
    turn.set(trial_running=False, digest=event.digest)
    if not event.clean and not event.rival:
        _rebase(turn, event)
    elif ticket.state is TicketState.TRIALING and event.rival:
        turn.set(waits_for=event.rival, wake_at=turn.now + RIVAL_RETRY)
        turn.because(f"waits for {event.rival}, which changes the same lines and was first")
    elif ticket.state is TicketState.TRIALING:
        kept = tuple(approval for approval in ticket.approvals if approval.digest == event.digest)
        turn.set(approvals=kept)
        turn.move("review", f"composes clean on {event.onto[:12]}, digest {event.digest[:12]}")
        turn.effects.append(
            OpenPullRequest(
                **turn.base_of_effect(f"pull-request:{ticket.tip}"),
                branch=ticket.branch,
                base=ticket.base_ref,
                title=ticket.title or f"Issue {ticket.issue}",
                body=messages.pull_request(turn.ticket),
            )
        )
        land_if_approved(turn)


def _rebase(turn: Turn, event: TrialComposed) -> None:
    ticket = turn.ticket
    if ticket.tip is None or ticket.rebasing:
        return
    other = f" by {event.evidence.other}" if event.evidence and event.evidence.other else ""
    if ticket.state is not TicketState.BUILDING:
        turn.move("build", f"the base changed the same lines{other}; the branch is rebased")
    turn.set(approvals=(), rebasing=True)
    turn.enqueue.append(
        NewEntry(
            id=f"{ticket.id}:rebase:{ticket.tip[:12]}:{event.onto[:12]}",
            lane=ticket.lane,
            ticket=ticket.id,
            fork=ticket.base,
            rebase=Rebase(fork=ticket.base or ticket.tip, tip=ticket.tip, onto=event.onto),
            priority=1,
        )
    )


def rebased(turn: Turn, event: EntryLanded) -> None:
    """The branch now grows from the base's head; what no longer fitted goes back to its agent with the conflict."""
    if event.onto is None:
        return
    commits = dict(event.commits)
    dropped = dict(event.dropped)
    tip = event.commit if event.commit != event.onto else None
    turn.set(base=event.onto, tip=tip, rebasing=False)
    for item in turn.ticket.tasks:
        if item.change in dropped and item.state is TaskState.LANDED:
            turn.move_task(item, "return", commit=None, evidence=dropped[item.change])
            turn.because(f"{item.change} conflicts: {dropped[item.change].reason}")
        elif item.change in commits:
            turn.set_task(item, commit=commits[item.change])
    turn.because(f"rebased onto {event.onto[:12]}")


def pull_request_opened(turn: Turn, event: PullRequestOpened) -> None:
    """Remember the number."""
    turn.set(pull_request=PullRequest(number=event.number, head=event.head))
    turn.because(f"pull request #{event.number}")


def branch_pushed(turn: Turn, event: BranchPushed) -> None:
    """A person's plain push is kept and drops the approval; a forced push or deletion stops the ticket."""
    ticket = turn.ticket
    if event.ours or not ticket.open or ticket.state is TicketState.STOPPED or event.after == ticket.tip:
        return
    if event.forced or event.after is None:
        what = "deleted" if event.after is None else "moved by force"
        turn.stop(f"its branch was {what} by {event.by.login}", f"branch-{what[:5]}:{ticket.version}",
                  messages.branch_lost(ticket, what, event.by.login))  # fmt: skip
        return
    turn.set(tip=event.after, approvals=())
    turn.because(f"{event.by.login} pushed {event.after[:12]} to the branch")
    if ticket.state is TicketState.REVIEWING:
        turn.move("try", "the branch changed under review")
        turn.set(trial_running=False)


def review_submitted(turn: Turn, event: ReviewSubmitted) -> None:
    """An approving review of the current head is bound to its digest; asking for changes becomes new work."""
    ticket = turn.ticket
    if event.state == "dismissed":
        turn.set(approvals=tuple(a for a in ticket.approvals if a.review != event.review))
        turn.because("a review was dismissed")
        return
    if not event.by.writes or ticket.state is not TicketState.REVIEWING:
        turn.because(f"the review of {event.by.login} does not count now")
        return
    if event.state == "changes_requested":
        changes_requested(turn, event)
    elif event.state == "approved":
        if event.head != ticket.tip:
            turn.because(f"{event.by.login} approved {event.head[:12]}, which is not the head any more")
            return
        approval = Approval(by=event.by, review=event.review, digest=ticket.digest, head=event.head, at=event.at)
        turn.set(approvals=(*(a for a in ticket.approvals if a.by.id != event.by.id), approval))
        turn.because(f"approved by {event.by.login}")
        land_if_approved(turn)


def changes_requested(turn: Turn, event: ReviewSubmitted) -> None:
    """One more task, which may touch what the ticket touched, with the review as its brief."""
    ticket = turn.ticket
    owns = tuple(dict.fromkeys(o for item in ticket.tasks for o in item.task.owns))
    checks = tuple({c.name: c for item in ticket.tasks for c in item.task.checks}.values())
    number = len(ticket.tasks) + 1
    task = Task(
        id=f"{ticket.id}/{number}",
        ticket=ticket.id,
        kind=ticket.scope.kind if ticket.scope else "feature",
        title=f"Changes asked for in review by {event.by.login}"[:200],
        brief=(event.body or "The reviewer asked for changes without words; read the change again with care.")[:20_000],
        owns=owns,
        checks=checks,
        limits=ticket.policy.limits,
    )
    turn.move("build", f"{event.by.login} asked for changes", approvals=())
    turn.set(tasks=(*turn.ticket.tasks, TaskProgress(task=task)))


def land_if_approved(turn: Turn) -> None:
    """Into the base branch's lane once the gate passes; the queue reads approvals again before it lands."""
    ticket = turn.ticket
    if ticket.state is not TicketState.REVIEWING or ticket.tip is None or ticket.base is None:
        return
    if gating.recorded(ticket).status is not Status.PASSED:
        return
    turn.move("land", "the gate has passed")
    turn.enqueue.append(
        NewEntry(
            id=f"{ticket.id}@{ticket.tip[:12]}.{ticket.trial}",
            lane=ticket.base_lane,
            ticket=ticket.id,
            fork=ticket.base,
            series=Series(
                fork=ticket.base, tip=ticket.tip, digest=ticket.digest, branch=ticket.branch, method=ticket.policy.merge
            ),
            author=ticket.requester.login,
            checks=all_checks(ticket),
        )
    )


def all_checks(ticket: Ticket) -> tuple[CheckCommand, ...]:
    """What gates the base branch: every check of the tasks and of the policy."""
    own = [check for item in ticket.tasks for check in item.task.checks if item.state is not TaskState.CANCELLED]
    policy = [
        CheckCommand(name=c.name, command=c.command, timeout_seconds=c.timeout_seconds) for c in ticket.policy.checks
    ]
    return tuple({check.command: check for check in (*own, *policy)}.values())


def series_landed(turn: Turn, event: EntryLanded) -> None:
    """The ticket's commits are on the base branch, read back from the remote."""
    ticket = turn.ticket
    if not turn.may("finish"):
        return
    turn.move("finish", f"landed as {event.commit[:12]}", wake_at=None, note="")
    turn.set(landed=tuple(commit for _, commit in event.commits) or (event.commit,))
    turn.effects.append(CloseIssue(**turn.base_of_effect("close-issue"), issue=ticket.issue))


def series_returned(turn: Turn, event: EntryReturned) -> None:
    """It did not land: the approval no longer covers it, it conflicts, or it fails on today's base."""
    ticket = turn.ticket
    if ticket.state is not TicketState.LANDING:
        return
    reason = event.evidence.reason
    turn.move("try", f"not landed: {reason}", note=reason, approvals=(), trial_running=False)
    if event.state is EntryState.QUARANTINED:
        turn.stop(reason, f"not-landed:{event.entry}", messages.not_landed(ticket, reason))
    elif event.error_class == "check":
        _reopen_for_check(turn, event.evidence)


def _reopen_for_check(turn: Turn, evidence: Evidence) -> None:
    """Green on the branch, red on today's base: the last task is reworked on a branch that holds the base."""
    ticket = turn.ticket
    last = next((item for item in reversed(ticket.tasks) if item.state is TaskState.LANDED), None)
    if last is not None:
        turn.move("build", "a check fails on today's base")
        turn.move_task(last, "return", evidence=evidence)


def pull_request_closed(turn: Turn, event: PullRequestClosed) -> None:
    """Closed by hand: stop. Merged by hand: done, and said so."""
    if turn.ticket.pull_request is None or not turn.ticket.open or turn.ticket.state is TicketState.LANDING:
        return
    if event.merged:
        if turn.may("finish"):
            turn.move("finish", f"merged by {event.by.login} on GitHub", note=f"merged by {event.by.login} on GitHub")
    elif turn.ticket.state is not TicketState.STOPPED:
        turn.stop(f"{event.by.login} closed the pull request", f"pr-closed:{turn.ticket.version}",
                  messages.pull_request_closed(turn.ticket, event.by.login))  # fmt: skip


def waited(turn: Turn) -> None:
    """Look again whether the rival is out of the way."""
    ticket = turn.ticket
    if ticket.state is TicketState.TRIALING and ticket.waits_for and ticket.wake_at and ticket.wake_at <= turn.now:
        start_trial(turn, f"to see whether {ticket.waits_for} is out of the way")
