"""The few fields that we read of GitHub's webhooks; everything else is ignored, and so are unknown events."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AliasPath, Field

from schemas.base import Frozen, Person, RepoRef

NEVER = datetime(1970, 1, 1, tzinfo=UTC)


def _unasked(who: Person) -> Person:
    """What somebody may do is asked from the API; a payload never says it."""
    return who.model_copy(update={"permission": None})


PayloadUser = Annotated[Person, AfterValidator(_unasked)]
"""simple-user."""


class PayloadIssue(Frozen):
    """issue; `pull_request` is there when it is one."""

    id: int
    number: int
    title: str
    body: str | None = None
    user: PayloadUser
    updated_at: datetime
    pull_request: dict[str, object] | None = None


class PayloadComment(Frozen):
    """issue-comment."""

    id: int
    body: str | None = None
    user: PayloadUser
    created_at: datetime


class PayloadPull(Frozen):
    """pull-request; its head's repository is None when that was deleted."""

    id: int
    head_ref: str = Field(validation_alias=AliasPath("head", "ref"))
    head_sha: str = Field(validation_alias=AliasPath("head", "sha"))
    head_repo: int | None = Field(default=None, validation_alias=AliasPath("head", "repo", "id"))
    merged: bool = False
    updated_at: datetime | None = None


class PayloadReview(Frozen):
    """pull-request-review; the state is lower case in webhooks."""

    id: int
    state: str
    body: str | None = None
    commit_id: str | None = None
    user: PayloadUser | None = None
    submitted_at: datetime | None = None


class PayloadCheckRun(Frozen):
    """check-run."""

    id: int
    head_sha: str
    external_id: str | None = None
    completed_at: str | None = None
    app: int | None = Field(default=None, validation_alias=AliasPath("app", "id"))


class PayloadCheckSuite(Frozen):
    """check-suite."""

    id: int
    head_sha: str
    head_branch: str | None = None
    updated_at: str | None = None
    app: int | None = Field(default=None, validation_alias=AliasPath("app", "id"))


class PayloadCommit(Frozen):
    """A commit of a push, with the paths that it changed."""

    added: tuple[str, ...] = ()
    modified: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


class InstallationPayload(Frozen):
    """A body of installation and installation_repositories, which have no repository of their own."""

    action: str
    sender: PayloadUser
    installation: int = Field(validation_alias=AliasPath("installation", "id"))
    repositories_added: tuple[RepoRef, ...] = ()
    repositories_removed: tuple[RepoRef, ...] = ()


class Payload(Frozen):
    """Any other webhook body that concerns us."""

    action: str = ""
    repository: RepoRef
    sender: PayloadUser
    installation: int = Field(default=0, validation_alias=AliasPath("installation", "id"))
    default_branch_was: str = Field(default="", validation_alias=AliasPath("changes", "default_branch", "from"))
    issue: PayloadIssue | None = None
    label: str = Field(default="", validation_alias=AliasPath("label", "name"))
    comment: PayloadComment | None = None
    pull_request: PayloadPull | None = None
    review: PayloadReview | None = None
    check_run: PayloadCheckRun | None = None
    check_suite: PayloadCheckSuite | None = None
    changes: dict[str, object] = Field(default_factory=dict)
    button: str = Field(default="", validation_alias=AliasPath("requested_action", "identifier"))
    ref: str = ""
    before: str = ""
    after: str = ""
    forced: bool = False
    commits: tuple[PayloadCommit, ...] = ()
