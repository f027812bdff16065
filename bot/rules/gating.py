"""The review gate: on what the ticket has recorded, and again on what GitHub says before it lands (decisions.md 4, 20)."""

from collections.abc import Iterable, Sequence

from bot.rules.reasons import first
from schemas.base import Frozen, Permission, Person
from schemas.gates import Status, Verdict
from schemas.policy import WhoMay
from schemas.ticket import Ticket


class Review(Frozen):
    """A review as GitHub lists it: state APPROVED, CHANGES_REQUESTED, COMMENTED, DISMISSED or PENDING."""

    id: int
    by: Person
    state: str


def recorded(ticket: Ticket) -> Verdict:
    """Whether enough approvals cover the tip's digest and nobody asks for changes, with each verdict as a reason."""
    for objection in ticket.objections:
        return Verdict(status=Status.REFUSED, reason=f"{objection.by.login} asks for changes")
    children = [
        _judged(
            approval.by,
            (approval.digest != ticket.digest, "approved an earlier version"),
            (not approval.by.writes, "may not write to the repository"),
            (not has(approval.by, ticket.policy.approve.by), "is not an admin, which the policy asks for"),
            (is_excluded(ticket, approval.by), "has a part in the work, so another writer must approve"),
        )
        for approval in ticket.approvals
    ]
    return _tally(ticket, ticket.digest, children)


def last_words(reviews: Iterable[Review]) -> Iterable[Review]:
    """Each person's newest opinion; a comment does not undo an earlier one."""
    opinions = ("APPROVED", "CHANGES_REQUESTED", "DISMISSED")
    return {review.by.id: review for review in reviews if review.state in opinions}.values()


def confirmed(ticket: Ticket, asked: Iterable[tuple[Review, Permission]], digest: str) -> Verdict:
    """Whether enough recorded approvals are still given, by people who may still give them, for this very digest.

    `asked` are the last words, each with what its author may do now.
    """
    children: list[Verdict] = []
    recorded_for = {approval.review: approval.digest for approval in ticket.approvals}
    for review, permission in asked:
        by = review.by.model_copy(update={"permission": permission})
        may = has(by, ticket.policy.approve.by)
        if review.state == "CHANGES_REQUESTED" and may:
            return Verdict(status=Status.REFUSED, reason=f"{by.login} asks for changes", children=tuple(children))
        if review.state == "APPROVED":
            child = _judged(
                by,
                (recorded_for.get(review.id) != digest, "approved something else"),
                (not may, "may not approve any more"),
                (is_excluded(ticket, by), "has a part in the work"),
            )
            children.append(child)
    return _tally(ticket, digest, children)


def _judged(by: Person, *rules: tuple[bool, str]) -> Verdict:
    """One approval, refused for the first rule that it breaks."""
    broken = first(*rules)
    if broken:
        return Verdict(status=Status.REFUSED, reason=f"{by.login} {broken}")
    return Verdict(status=Status.PASSED, reason=f"approved by {by.login}")


def _tally(ticket: Ticket, digest: str, children: Sequence[Verdict]) -> Verdict:
    """Whether enough approvals of this digest pass."""
    passed = sum(child.status is Status.PASSED for child in children)
    needed = ticket.policy.approve.reviews
    status = Status.PASSED if passed >= needed and digest else Status.PENDING
    return Verdict(status=status, reason=f"{passed} of {needed} approving reviews", children=tuple(children))


def is_excluded(ticket: Ticket, by: Person) -> bool:
    """Whether this is the requester, or somebody who pushed to the branch, whose approval does not count.

    It counts by policy, or else while the repository has one writer (decisions.md 20).
    """
    counts = ticket.policy.approve.by_requester
    part = by.id in (ticket.requester.id, *ticket.pushed_by)
    return part and not (ticket.single_writer if counts is None else counts)


def has(person: Person, permission: WhoMay) -> bool:
    """Whether this is a person (no bot) with that permission at least."""
    return person.writes and (permission != "admin" or person.permission == "admin")


def may_steer(ticket: Ticket, person: Person) -> bool:
    """Whether somebody may label, answer and give commands here: a writer, or an admin where the policy says so."""
    return has(person, ticket.policy.trigger)
