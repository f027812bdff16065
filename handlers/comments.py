"""issue_comment: only new comments on issues count; an edit never does."""

from __future__ import annotations

from collections.abc import Sequence

from handlers.origin import Origin
from schemas.events import Address, Addressed, CommentAdded
from schemas.payloads import Payload


def created(payload: Payload, origin: Origin) -> Sequence[Addressed]:
    """Somebody else's new comment."""
    comment, issue = payload.comment, payload.issue
    if comment is None or issue is None or issue.pull_request is not None or origin.ours(comment.user):
        return ()
    event = CommentAdded(comment=comment.id, body=comment.body or "", by=comment.user.person(), at=comment.created_at)
    to = Address(repo_id=payload.repository.id, issue=issue.number)
    return (Addressed(key=f"issue_comment:{comment.id}", to=to, event=event),)
