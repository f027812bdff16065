"""Decisions on what happens around a ticket, in every state that it may be in."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, get_args

import pytest

from bot.pipeline import stages
from schemas import events as e
from schemas.acts import How
from schemas.base import Evidence, RepoRef
from schemas.decision import Decision
from schemas.effects import ReadRepository, UpdateStatus
from schemas.lane import EntryState, ErrorClass
from schemas.plan import Question
from schemas.policy import Policy
from schemas.ticket import Approval, PullRequest, RunState, TaskProgress, TaskState, Ticket, TicketState
from tests.pipeline.test_stages import BASE, ONTO, SCOPE, T0, TASK, TICKET, TIP, WRITER, comments, decide, says, ticket


def changed(how: str, **more: object) -> e.PlaceChanged:
    return e.PlaceChanged.model_validate({"ticket": TICKET.id, "how": how, "by": WRITER, **more})


LANDED = TaskProgress(task=TASK, state=TaskState.LANDED, run=RunState.SUCCEEDED, attempt=1, change="o/r#1/1.1")
APPROVED: dict[str, Any] = {
    "scope": SCOPE, "tip": TIP, "digest": "d", "pull_request": PullRequest(number=2, head=TIP),
    "approvals": (Approval(by=WRITER.model_copy(update={"id": 2}), review=1, digest="d", head=TIP, at=T0),),
}  # fmt: skip


def landing() -> Ticket:
    return ticket(TicketState.LANDING, LANDED, **APPROVED)


@pytest.mark.parametrize("how", get_args(How))
@pytest.mark.parametrize("state", [state for state in TicketState if ticket(state).open])
def test_whatever_happens_around_a_ticket_has_an_outcome_in_every_state(how: str, state: TicketState) -> None:
    resume = TicketState.TRIALING if state is TicketState.STOPPED else None
    before = ticket(state, LANDED, **APPROVED, resume=resume)
    after = decide(before, changed(how, old="main", repo=RepoRef(id=1, full_name="p/r"), installation=9))
    over = how in ("deleted", "uninstalled")
    assert after.ticket.open is not over and after.why
    if how in ("archived", "removed", *(("deleted", "uninstalled"))) and state is not TicketState.STOPPED:
        assert after.withdraw == ("*",) and "cancel_runs" in [effect.kind for effect in after.effects]
        assert not comments(after)  # nobody could read them
    if how in ("renamed", "transferred", "added"):
        assert (after.ticket.repo.full_name, after.ticket.installation, after.ticket.id) == ("p/r", 9, "o/r#1")
        assert all(effect.repo.full_name == "p/r" for effect in after.effects)
    assert after.again is (
        how in ("unlocked", "permissions", "renamed", "transferred", "added", "unarchived", "unsuspended")
    )


def test_what_is_on_hold_leaves_the_queue_and_lands_once_it_is_released() -> None:
    held = decide(landing(), changed("suspended"))
    assert (held.ticket.state, held.withdraw) == (TicketState.TRIALING, ("*",)) and held.ticket.approvals
    assert "trial_compose" not in [effect.kind for effect in held.effects]
    freed = decide(held.ticket, changed("unsuspended"))
    assert [effect.kind for effect in freed.effects].count("read_repository") == 1 and freed.ticket.on_hold
    paused = Policy(pause="not today")
    read = {"ticket": TICKET.id, "base_ref": "main", "base": BASE}
    still = decide(freed.ticket, e.RepositoryRead.model_validate({**read, "policy": paused}))
    assert still.ticket.on_hold and "trial_compose" not in [effect.kind for effect in still.effects]
    goes = decide(
        still.ticket.model_copy(update={"rereading": True}),
        e.RepositoryRead.model_validate({**read, "policy": Policy()}),
    )
    assert "trial_compose" in [effect.kind for effect in goes.effects]
    clean = e.TrialComposed(ticket=TICKET.id, trial=goes.ticket.trial, tip=TIP, onto=ONTO, digest="d", clean=True)
    lands = decide(goes.ticket, clean)
    assert lands.ticket.state is TicketState.LANDING and len(lands.enqueue) == 1
    found = e.EntryLanded(ticket=TICKET.id, entry="x", entry_kind="series", commit=ONTO, tree=ONTO)
    assert decide(held.ticket, found).ticket.state is TicketState.DONE  # it was landing when it was called back


def test_the_policy_is_read_again_only_when_a_push_may_have_changed_it() -> None:
    moved = {"ticket": TICKET.id, "ref": "refs/heads/main", "head": ONTO}
    plain = decide(landing(), e.BaseMoved.model_validate(moved))
    assert plain.ticket.state is TicketState.LANDING and not plain.effects
    touched = decide(landing(), e.BaseMoved.model_validate({**moved, "policy": True}))
    assert touched.ticket.on_hold and touched.withdraw == ("*",) and touched.ticket.approvals
    assert [(effect.kind, effect.base_ref) for effect in touched.effects if isinstance(effect, ReadRepository)] == [
        ("read_repository", "main")
    ]
    gone = decide(touched.ticket, e.RepositoryRefused(ticket=TICKET.id, reason="it is gone"))
    assert gone.ticket.state is TicketState.STOPPED and not gone.ticket.on_hold and "it is gone" in comments(gone)[0]


def test_a_closed_pull_request_lands_nothing_and_only_a_writer_opens_it_again() -> None:
    closed = decide(landing(), e.PullRequestClosed(ticket=TICKET.id, merged=False, by=WRITER))
    assert closed.ticket.state is TicketState.STOPPED and closed.withdraw == ("*",)
    reader = WRITER.model_copy(update={"permission": "read"})
    assert decide(closed.ticket, e.PullRequestReopened(ticket=TICKET.id, by=reader)).ticket.state is TicketState.STOPPED
    opened = decide(closed.ticket, e.PullRequestReopened(ticket=TICKET.id, by=WRITER))
    assert opened.ticket.state is TicketState.TRIALING
    stopped = says(landing(), "stop").ticket  # for another reason
    assert decide(stopped, e.PullRequestReopened(ticket=TICKET.id, by=WRITER)).ticket.state is TicketState.STOPPED


def test_what_github_s_queue_merged_is_done_only_when_the_lane_has_seen_it() -> None:
    bot = WRITER.model_copy(update={"login": "queue[bot]", "permission": "none"})
    merged = e.PullRequestClosed(ticket=TICKET.id, merged=True, by=bot)
    queued = decide(landing(), e.LaneStopped(ticket=TICKET.id, lane="l", why="In the queue.", way="merge_queue")).ticket
    stopped = says(queued, "stop").ticket  # it may be merged before it is taken out
    landed = e.EntryLanded(ticket=TICKET.id, entry="x", entry_kind="series", commit=ONTO, tree=ONTO, way="merge_queue")
    for before in (queued, stopped):
        heard = decide(before, merged)
        assert heard.ticket.state is before.state and not heard.withdraw
        done = decide(heard.ticket, landed)
        assert done.ticket.state is TicketState.DONE and done.ticket.landed == (ONTO,)
        assert "close_issue" in [effect.kind for effect in done.effects]
    refused = e.LaneStopped(ticket=TICKET.id, lane="l", why="It is not taken.", ask=True)
    back = e.EntryReturned(ticket=TICKET.id, entry="x", entry_kind="series", state=EntryState.REWORK,
                           error_class=ErrorClass.POLICY, evidence=Evidence(reason="taken out"))  # fmt: skip
    for before in (
        landing(),
        decide(queued, refused).ticket,
        decide(queued, back).ticket,
        decide(stopped, back).ticket,
    ):
        by_hand = decide(before, merged).ticket
        assert by_hand.state is TicketState.DONE and by_hand.note == "merged by queue[bot] on GitHub"


def test_silence_is_told_once_and_news_end_it() -> None:
    first = decide(ticket(TicketState.CLARIFYING, agent_running=True), changed("locked")).ticket
    assert first.since == T0 and first.next_wake == T0 + timedelta(minutes=5)
    early = stages.decide(first, e.Ticked(ticket=first.id, at=T0), T0 + timedelta(minutes=4))
    assert isinstance(early, Decision) and not early.ticket.silent and early.ticket.next_wake == first.next_wake
    late = stages.decide(early.ticket, e.Ticked(ticket=first.id, at=T0), T0 + timedelta(minutes=5))
    assert isinstance(late, Decision) and late.ticket.silent and late.ticket.next_wake is None
    (status,) = [effect.body for effect in late.effects if isinstance(effect, UpdateStatus)]
    assert "Nothing new since 2026-01-01 00:00 UTC: waits for the Engineer." in status
    later = T0 + timedelta(minutes=9)
    scoped = stages.decide(late.ticket, e.ScopeSubmitted(ticket=first.id, scope=SCOPE), later)
    assert isinstance(scoped, Decision) and not scoped.ticket.silent and scoped.ticket.since == later
    asking = ticket(TicketState.ASKING, questions=(Question(number=1, text="q"),), since=T0)
    assert asking.speaks_at is None  # a person's turn


def test_a_trial_that_gives_up_late_stops_nothing() -> None:
    trying = ticket(TicketState.TRIALING, LANDED, **APPROVED, trial=2, trial_running=True)
    given = {"ticket": TICKET.id, "effect_kind": "trial_compose", "reason": "no such branch"}
    old = decide(trying, e.EffectGaveUp.model_validate({**given, "effect": "o/r#1:trial:1"}))
    assert old.ticket.state is TicketState.TRIALING
    new = decide(trying, e.EffectGaveUp.model_validate({**given, "effect": "o/r#1:trial:2"}))
    assert new.ticket.state is TicketState.STOPPED
