"""MERGE QUEUE, as the ticket sees it: from landed tasks to a reviewed pull request on the base branch.

Reads TrialComposed, BaseMoved, BranchPushed, PullRequestOpened, PullRequestClosed and the queue's outcomes for series and
rebases. Wants TrialCompose, OpenPullRequest and CloseIssue; puts rebases into lanes. Reviews are bot.pipeline.reviews', the
lanes themselves are decided in bot.rules.lanes.
"""

from datetime import timedelta

from bot.pipeline import messages, notices, reviews
from bot.pipeline.turn import Turn
from schemas import events as e
from schemas.effects import CloseIssue, OpenPullRequest, TrialCompose
from schemas.lane import EntryState, ErrorClass, Rebase
from schemas.ticket import PullRequest, TaskState, TicketState

RIVAL_RETRY = timedelta(minutes=2)
_TRIED = (TicketState.BUILDING, TicketState.TRIALING, TicketState.REVIEWING)


def advance(turn: Turn) -> None:
    """Everything landed: try the tip on the base; review is asked only for a tip that composes clean."""
    ticket = turn.ticket
    landed = all(item.state is TaskState.LANDED for item in ticket.tasks)
    if ticket.state is TicketState.BUILDING and landed and ticket.tip and not ticket.rebasing:
        turn.move("try", "every task has landed on the branch", trial_running=False)
    elif ticket.state in (TicketState.TRIALING, TicketState.REVIEWING) and not landed:
        turn.move("build", "there is more to do on the branch")
    if turn.ticket.state is TicketState.TRIALING and not turn.ticket.trial_running and not turn.ticket.waits_for:
        _start_trial(turn, "before review is asked for")
    reviews.land_if_approved(turn)


def _start_trial(turn: Turn, why: str) -> None:
    """Compose the tip on the base without a push; only the newest trial's answer counts."""
    ticket, trial = turn.ticket, turn.ticket.trial + 1
    if ticket.tip is None:
        return
    turn.because(f"trial {trial} {why}")
    turn.want(TrialCompose, f"trial:{trial}", slot=f"{ticket.id}:trial", trial=trial, fork=ticket.base, tip=ticket.tip,
              branch=ticket.branch, base_ref=ticket.base_ref, approved=ticket.approved)  # fmt: skip
    turn.set(trial=trial, trial_running=True, waits_for="", wake_at=None)


def waited(turn: Turn, event: e.Ticked) -> None:
    """Look again whether the rival is out of the way."""
    ticket = turn.ticket
    if ticket.state is TicketState.TRIALING and ticket.waits_for and ticket.wake_at and ticket.wake_at <= turn.now:
        _start_trial(turn, f"to see whether {ticket.waits_for} is out of the way")


def base_moved(turn: Turn, event: e.BaseMoved) -> None:
    """Look again whether the tip still fits; a forced push on the base asks people instead."""
    ticket, head = turn.ticket, event.head[:12]
    ours = event.ref.removeprefix("refs/heads/") == ticket.base_ref
    if ours and event.forced and turn.may("stop"):
        turn.stop_and_ask("the base branch was moved by force", f"base-forced:{head}", messages.base_forced(ticket))
    elif ours and ticket.state in _TRIED:
        _start_trial(turn, f"because the base moved to {head}")


def trial_composed(turn: Turn, event: e.TrialComposed) -> None:
    """Clean: ask for review. Conflict: rebase, so that the tasks that no longer fit are reworked."""
    ticket = turn.ticket
    if event.trial != ticket.trial or event.tip != ticket.tip or ticket.state not in _TRIED:
        return
    turn.set(trial_running=False, digest=event.digest)
    shifted = event.shifted and ticket.state is not TicketState.BUILDING
    if not event.rival and (shifted or not event.clean):
        _rebase(turn, event)
    elif ticket.state is TicketState.TRIALING and event.rival:
        turn.set(waits_for=event.rival, wake_at=turn.now + RIVAL_RETRY)
        turn.because(f"waits for {event.rival}, which changes the same lines and was first")
    elif ticket.state is TicketState.TRIALING:
        turn.drop_approvals(but=event.digest)
        why = f"composes clean on {event.onto[:12]}, digest {event.digest[:12]}"
        turn.move("review", why, interdiff=event.interdiff, hasty=())
        title = ticket.title or f"Issue {ticket.issue}"
        turn.want(OpenPullRequest, f"pull-request:{ticket.tip}.{ticket.trial}", branch=ticket.branch, base=ticket.base_ref,
                  title=title, body=messages.pull_request(turn.ticket))  # fmt: skip
        reviews.land_if_approved(turn)
        if turn.ticket.state is TicketState.REVIEWING:
            reviews.ask(turn)


def _rebase(turn: Turn, event: e.TrialComposed) -> None:
    ticket = turn.ticket
    if ticket.rebasing:
        return
    other = f" by {event.evidence.other}" if event.evidence and event.evidence.other else ""
    if ticket.state is not TicketState.BUILDING:
        turn.move("build", f"the base changed the same lines{other}; the branch is rebased")
    turn.set(rebasing=True)
    rebase = Rebase(fork=ticket.base or event.tip, tip=event.tip, onto=event.onto)
    name = f"{ticket.id}:rebase:{event.tip[:12]}:{event.onto[:12]}.{event.trial}"
    turn.put(name, ticket.lane, rebase=rebase, priority=ticket.priority + 1)


def entry_landed(turn: Turn, event: e.EntryLanded) -> None:
    """A rebase or the whole series, read back from the remote; single changes are the Developers'."""
    if event.entry_kind == "rebase" and event.onto is not None:
        _rebased(turn, event, event.onto)
    elif event.entry_kind == "series" and turn.may("finish"):
        turn.move("finish", f"landed as {event.commit[:12]}", wake_at=None, note="")
        commits = tuple(commit for _, commit in event.commits) or (event.commit,)
        turn.set(landed=tuple(dict.fromkeys(commits)), landed_by=event.way)
        turn.want(CloseIssue, "close-issue", issue=turn.ticket.issue)
        late = [item for item in turn.ticket.tasks if item.state is not TaskState.LANDED]
        for item in late:
            turn.move_task(item, "cancel")
            turn.comment(f"too-late:{item.task.id}", messages.too_late(turn.ticket, item.task))


def _rebased(turn: Turn, event: e.EntryLanded, onto: str) -> None:
    """The branch now grows from the base's head; what no longer fitted goes back to its agent with the conflict."""
    commits, dropped = dict(event.commits), dict(event.dropped)
    turn.set(base=onto, tip=event.commit if event.commit != onto else None, rebasing=False)
    for item in turn.ticket.tasks:
        if item.change in dropped and item.state is TaskState.LANDED:
            turn.move_task(item, "return", commit=None, evidence=dropped[item.change])
            turn.because(f"{item.change} conflicts: {dropped[item.change].reason}")
        elif item.change in commits:
            turn.set_task(item, commit=commits[item.change])
    turn.because(f"rebased onto {onto[:12]}")


def entry_returned(turn: Turn, event: e.EntryReturned) -> None:
    """It did not land: the approval no longer covers it, it conflicts, or it fails on today's base."""
    ticket, reason = turn.ticket, event.evidence.reason
    if event.entry_kind == "series":
        turn.set(landed_by="push")  # GitHub's queue does not have it any more
    if event.entry_kind == "rebase":
        turn.set(rebasing=False)
        if turn.may("stop"):
            turn.stop_and_ask(reason, f"rebase:{event.entry}", messages.not_landed(ticket, reason))
    elif event.entry_kind == "series" and ticket.state is TicketState.LANDING:
        turn.drop_approvals()
        turn.move("try", f"not landed: {reason}", note=reason, trial_running=False)
        landed = [item for item in ticket.tasks if item.state is TaskState.LANDED]
        if event.error_class is ErrorClass.POLICY and event.evidence.other:
            turn.set(tip=event.evidence.other)  # a push of somebody's that we were not told of
        if event.state is EntryState.QUARANTINED:
            turn.stop_and_ask(reason, f"not-landed:{event.entry}", messages.not_landed(ticket, reason))
        elif event.error_class is ErrorClass.CHECK and landed:
            # Green on the branch, red on today's base: the last task is reworked on a branch that holds the base.
            turn.move("build", "a check fails on today's base")
            turn.move_task(landed[-1], "return", evidence=event.evidence)
        elif event.error_class is ErrorClass.POLICY and turn.ticket.look_again:
            turn.set(note=notices.approval_dropped(reason))  # asked by name once there is something to look at
        elif event.error_class is ErrorClass.POLICY:
            said = notices.approval_dropped(messages.one_line(reason, 400))
            turn.comment(f"not-confirmed:{event.entry}", messages.your_turn(said, "review the pull request again."))


def lane_stopped(turn: Turn, event: e.LaneStopped) -> None:
    """Nothing lands for now, and people are told why; with a comment, once, if it is their turn."""
    if event.ask and event.why != turn.ticket.note:
        turn.comment(f"lane:{turn.ticket.version}", messages.not_allowed(event.why))
    turn.set(note=event.why, landed_by=event.way)
    turn.because(event.why)


def lane_opened(turn: Turn, event: e.LaneOpened) -> None:
    """The lane goes on."""
    turn.set(note="")


def branch_pushed(turn: Turn, event: e.BranchPushed) -> None:
    """A person's plain push is kept and drops the approval; a forced push or deletion stops the ticket."""
    ticket, who = turn.ticket, event.by.login
    if event.after == ticket.tip and ticket.branch_lost:
        turn.because(f"{who} brought the branch back")
        turn.set(branch_lost=False)
    if event.ours or event.after == ticket.tip:
        return
    if event.forced or event.after is None or ticket.branch_lost:
        what = "deleted" if event.after is None else "moved by force"
        name, body = f"branch-{what[:5]}:{ticket.version}", messages.branch_lost(ticket, what, who)
        if turn.may("stop"):
            turn.stop_and_ask(f"its branch was {what} by {who}", name, body)
        elif not ticket.branch_lost:
            turn.comment(name, body)
        turn.set(branch_lost=True)
        return
    turn.because(f"{who} pushed {event.after[:12]} to the branch")
    if ticket.approvals and turn.may("stop"):  # one that has stopped keeps the reason for that
        turn.set(note=f"The approval does not count any more: {who} pushed to its branch.")
    turn.drop_approvals()
    turn.pull_back("the branch changed")
    turn.set(tip=event.after, pushed_by=tuple({*ticket.pushed_by, event.by.id}),
             notice=f"{who} pushed {event.after} to the branch; it is kept.")  # fmt: skip
    if ticket.state is TicketState.REVIEWING:
        turn.move("try", "the branch changed under review", trial_running=False)
    elif ticket.state is TicketState.TRIALING:
        turn.set(trial_running=False)


def pull_request_opened(turn: Turn, event: e.PullRequestOpened) -> None:
    """Remember the number, and since when it shows this head; one that is new to us has never shown another."""
    known = turn.ticket.pull_request
    at = None if known is None else known.at if known.head == event.head else event.at
    turn.set(pull_request=PullRequest(number=event.number, head=event.head, at=at))
    turn.because(f"pull request #{event.number}")


def pull_request_closed(turn: Turn, event: e.PullRequestClosed) -> None:
    """Closed by hand: stop. Merged by hand: done, and said so. Merged by GitHub's queue: the lane looks at what it made."""
    ticket, who = turn.ticket, event.by.login
    if ticket.pull_request is None:
        return
    if event.merged and ticket.landed_by == "merge_queue":
        turn.because(f"merged by {who} out of GitHub's merge queue, which is still to be verified")
    elif event.merged and turn.may("finish"):
        merged = f"merged by {who} on GitHub"
        turn.take_back()
        turn.move("finish", merged, note=merged)
    elif not event.merged:
        turn.set(pull_request=ticket.pull_request.model_copy(update={"closed": True}))
        if turn.may("stop"):
            body = messages.pull_request_closed(who)
            turn.stop_and_ask(f"{who} closed the pull request", f"pr-closed:{ticket.version}", body)


def pull_request_reopened(turn: Turn, event: e.PullRequestReopened) -> None:
    """Opened again by a writer: what stopped because it was closed goes on."""
    ticket, pull = turn.ticket, turn.ticket.pull_request
    if pull is None or not pull.closed or not event.by.writes:
        return
    turn.set(pull_request=pull.model_copy(update={"closed": False}))
    if ticket.state is TicketState.STOPPED and ticket.resume and not ticket.branch_lost:
        turn.move(f"resume:{ticket.resume}", f"{event.by.login} opened the pull request again", resume=None, note="",
                  failures=0, trial_running=False, waits_for="")  # fmt: skip
