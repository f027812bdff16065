"""pull_request_review: submitted and dismissed, on pull requests from our own branches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

from handlers.origin import Origin, address_of_branch
from schemas.events import Addressed, ReviewSubmitted
from schemas.payloads import NEVER, Payload

_STATES = ("approved", "changes_requested", "commented", "dismissed")


def submitted(payload: Payload, origin: Origin) -> Sequence[Addressed]:
    """A review; its head is the commit that GitHub says was reviewed."""
    pull, review = payload.pull_request, payload.review
    if pull is None or review is None or review.user is None or origin.ours(review.user):
        return ()
    to = address_of_branch(payload, pull.head.ref)
    if to is None or pull.head.repo is None or pull.head.repo.id != payload.repository.id:
        return ()
    state = "dismissed" if payload.action == "dismissed" else review.state.lower()
    if state not in _STATES:
        return ()
    event = ReviewSubmitted(
        review=review.id,
        state=cast(Literal["approved", "changes_requested", "commented", "dismissed"], state),
        head=review.commit_id or pull.head.sha,
        body=review.body or "",
        by=review.user.person(),
        at=review.submitted_at or pull.updated_at or NEVER,
    )
    return (Addressed(key=f"review:{review.id}:{state}", to=to, event=event),)
