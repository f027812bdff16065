"""pull_request: closed, by somebody else than us."""

from __future__ import annotations

from collections.abc import Sequence

from handlers.origin import Origin, address_of_branch
from schemas.events import Addressed, PullRequestClosed
from schemas.payloads import Payload


def closed(payload: Payload, origin: Origin) -> Sequence[Addressed]:
    """Closed or merged by hand; what we push ourselves closes it too and says nothing new."""
    pull = payload.pull_request
    if pull is None or origin.ours(payload.sender):
        return ()
    to = address_of_branch(payload, pull.head.ref)
    if to is None or pull.head.repo is None or pull.head.repo.id != payload.repository.id:
        return ()
    when = pull.updated_at.isoformat() if pull.updated_at else ""
    event = PullRequestClosed(merged=pull.merged, by=payload.sender.person())
    return (Addressed(key=f"pull_request:closed:{pull.id}:{when}", to=to, event=event),)
