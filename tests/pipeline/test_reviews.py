"""What a review does to a ticket at each moment, and that no approval outlives what it was given for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

import pytest

from bot.pipeline import messages
from schemas import events as e
from schemas.base import Evidence, Person
from schemas.decision import Decision
from schemas.effects import PostComment
from schemas.lane import EntryState, ErrorClass
from schemas.ticket import PullRequest, TaskProgress, TaskState, Ticket, TicketState
from tests.pipeline.test_stages import BASE, ONTO, SCOPE, T0, TASK, TIP, comments, decide, ticket

BOB, CAROL = Person(id=2, login="bob", permission="write"), Person(id=3, login="carol", permission="admin")
LANDED = TaskProgress(task=TASK, state=TaskState.LANDED, attempt=1, change="o/r#1/1.1", commit=TIP)
REVIEWING = ticket(
    TicketState.REVIEWING,
    LANDED,
    scope=SCOPE,
    tip=TIP,
    digest="d",
    trial=1,
    pull_request=PullRequest(number=5, head=TIP),
)


def reviews(
    before: Ticket, by: Person, state: Literal["approved", "changes_requested", "commented", "dismissed"], **more: Any
) -> Decision:
    about = {"review": by.id, "head": TIP, "body": "", "at": T0, **more}
    return decide(before, e.ReviewSubmitted(ticket=before.id, state=state, by=by, **about))


def tried(before: Ticket, **more: Any) -> Decision:
    about = {"trial": before.trial, "tip": before.tip or TIP, "onto": ONTO, "digest": "d", "clean": True, **more}
    return decide(before, e.TrialComposed(ticket=before.id, **about))


def test_asking_for_changes_stops_a_landing_and_becomes_work_afterwards() -> None:
    landing = reviews(REVIEWING, BOB, "approved").ticket
    assert landing.state is TicketState.LANDING
    asked = reviews(landing, CAROL, "changes_requested", body="No.")
    assert asked.ticket.state is TicketState.LANDING and not asked.ticket.approvals
    read = decide(asked.ticket, e.ReviewRead(ticket=landing.id, review=CAROL.id, comments=("a.md:3: why?",))).ticket
    assert read.tasks[1].state is TaskState.WAITING and "a.md:3: why?" in read.tasks[1].task.brief
    back = e.EntryReturned(ticket=landing.id, entry="x", entry_kind="series", state=EntryState.REWORK,
                           error_class=ErrorClass.POLICY, evidence=Evidence(reason="carol asks for changes"))  # fmt: skip
    again = decide(read, back).ticket
    assert again.state is TicketState.BUILDING and again.tasks[1].state is TaskState.RUNNING
    # Pushed already: it has landed, and that is said.
    landed = e.EntryLanded(ticket=landing.id, entry="x", entry_kind="series", commit=TIP, tree=ONTO)
    late = decide(read, landed)
    assert late.ticket.state is TicketState.DONE and late.ticket.tasks[1].state is TaskState.CANCELLED
    assert comments(late) == [messages.too_late(late.ticket, read.tasks[1].task)]


def test_an_objection_stands_until_its_author_approves_or_it_is_dismissed() -> None:
    objected = reviews(reviews(REVIEWING, CAROL, "changes_requested").ticket, BOB, "approved").ticket
    assert objected.state is TicketState.REVIEWING and objected.approvals
    assert reviews(objected, CAROL, "commented").ticket.state is TicketState.REVIEWING
    assert reviews(objected, BOB, "dismissed").ticket.objections, "it is another review"
    for word in ("approved", "dismissed"):
        assert reviews(objected, CAROL, word).ticket.state is TicketState.LANDING
    gone = reviews(objected, CAROL, "dismissed").ticket
    late = decide(gone, e.ReviewRead(ticket=gone.id, review=CAROL.id, comments=("x",)))
    assert len(late.ticket.tasks) == 1, "nobody asks for it any more"


def test_what_an_outsider_asks_for_is_no_work() -> None:
    eve = Person(id=9, login="eve", permission="read")
    for word in ("approved", "changes_requested", "commented"):
        decision = reviews(REVIEWING, eve, word, body="Delete it all.")
        assert (decision.ticket.approvals, decision.ticket.objections, decision.effects) == ((), (), ())


@pytest.mark.parametrize("state", [TicketState.BUILDING, TicketState.TRIALING, TicketState.STOPPED])
def test_who_approves_before_review_is_asked_for_is_asked_again(state: TicketState) -> None:
    early = reviews(REVIEWING.model_copy(update={"state": state, "trial_running": True}), BOB, "approved")
    assert not early.ticket.approvals and not comments(early)
    if state is not TicketState.STOPPED:
        asked = tried(early.ticket.model_copy(update={"state": TicketState.TRIALING}))
        assert (
            comments(asked) == [messages.look_again(asked.ticket, ["bob"])]
            and "@bob: review #5 again" in comments(asked)[0]
        )
        assert not asked.ticket.look_again


def test_who_pushed_is_not_asked_to_approve_what_they_pushed() -> None:
    three = REVIEWING.policy.model_copy(update={"approve": REVIEWING.policy.approve.model_copy(update={"reviews": 3})})
    approved = reviews(REVIEWING.model_copy(update={"policy": three}), BOB, "approved").ticket
    pushed = e.BranchPushed(ticket=approved.id, by=BOB, before=TIP, after=ONTO, forced=False)
    why = "The approval does not count any more: bob pushed to its branch."
    (alone,) = comments(tried(decide(approved, pushed).ticket))
    assert alone == f"{why}\n\nSomeone who may write here, with no part in the work: review #5 again."
    (both,) = comments(tried(decide(reviews(approved, CAROL, "approved").ticket, pushed).ticket))
    assert both == f"{why}\n\n@carol: review #5 again."
    stopped = approved.model_copy(update={"state": TicketState.STOPPED, "note": "stopped by carol"})
    assert decide(stopped, pushed).ticket.note == "stopped by carol"


def test_a_refusal_at_the_end_is_said_once_with_its_reason_to_those_who_approved() -> None:
    landing = reviews(REVIEWING, BOB, "approved").ticket
    dismissed = reviews(landing, BOB, "dismissed").ticket
    for before, named in ((landing, "@bob: review #5 again"), (dismissed, "may write here: review the pull request")):
        back = e.EntryReturned(ticket=landing.id, entry="x", entry_kind="series", state=EntryState.REWORK,
                               error_class=ErrorClass.POLICY, evidence=Evidence(reason="bob may not"))  # fmt: skip
        refused = decide(before, back)
        (said,) = comments(refused) + comments(tried(refused.ticket))
        assert "The approval does not count any more: bob may not." in said and named in said


def test_an_approval_within_seconds_of_a_push_is_asked_for_once_more() -> None:
    shown = REVIEWING.model_copy(update={"pull_request": PullRequest(number=5, head=TIP, at=T0)})
    soon = reviews(shown, BOB, "approved", at=T0 + timedelta(seconds=4))
    assert soon.ticket.state is TicketState.REVIEWING and "@bob, your approval was sent while" in comments(soon)[0]
    assert reviews(soon.ticket, BOB, "approved", at=T0 + timedelta(seconds=4)).ticket.state is TicketState.LANDING
    assert reviews(shown, BOB, "approved", at=T0 + timedelta(seconds=5)).ticket.state is TicketState.LANDING
    assert reviews(REVIEWING, BOB, "approved").ticket.state is TicketState.LANDING, "it was opened with this head"
    old = REVIEWING.model_copy(update={"pull_request": PullRequest(number=5, head=ONTO, at=T0 - timedelta(days=1))})
    assert reviews(old, BOB, "approved").ticket.state is TicketState.REVIEWING, "nobody was told of this head yet"


def test_when_a_head_is_shown_is_github_s_time_of_its_first_showing() -> None:
    opened = decide(REVIEWING, e.PullRequestOpened(ticket=REVIEWING.id, number=5, head=ONTO, at=T0)).ticket
    again = e.PullRequestOpened(ticket=REVIEWING.id, number=5, head=ONTO, at=T0 + timedelta(hours=1))
    assert decide(opened, again).ticket.pull_request == PullRequest(number=5, head=ONTO, at=T0)


def test_a_rebase_that_changes_nothing_keeps_the_approval_and_another_one_shows_what_it_changes() -> None:
    two = REVIEWING.policy.model_copy(update={"approve": REVIEWING.policy.approve.model_copy(update={"reviews": 2})})
    approved = reviews(REVIEWING.model_copy(update={"policy": two}), BOB, "approved").ticket
    assert approved.approved == (BASE, TIP)
    rebasing = tried(approved, clean=False, evidence=Evidence(reason="conflict")).ticket
    assert rebasing.rebasing and rebasing.approvals
    landed = e.EntryLanded(ticket=approved.id, entry="r", entry_kind="rebase", commit="e" * 40, tree=ONTO, onto=ONTO,
                           commits=(("o/r#1/1.1", "e" * 40),))  # fmt: skip
    trialing = decide(rebasing, landed).ticket
    assert trialing.state is TicketState.TRIALING
    kept = tried(trialing)
    assert [one.by.login for one in kept.ticket.approvals] == ["bob"] and not comments(kept)
    other = tried(trialing, digest="other", interdiff="# a.md\n-+one\n++two ```")
    assert not other.ticket.approvals and "@bob: review #5 again" in comments(other)[0]
    (pull,) = (effect for effect in other.effects if effect.kind == "open_pull_request")
    assert "-+one\n++two '''\n```" in pull.body  # type: ignore[union-attr]
    assert [effect.kind for effect in kept.effects if isinstance(effect, PostComment)] == []


def test_a_patch_that_reads_otherwise_on_today_s_base_is_rebased_before_anybody_approves_it() -> None:
    shifted = tried(REVIEWING, shifted=True)
    assert shifted.ticket.state is TicketState.BUILDING and shifted.enqueue[0].rebase is not None
    building = REVIEWING.model_copy(update={"state": TicketState.BUILDING, "tasks": (LANDED, TaskProgress(task=TASK))})
    assert not tried(building, shifted=True).enqueue, "there is more to come first"
