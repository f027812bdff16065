"""What people do to issues: labels, the end of an issue, new comments. Pull requests are issues too: left alone here."""

from typing import Literal, cast

from handlers.origin import Origin
from schemas import events as e
from schemas.payloads import Payload


def changed(payload: Payload, origin: Origin) -> e.Addressed | None:
    """issues: labelled, unlabelled, or gone (closed, deleted, transferred), by somebody else than us."""
    issue, by, label = payload.issue, payload.sender, payload.label
    if issue is None or issue.pull_request is not None or origin.ours(by):
        return None
    if payload.action.endswith("labeled") and not label:
        return None
    event: e.Event
    if payload.action == "labeled":
        event = e.IssueLabelled(
            repo=payload.repository, installation=payload.installation, issue=issue.number, label=label,
            title=issue.title, body=issue.body or "", author=issue.user, by=by, at=issue.updated_at,
        )  # fmt: skip
    elif payload.action == "unlabeled":
        event = e.IssueUnlabelled(label=label, by=by)
    else:
        event = e.IssueClosed(how=cast(Literal["closed", "deleted", "transferred"], payload.action), by=by)
    what = f"{payload.action}:{issue.id}:{label}" if label else f"{payload.action}:{issue.id}"
    to = e.Address(repo_id=payload.repository.id, issue=issue.number)
    return e.Addressed(key=f"issues:{what}:{issue.updated_at.isoformat()}", to=to, event=event)


def commented(payload: Payload, origin: Origin) -> e.Addressed | None:
    """issue_comment: somebody else's new comment on an issue; an edit never counts."""
    comment, issue = payload.comment, payload.issue
    if comment is None or issue is None or issue.pull_request is not None or origin.ours(comment.user):
        return None
    event = e.CommentAdded(comment=comment.id, body=comment.body or "", by=comment.user, at=comment.created_at)
    to = e.Address(repo_id=payload.repository.id, issue=issue.number)
    return e.Addressed(key=f"issue_comment:{comment.id}", to=to, event=event)
