"""The gate itself: whose approvals of what are enough, when they are recorded and again when it lands."""

from __future__ import annotations

import pytest

from bot.rules import gating
from bot.rules.gating import Review
from schemas.base import Permission, Person
from schemas.gates import Status
from schemas.policy import Approve, Policy, WhoMay
from schemas.ticket import Approval, Objection, Ticket
from tests.pipeline.test_stages import T0, TICKET, TIP, WRITER

BOB, CAROL = Person(id=2, login="bob", permission="write"), Person(id=3, login="carol", permission="admin")
DIGEST, OTHER = "d" * 64, "e" * 64


def approval(by: Person, digest: str = DIGEST, review: int = 0) -> Approval:
    return Approval(by=by, review=review or by.id, digest=digest, head=TIP, at=T0)


def ticket(*approvals: Approval, reviews: int = 1, by: WhoMay = "write", **fields: object) -> Ticket:
    policy = Policy(approve=Approve(reviews=reviews, by=by, by_requester=fields.pop("by_requester", None)))
    return TICKET.model_copy(update={"digest": DIGEST, "approvals": approvals, "policy": policy, **fields})


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (ticket(approval(BOB)), ""),
        (ticket(approval(BOB, OTHER)), "bob approved an earlier version"),
        (ticket(approval(BOB.model_copy(update={"permission": "read"}))), "bob may not write"),
        (ticket(approval(BOB.model_copy(update={"type": "Bot"}))), "bob may not write"),
        (ticket(approval(BOB), by="admin"), "bob is not an admin"),
        (ticket(approval(WRITER)), "ada has a part in the work"),
        (ticket(approval(WRITER), single_writer=True), ""),
        (ticket(approval(WRITER), by_requester=True), ""),
        (ticket(approval(WRITER), by_requester=False, single_writer=True), "ada has a part in the work"),
        (ticket(approval(BOB), pushed_by=(BOB.id,)), "bob has a part in the work"),
        (ticket(approval(BOB), approval(CAROL), reviews=2), ""),
        (ticket(approval(BOB), reviews=2), "1 of 2"),
        (ticket(approval(BOB), objections=(Objection(by=CAROL, review=9),)), "carol asks for changes"),
        (ticket(approval(BOB), digest=""), "bob approved an earlier version"),
        (ticket(approval(BOB, ""), digest=""), "1 of 1"),
    ],
)  # fmt: skip
def test_what_is_recorded(found: Ticket, why: str) -> None:
    verdict = gating.recorded(found)
    assert (verdict.status is Status.PASSED) is (not why)
    assert any(why in reason for reason in (verdict.reason, *(child.reason for child in verdict.children)))


Said = tuple[Person, str, Permission, int]


@pytest.mark.parametrize(
    ("said", "passes"),
    [
        ([(BOB, "APPROVED", "write", 2)], True),
        ([(BOB, "APPROVED", "read", 2)], False),  # not any more
        ([(BOB, "APPROVED", "none", 2)], False),  # gone
        ([(BOB, "APPROVED", "write", 77)], False),  # a review of something else
        ([(BOB, "DISMISSED", "write", 2)], False),
        ([(BOB, "COMMENTED", "write", 2)], False),
        ([(BOB, "APPROVED", "write", 2), (BOB, "COMMENTED", "write", 5)], True),
        ([(BOB, "APPROVED", "write", 2), (BOB, "CHANGES_REQUESTED", "write", 5)], False),
        ([(BOB, "APPROVED", "write", 2), (BOB, "DISMISSED", "write", 5)], False),
        ([(BOB, "CHANGES_REQUESTED", "write", 1), (BOB, "APPROVED", "write", 2)], True),
        ([(BOB, "APPROVED", "write", 2), (CAROL, "CHANGES_REQUESTED", "admin", 5)], False),
        ([(BOB, "APPROVED", "write", 2), (CAROL, "CHANGES_REQUESTED", "read", 5)], True),  # whose word does not count
        ([(BOB.model_copy(update={"type": "Bot"}), "APPROVED", "write", 2)], False),
        ([(WRITER, "APPROVED", "write", 1)], False),  # asked for it
        ([], False),
    ],
)  # fmt: skip
def test_what_github_says_when_it_lands(said: list[Said], passes: bool) -> None:
    found = ticket(approval(BOB), approval(WRITER))
    words = [Review(id=number, by=by, state=state) for by, state, _, number in said]
    may = {by.id: permission for by, _, permission, _ in said}
    asked = [(review, may[review.by.id]) for review in gating.last_words(words)]
    assert (gating.confirmed(found, asked, DIGEST).status is Status.PASSED) is passes
    assert gating.confirmed(found, asked, OTHER).status is not Status.PASSED
