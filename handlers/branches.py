"""What people do to branches: pushes, and to what GitHub shows of our own: pull requests, reviews, check runs."""

import re
from typing import Literal, cast, get_args

from handlers.origin import Origin
from schemas import events as e
from schemas.base import RepoRef
from schemas.payloads import NEVER, Payload

BRANCH = re.compile(r"interlock/([1-9][0-9]{0,9})(?:-([2-9]|[1-9][0-9]+))?\Z")
"""A branch of ours: issue and generation."""
_SUBJECT = re.compile(r"[^#@]*#([0-9]+)(?:~([0-9]+))?(?:[/@]|\Z)")
"""A check run's external id names the ticket or the task: `octo/app#12/3@<commit>`."""
_NOTHING = "0" * 40
_ReviewState = Literal["approved", "changes_requested", "commented", "dismissed"]


def closed(payload: Payload, origin: Origin) -> e.Addressed | None:
    """pull_request: closed or merged by hand; what we push ourselves closes it too and says nothing new."""
    pull, to = payload.pull_request, _ticket_of_pull(payload)
    if pull is None or to is None or origin.ours(payload.sender):
        return None
    when = pull.updated_at.isoformat() if pull.updated_at else ""
    event = e.PullRequestClosed(merged=pull.merged, by=payload.sender)
    return e.Addressed(key=f"pull_request:closed:{pull.id}:{when}", to=to, event=event)


def reviewed(payload: Payload, origin: Origin) -> e.Addressed | None:
    """pull_request_review: submitted or dismissed; its head is the commit that GitHub says was reviewed."""
    pull, review, to = payload.pull_request, payload.review, _ticket_of_pull(payload)
    if pull is None or review is None or review.user is None or to is None or origin.ours(review.user):
        return None
    state = "dismissed" if payload.action == "dismissed" else review.state.lower()
    if state not in get_args(_ReviewState):
        return None
    event = e.ReviewSubmitted(
        review=review.id, state=cast(_ReviewState, state), head=review.commit_id or pull.head_sha,
        body=review.body or "", by=review.user, at=review.submitted_at or pull.updated_at or NEVER,
    )  # fmt: skip
    return e.Addressed(key=f"review:{review.id}:{state}", to=to, event=event)


def pressed(payload: Payload, origin: Origin) -> e.Addressed | None:
    """check_run: a button of one of our own check runs was pressed."""
    run, button = payload.check_run, payload.button
    if run is None or not button or run.app != origin.app_id:
        return None
    about = run.external_id or ""
    to = _ticket(payload.repository, _SUBJECT.match(about))
    event = e.ButtonPressed(identifier=button, about=about, head=run.head_sha, by=payload.sender, at=NEVER)
    return e.Addressed(key=f"button:{run.id}:{button}:{run.head_sha}", to=to, event=event) if to else None


def pushed(payload: Payload, origin: Origin) -> e.Addressed | None:
    """push: to one of our branches, or to any other, which may be the base of open tickets; tags are nobody's business."""
    branch = payload.ref.removeprefix("refs/heads/")
    if branch == payload.ref:
        return None
    before, after = (None if sha == _NOTHING else sha for sha in (payload.before, payload.after))
    by, forced = payload.sender, payload.forced
    to = _ticket(payload.repository, BRANCH.match(branch))
    event: e.Event
    if to is not None:
        event = e.BranchPushed(before=before, after=after, forced=forced, ours=origin.ours(by), by=by)
    elif after is not None:
        event = e.BaseMoved(ref=payload.ref, head=after, forced=forced, by=by.login)
        to = e.Address(repo_id=payload.repository.id, base_ref=branch)
    else:
        return None
    return e.Addressed(key=f"push:{payload.ref}:{payload.before}:{payload.after}", to=to, event=event)


def _ticket_of_pull(payload: Payload) -> e.Address | None:
    """The ticket whose pull request this is: its head is a branch of ours in the repository itself, not in a fork."""
    pull = payload.pull_request
    if pull is None or pull.head_repo != payload.repository.id:
        return None
    return _ticket(payload.repository, BRANCH.match(pull.head_ref))


def _ticket(repo: RepoRef, found: re.Match[str] | None) -> e.Address | None:
    return e.Address(repo_id=repo.id, issue=int(found[1]), generation=int(found[2] or 1)) if found else None
