"""The review gate on what GitHub says now: the last word of each reviewer, and what they may do (decisions.md 4, 20)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bot.rules.gating import requester_counts
from schemas.base import Frozen, Permission
from schemas.gates import Status, Verdict
from schemas.ticket import Ticket


class Review(Frozen):
    """A review as GitHub lists it: state APPROVED, CHANGES_REQUESTED, COMMENTED, DISMISSED or PENDING."""

    id: int
    user_id: int
    login: str
    type: str
    state: str


def last_words(reviews: Sequence[Review]) -> dict[int, Review]:
    """Each person's newest opinion; a comment does not undo an earlier one."""
    found: dict[int, Review] = {}
    for review in reviews:
        if review.state in ("APPROVED", "CHANGES_REQUESTED", "DISMISSED"):
            found[review.user_id] = review
    return found


def verdict(ticket: Ticket, reviews: Sequence[Review], permissions: Mapping[int, Permission], digest: str) -> Verdict:
    """Whether enough recorded approvals are still given, by people who may still give them, for this very digest."""
    needed = ticket.policy.approve.reviews
    allowed = ("admin",) if ticket.policy.approve.by == "admin" else ("admin", "write")
    children: list[Verdict] = []
    recorded = {approval.review: approval for approval in ticket.approvals}
    for review in last_words(reviews).values():
        may = permissions.get(review.user_id, "none") in allowed and review.type == "User"
        if review.state == "CHANGES_REQUESTED" and may:
            reason = f"{review.login} asks for changes"
            return Verdict(status=Status.REFUSED, reason=reason, children=(*children,))
        if review.state != "APPROVED":
            continue
        approval = recorded.get(review.id)
        if approval is None or approval.digest != digest:
            children.append(Verdict(status=Status.REFUSED, reason=f"{review.login} approved something else"))
        elif not may:
            children.append(Verdict(status=Status.REFUSED, reason=f"{review.login} may not approve any more"))
        elif review.user_id == ticket.requester.id and not requester_counts(ticket):
            children.append(Verdict(status=Status.REFUSED, reason=f"{review.login} requested the work"))
        else:
            children.append(Verdict(status=Status.PASSED, reason=f"{review.login} approves"))
    passed = sum(child.status is Status.PASSED for child in children)
    status = Status.PASSED if passed >= needed else Status.PENDING
    return Verdict(status=status, reason=f"{passed} of {needed} approving reviews", children=tuple(children))
