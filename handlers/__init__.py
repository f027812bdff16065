"""Webhook deliveries to events, and nothing more. Pure; who may do what is asked by whoever calls this.

What people do to issues (labels, the end of an issue, new comments), to branches (pushes), and to what GitHub shows
of our own (pull requests, reviews, check runs).
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast, get_args

from schemas import events as e
from schemas.base import Frozen, Person, RepoRef
from schemas.payloads import NEVER, Payload

BRANCH = re.compile(r"interlock/([1-9][0-9]{0,9})(?:-([2-9]|[1-9][0-9]+))?\Z")
"""A branch of ours: issue and generation."""
_SUBJECT = re.compile(r"[^#@]*#([0-9]+)(?:~([0-9]+))?(?:[/@]|\Z)")
"""A check run's external id names the ticket or the task: `octo/app#12/3@<commit>`."""
_NOTHING = "0" * 40
_ReviewState = Literal["approved", "changes_requested", "commented", "dismissed"]


class Origin(Frozen):
    """Which App we are, to tell our own acts from other people's."""

    slug: str
    app_id: int

    def ours(self, who: Person) -> bool:
        """Whether our own bot user did it: type and name, so that other bots are other bots."""
        return who.type == "Bot" and who.login == f"{self.slug}[bot]"


def changed(payload: Payload, origin: Origin) -> e.Addressed | None:
    """issues: labelled, unlabelled, or gone (closed, deleted, transferred), by somebody else than us."""
    issue, by, label = payload.issue, payload.sender, payload.label
    if issue is None or issue.pull_request is not None or origin.ours(by):
        return None
    if payload.action.endswith("labeled") and not label:
        return None
    if payload.action == "labeled":
        event: e.Event = e.IssueLabelled(
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
    if to is not None:
        event: e.Event = e.BranchPushed(before=before, after=after, forced=forced, ours=origin.ours(by), by=by)
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


ROUTES: dict[str, tuple[Callable[[Payload, Origin], e.Addressed | None], frozenset[str]]] = {
    "issues": (changed, frozenset({"labeled", "unlabeled", "closed", "deleted", "transferred"})),
    "issue_comment": (commented, frozenset({"created"})),
    "pull_request": (closed, frozenset({"closed"})),
    "pull_request_review": (reviewed, frozenset({"submitted", "dismissed"})),
    "check_run": (pressed, frozenset({"requested_action"})),
    "push": (pushed, frozenset({""})),
}
"""For each event its handler and the actions that it is for."""


def concerns(event: str, action: str) -> bool:
    """Whether a delivery of this kind may mean anything to us."""
    return action in ROUTES.get(event, (None, frozenset()))[1]


def translate(event: str, payload: dict[str, Any], *, slug: str, app_id: int) -> Sequence[e.Addressed]:
    """The events of one delivery; none for what we do not know. Raises ValueError for a body that does not fit."""
    handler, actions = ROUTES.get(event, (None, frozenset()))
    if handler is None or str(payload.get("action") or "") not in actions:
        return ()
    read = Payload.model_validate(payload, extra="ignore")
    found = handler(read, Origin(slug=slug, app_id=app_id))
    where = {"repo": read.repository, "installation": read.installation}
    return (found.model_copy(update=where),) if found else ()
