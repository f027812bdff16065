"""REVIEWS: from what people say of the pull request to the base branch's lane, or to more work.

Reads ReviewSubmitted and ReviewRead. An approval is bound to the digest that its author was shown. Asking for changes
blocks until its author approves or it is dismissed, and becomes one more task.
"""

from collections.abc import Callable
from datetime import timedelta

from bot.pipeline import messages
from bot.pipeline.turn import Turn
from bot.rules import gating
from bot.rules.sanitise import clean
from schemas import events as e
from schemas.base import Evidence
from schemas.effects import ReadReview
from schemas.gates import Status
from schemas.lane import Series
from schemas.plan import Task
from schemas.ticket import Approval, Objection, TaskProgress, TicketState

TOO_SOON = timedelta(seconds=5)
"""A page that shows the tip before a push still sends an approval of the one after it."""


def review_submitted(turn: Turn, event: e.ReviewSubmitted) -> None:
    """What a review changes: an approval is counted, dropped or asked for anew, an objection is kept and worked on."""
    who = event.by.login
    if event.state == "dismissed":
        turn.because("a review was dismissed")
        _forget(turn, lambda one: one.review == event.review)
        land_if_approved(turn)
    elif not event.by.writes:
        turn.because(f"the review of {who} does not count: {who} may not write here")
    elif event.state == "commented":
        turn.because(f"{who} says something, and neither approves nor asks for changes")
    else:
        _forget(turn, lambda one: one.by.id == event.by.id)  # whichever it is, it is this person's last word now
        (_approved if event.state == "approved" else _changes_requested)(turn, event)


def _forget(turn: Turn, said: Callable[[Approval | Objection], bool]) -> None:
    for name in ("approvals", "objections"):
        turn.set(**{name: tuple(one for one in getattr(turn.ticket, name) if not said(one))})


def _approved(turn: Turn, event: e.ReviewSubmitted) -> None:
    ticket, who, pull = turn.ticket, event.by.login, turn.ticket.pull_request
    # GitHub shows a new head before we have said what it is.
    soon = pull is not None and (pull.head != event.head or (pull.at is not None and event.at - pull.at < TOO_SOON))
    if ticket.state not in (TicketState.REVIEWING, TicketState.LANDING):
        turn.because(f"the approval of {who} comes before review is asked for")
        turn.look_again(event.by)
    elif event.head != ticket.tip:
        turn.because(f"{who} approved {event.head[:12]}, which is not the head any more")
        if ticket.state is TicketState.REVIEWING:
            turn.comment(f"approve-again:{event.review}", messages.approve_again(ticket, who, "of an earlier commit"))
    elif soon and event.by.id not in ticket.hasty:
        turn.because(f"{who} approved within seconds of a push")
        turn.set(hasty=(*ticket.hasty, event.by.id))
        turn.comment(f"approve-again:{event.review}", messages.approve_again(ticket, who, "sent while it was changed"))
    else:
        assert ticket.base is not None
        given = Approval(by=event.by, review=event.review, digest=ticket.digest, head=event.head, at=event.at)
        turn.set(approvals=(*ticket.approvals, given), approved=(ticket.base, event.head))
        turn.because(f"approved by {who}")
        land_if_approved(turn)


def _changes_requested(turn: Turn, event: e.ReviewSubmitted) -> None:
    """Nothing lands over it; what it says is read, and then worked on."""
    pull = turn.ticket.pull_request
    turn.because(f"{event.by.login} asks for changes")
    turn.drop_approvals()
    turn.set(objections=(*turn.ticket.objections, Objection(by=event.by, review=event.review, body=event.body)))
    if pull is not None:
        turn.want(ReadReview, f"review:{event.review}", number=pull.number, review=event.review)


def review_read(turn: Turn, event: e.ReviewRead) -> None:
    """One more task, which may touch what the ticket touched, with the review as its evidence."""
    ticket = turn.ticket
    objection = next((one for one in ticket.objections if one.review == event.review), None)
    if objection is None:
        turn.because("its author has thought better of it")
        return
    title = f"Changes asked for in review by {objection.by.login}"[:200]
    said = clean("\n\n".join(filter(None, (objection.body, *event.comments))))[0]
    brief = f"{title}, of what is on the branch now:\n\n{said}"[:20_000]
    task = Task(
        id=f"{ticket.id}/{len(ticket.tasks) + 1}", ticket=ticket.id, kind=ticket.scope.kind if ticket.scope else "feature",
        title=title, brief=brief, limits=ticket.policy.limits,
        owns=tuple(dict.fromkeys(glob for item in ticket.tasks for glob in item.task.owns)),
        checks=tuple({check.command: check for item in ticket.tasks for check in item.task.checks}.values()),
    )  # fmt: skip
    evidence = Evidence(reason=title, log=said[:20_000])
    turn.set(tasks=(*ticket.tasks, TaskProgress(task=task, evidence=evidence)))
    turn.because(f"task {task.id}: {title}")


def ask(turn: Turn) -> None:
    """Those whose word no longer counts are told so, once, when there is something to look at again."""
    ticket = turn.ticket
    again = [who for who in ticket.look_again if not gating.is_excluded(ticket, who)]
    people = {who.id: who for who in (*again, *(one.by for one in ticket.objections))}
    if people or ticket.look_again:  # without a name if nobody's word of these would count
        body = messages.look_again(ticket, [who.login for who in people.values()])
        turn.comment(f"look-again:{ticket.trial}", body)
    turn.set(look_again=(), note="")


def land_if_approved(turn: Turn) -> None:
    """Into the base branch's lane once the gate passes, which is every check of the tasks and of the policy.

    The queue reads the approvals again before it lands.
    """
    ticket, base, tip = turn.ticket, turn.ticket.base, turn.ticket.tip
    passed = gating.recorded(ticket).status is Status.PASSED
    if ticket.state is not TicketState.REVIEWING or ticket.on_hold or not passed or base is None or tip is None:
        return
    turn.move("land", "the gate has passed", interdiff="")
    series = Series(fork=base, tip=tip, digest=ticket.digest, branch=ticket.branch, method=ticket.policy.merge)
    checks = (*(check for item in ticket.tasks for check in item.task.checks), *ticket.policy.checks)
    gate = tuple({check.command: check for check in checks}.values())
    turn.put(f"{ticket.id}@{tip[:12]}.{ticket.trial}", ticket.base_lane, series=series, author=ticket.requester.login,
             checks=gate, ci=ticket.policy.ci, ci_minutes=ticket.policy.ci_deadline_minutes,
             landing=ticket.policy.landing)  # fmt: skip
