"""The few fields that we read of GitHub's webhooks; everything else is ignored, and so are unknown events."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict

from schemas.base import Person, RepoRef


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class PayloadUser(_Lenient):
    """simple-user."""

    id: int
    login: str
    type: str = "User"

    def person(self) -> Person:
        """Without a permission: that is asked from the API."""
        return Person(id=self.id, login=self.login, type=self.type)


class PayloadRepository(_Lenient):
    """repository."""

    id: int
    full_name: str
    default_branch: str = ""

    def ref(self) -> RepoRef:
        """Id and name."""
        return RepoRef(id=self.id, full_name=self.full_name)


class PayloadInstallation(_Lenient):
    """simple-installation."""

    id: int = 0


class PayloadLabel(_Lenient):
    """label."""

    name: str


class PayloadIssue(_Lenient):
    """issue; `pull_request` is there when it is one."""

    id: int
    number: int
    title: str
    body: str | None = None
    user: PayloadUser
    updated_at: datetime
    pull_request: dict[str, object] | None = None


class PayloadComment(_Lenient):
    """issue-comment."""

    id: int
    body: str | None = None
    user: PayloadUser
    created_at: datetime


class PayloadBranch(_Lenient):
    """One end of a pull request."""

    ref: str
    sha: str
    repo: PayloadRepository | None = None


class PayloadPull(_Lenient):
    """pull-request."""

    id: int
    number: int
    head: PayloadBranch
    base: PayloadBranch
    merged: bool = False
    updated_at: datetime | None = None


class PayloadReview(_Lenient):
    """pull-request-review; the state is lower case in webhooks."""

    id: int
    state: str
    body: str | None = None
    commit_id: str | None = None
    user: PayloadUser | None = None
    submitted_at: datetime | None = None


class PayloadApp(_Lenient):
    """integration."""

    id: int


class PayloadCheckRun(_Lenient):
    """check-run."""

    id: int
    head_sha: str
    external_id: str | None = None
    app: PayloadApp | None = None


class PayloadAction(_Lenient):
    """The button of a check run."""

    identifier: str


class Payload(_Lenient):
    """Any webhook body that concerns us."""

    action: str = ""
    repository: PayloadRepository
    sender: PayloadUser
    installation: PayloadInstallation = PayloadInstallation()
    issue: PayloadIssue | None = None
    label: PayloadLabel | None = None
    comment: PayloadComment | None = None
    pull_request: PayloadPull | None = None
    review: PayloadReview | None = None
    check_run: PayloadCheckRun | None = None
    requested_action: PayloadAction | None = None
    ref: str = ""
    before: str = ""
    after: str = ""
    forced: bool = False


NEVER = datetime(1970, 1, 1, tzinfo=UTC)
