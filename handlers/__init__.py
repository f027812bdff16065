"""Webhook deliveries to events, and nothing more. Pure; who may do what is asked by whoever calls this.

What people do to issues (labels, the end of an issue, new comments), to branches (pushes), and to what GitHub shows
of our own (pull requests, reviews, check runs); repositories and installations are in handlers.places.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast, get_args

from handlers import places
from schemas import events as e
from schemas.base import Frozen, Person, RepoRef
from schemas.payloads import NEVER, InstallationPayload, Payload
from schemas.policy import POLICY_PATH

BRANCH = re.compile(r"interlock/([1-9][0-9]{0,9})(?:-([2-9]|[1-9][0-9]+))?\Z")
"""A branch of ours: issue and generation."""
_SUBJECT = re.compile(r"[^#@]*#([0-9]+)(?:~([0-9]+))?(?:[/@]|\Z)")
"""A check run's external id names the ticket or the task: `octo/app#12/3@<commit>`."""
_NOTHING = "0" * 40
LISTED = 2048
"""How many of a push's commits its body lists at most."""
_ReviewState = Literal["approved", "changes_requested", "commented", "dismissed"]


class Origin(Frozen):
    """Which App we are, to tell our own acts from other people's."""

    slug: str
    app_id: int

    def ours(self, who: Person) -> bool:
        """Whether our own bot user did it: type and name, so that other bots are other bots."""
        return who.type == "Bot" and who.login == f"{self.slug}[bot]"


def changed(payload: Payload, origin: Origin) -> e.Addressed | None:
    """issues: labelled, unlabelled, edited, or gone (closed, deleted, transferred), by somebody else than us."""
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
    elif payload.action == "edited":
        if payload.changes.keys().isdisjoint(("title", "body")):
            return None
        event = e.IssueEdited(by=by)
    else:
        event = e.IssueClosed(how=cast(Literal["closed", "deleted", "transferred"], payload.action), by=by)
    what = f"{payload.action}:{issue.id}:{label}:{by.id}" if label else f"{payload.action}:{issue.id}"
    to = e.Address(repo_id=payload.repository.id, issue=issue.number)
    return e.Addressed(key=f"issues:{what}:{issue.updated_at.isoformat()}", to=to, event=event)


def commented(payload: Payload, origin: Origin) -> e.Addressed | None:
    """issue_comment: somebody else's new comment on an issue; an edit never counts."""
    comment, issue = payload.comment, payload.issue
    if comment is None or issue is None or issue.pull_request is not None or origin.ours(comment.user):
        return None
    body = comment.body or ""
    event = e.CommentAdded(
        comment=comment.id, body=body, by=comment.user, at=comment.created_at, late=body[:10].lower() == "/interlock",
    )  # fmt: skip
    to = e.Address(repo_id=payload.repository.id, issue=issue.number)
    return e.Addressed(key=f"issue_comment:{comment.id}", to=to, event=event)


def closed(payload: Payload, origin: Origin) -> e.Addressed | None:
    """pull_request: closed, merged or opened again by hand; what we push ourselves closes it too and says nothing new."""
    pull, to = payload.pull_request, _ticket_of_pull(payload)
    if pull is None or to is None or origin.ours(payload.sender):
        return None
    when = pull.updated_at.isoformat() if pull.updated_at else ""
    event: e.Event = e.PullRequestClosed(merged=pull.merged, by=payload.sender)
    if payload.action == "reopened":
        event = e.PullRequestReopened(by=payload.sender)
    return e.Addressed(key=f"pull_request:{payload.action}:{pull.id}:{when}", to=to, event=event)


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
    """check_run: a button of one of our own check runs was pressed, or the run is asked for anew."""
    run, button = payload.check_run, payload.button
    if run is None or run.app != origin.app_id:
        return None
    about = run.external_id or ""
    to = _ticket(payload.repository, _SUBJECT.match(about))
    what = f"{run.id}:{run.head_sha}:{run.completed_at}"  # it completes anew before it can be pressed for something new
    if to is None:
        return None
    if payload.action == "rerequested":
        return e.Addressed(key=f"rerequested:{what}", to=to, event=e.CheckRerequested(head=run.head_sha))
    if not button:
        return None
    event = e.ButtonPressed(identifier=button, about=about, head=run.head_sha, by=payload.sender, at=NEVER)
    # Nothing in the body tells a second press from the first: only the delivery does, which is the same when it is repeated.
    return e.Addressed(key="", to=to, event=event)


def suite_rerequested(payload: Payload, origin: Origin) -> e.Addressed | None:
    """check_suite: all our check runs on a commit of a ticket's branch are asked for anew."""
    suite = payload.check_suite
    if suite is None or suite.app != origin.app_id:
        return None
    to = _ticket(payload.repository, BRANCH.match(suite.head_branch or ""))
    key = f"suite:{suite.id}:{suite.updated_at}"
    return e.Addressed(key=key, to=to, event=e.CheckRerequested(head=suite.head_sha)) if to else None


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
        event = e.BaseMoved(ref=payload.ref, head=after, forced=forced, by=by.login, policy=_touches_policy(payload))
        to = e.Address(repo_id=payload.repository.id, base_ref=branch)
    else:
        event = e.PlaceChanged(how="base_deleted", by=by)
        to = e.Address(repo_id=payload.repository.id, base_ref=branch)
    # A branch may be moved away and back: of two equal pushes to one of ours only the delivery says that they are two.
    key = "" if to.issue is not None else f"push:{payload.ref}:{payload.before}:{payload.after}"
    return e.Addressed(key=key, to=to, event=event)


def _touches_policy(payload: Payload) -> bool:
    """Whether the push may have changed the policy: by a commit of it, or by ones that its body does not list."""
    named = (path for commit in payload.commits for path in (*commit.added, *commit.modified, *commit.removed))
    return payload.forced or not 0 < len(payload.commits) < LISTED or POLICY_PATH in named


def _ticket_of_pull(payload: Payload) -> e.Address | None:
    """The ticket whose pull request this is: its head is a branch of ours in the repository itself, not in a fork."""
    pull = payload.pull_request
    if pull is None or pull.head_repo != payload.repository.id:
        return None
    return _ticket(payload.repository, BRANCH.match(pull.head_ref))


def _ticket(repo: RepoRef, found: re.Match[str] | None) -> e.Address | None:
    return e.Address(repo_id=repo.id, issue=int(found[1]), generation=int(found[2] or 1)) if found else None


ROUTES: dict[str, tuple[Callable[[Payload, Origin], e.Addressed | None], frozenset[str]]] = {
    "issues": (changed, frozenset({"labeled", "unlabeled", "edited", "closed", "deleted", "transferred"})),
    "issue_comment": (commented, frozenset({"created"})),
    "pull_request": (closed, frozenset({"closed", "reopened"})),
    "pull_request_review": (reviewed, frozenset({"submitted", "dismissed"})),
    "check_run": (pressed, frozenset({"requested_action", "rerequested"})),
    "check_suite": (suite_rerequested, frozenset({"rerequested"})),
    "push": (pushed, frozenset({""})),
}
"""For each event its handler and the actions that it is for."""
PLACES: dict[tuple[str, str], Callable[[Payload], Sequence[e.Addressed]]] = {
    **{("issues", action): places.conversation for action in places.CONVERSATION},
    **{("repository", action): places.repository for action in places.REPOSITORY},
}
INSTALLATIONS: dict[tuple[str, str], Callable[[InstallationPayload], Sequence[e.Addressed]]] = {
    **{("installation", action): places.installation for action in places.INSTALLATION},
    **{("installation_repositories", action): places.selection for action in ("added", "removed")},
}


def concerns(event: str, action: str) -> bool:
    """Whether a delivery of this kind may mean anything to us."""
    known = (event, action) in PLACES or (event, action) in INSTALLATIONS
    return known or action in ROUTES.get(event, (None, frozenset()))[1]


def translate(event: str, payload: dict[str, Any], *, slug: str, app_id: int) -> Sequence[e.Addressed]:
    """The events of one delivery; none for what we do not know. Raises ValueError for a body that does not fit."""
    action = str(payload.get("action") or "")
    if many := INSTALLATIONS.get((event, action)):
        return many(InstallationPayload.model_validate(payload, extra="ignore"))
    if placed := PLACES.get((event, action)):
        return placed(Payload.model_validate(payload, extra="ignore"))
    handler, actions = ROUTES.get(event, (None, frozenset()))
    if handler is None or action not in actions:
        return ()
    read = Payload.model_validate(payload, extra="ignore")
    found = handler(read, Origin(slug=slug, app_id=app_id))
    where = {"repo": read.repository, "installation": read.installation}
    return (found.model_copy(update=where),) if found else ()
