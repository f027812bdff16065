"""issues: labelled, unlabelled, closed, deleted, transferred."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

from handlers.origin import Origin
from schemas.events import Address, Addressed, IssueClosed, IssueLabelled, IssueUnlabelled
from schemas.payloads import Payload


def labelled(payload: Payload, origin: Origin) -> Sequence[Addressed]:
    """A label was put on an issue (pull requests are issues too, and are left alone)."""
    issue, label = payload.issue, payload.label
    if issue is None or label is None or issue.pull_request is not None or origin.ours(payload.sender):
        return ()
    event = IssueLabelled(
        repo=payload.repository.ref(),
        installation=payload.installation.id,
        issue=issue.number,
        label=label.name,
        title=issue.title,
        body=issue.body or "",
        author=issue.user.person(),
        by=payload.sender.person(),
        at=issue.updated_at,
    )
    key = f"issues:labeled:{issue.id}:{label.name}:{issue.updated_at.isoformat()}"
    return (Addressed(key=key, to=_to(payload), event=event),)


def unlabelled(payload: Payload, origin: Origin) -> Sequence[Addressed]:
    """A label was taken off."""
    issue, label = payload.issue, payload.label
    if issue is None or label is None or origin.ours(payload.sender):
        return ()
    key = f"issues:unlabeled:{issue.id}:{label.name}:{issue.updated_at.isoformat()}"
    return (Addressed(key=key, to=_to(payload), event=IssueUnlabelled(label=label.name, by=payload.sender.person())),)


def closed(payload: Payload, origin: Origin) -> Sequence[Addressed]:
    """The issue is gone, by somebody else than us."""
    issue = payload.issue
    if issue is None or issue.pull_request is not None or origin.ours(payload.sender):
        return ()
    how = cast(Literal["closed", "deleted", "transferred"], payload.action)
    key = f"issues:{payload.action}:{issue.id}:{issue.updated_at.isoformat()}"
    return (Addressed(key=key, to=_to(payload), event=IssueClosed(how=how, by=payload.sender.person())),)


def _to(payload: Payload) -> Address:
    assert payload.issue is not None
    return Address(repo_id=payload.repository.id, issue=payload.issue.number)
