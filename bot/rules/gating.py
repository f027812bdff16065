"""The review gate, on what the ticket has recorded. The queue asks GitHub again before it lands (bot.rules.approvals)."""

from __future__ import annotations

from schemas.base import Person
from schemas.gates import Status, Verdict
from schemas.ticket import Approval, Ticket


def recorded(ticket: Ticket) -> Verdict:
    """Whether enough approvals cover the tip's digest, with each approval's own verdict as a reason."""
    children = tuple(_one(ticket, approval) for approval in ticket.approvals)
    passed = sum(child.status is Status.PASSED for child in children)
    needed = ticket.policy.approve.reviews
    status = Status.PASSED if passed >= needed and ticket.digest else Status.PENDING
    return Verdict(status=status, reason=f"{passed} of {needed} approving reviews", children=children)


def requester_counts(ticket: Ticket) -> bool:
    """Whether the requester may approve: by policy, or while the repository has one writer (decisions.md 20)."""
    by_requester = ticket.policy.approve.by_requester
    return ticket.single_writer if by_requester is None else by_requester


def _one(ticket: Ticket, approval: Approval) -> Verdict:
    who = approval.by.login
    if approval.digest != ticket.digest:
        return Verdict(status=Status.REFUSED, reason=f"{who} approved an earlier version")
    if not approval.by.writes:
        return Verdict(status=Status.REFUSED, reason=f"{who} may not write to the repository")
    if ticket.policy.approve.by == "admin" and approval.by.permission != "admin":
        return Verdict(status=Status.REFUSED, reason=f"{who} is not an admin, which the policy asks for")
    if approval.by.id == ticket.requester.id and not requester_counts(ticket):
        return Verdict(status=Status.REFUSED, reason=f"{who} requested the work, so another writer must approve")
    return Verdict(status=Status.PASSED, reason=f"approved by {who}")


def may_steer(ticket: Ticket, person: Person) -> bool:
    """Whether somebody may label, answer and give commands here: a writer, or an admin where the policy says so."""
    return person.writes and (ticket.policy.trigger != "admin" or person.permission == "admin")
