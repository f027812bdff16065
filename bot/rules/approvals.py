"""The review gate on what GitHub says now: the last word of each reviewer, and what they may do (decisions.md 4, 20)."""

from collections.abc import Mapping, Sequence

from bot.rules import gating
from schemas.base import Frozen, Permission, Person
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
    opinions = ("APPROVED", "CHANGES_REQUESTED", "DISMISSED")
    return {review.user_id: review for review in reviews if review.state in opinions}


def verdict(ticket: Ticket, reviews: Sequence[Review], permissions: Mapping[int, Permission], digest: str) -> Verdict:
    """Whether enough recorded approvals are still given, by people who may still give them, for this very digest."""
    children: list[Verdict] = []
    recorded = {approval.review: approval.digest for approval in ticket.approvals}
    for review in last_words(reviews).values():
        permission = permissions.get(review.user_id)
        by = Person(id=review.user_id, login=review.login, type=review.type, permission=permission)
        may = gating.has(by, ticket.policy.approve.by)
        if review.state == "CHANGES_REQUESTED" and may:
            return Verdict(status=Status.REFUSED, reason=f"{by.login} asks for changes", children=tuple(children))
        if review.state == "APPROVED":
            child = gating.judged(
                by,
                (recorded.get(review.id) != digest, "approved something else"),
                (not may, "may not approve any more"),
                (gating.is_excluded(ticket, by), "requested the work"),
            )
            children.append(child)
    return gating.tally(ticket, digest, children)
