"""What must now happen, in the imperative. Each has a readable, derived key: a repeat finds its first self by it."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import CheckCommand, Environment, Evidence, Frozen, Kinded, Name, RepoRef, Role, Sha
from schemas.plan import Fault, Limits, Question, Scope, Task


class _Effect(Kinded):
    """`slot`: a newer effect of the same slot replaces this one as long as nobody has begun to perform it."""

    key: str
    ticket: Name
    repo: RepoRef
    installation: int
    slot: str = ""


class ReadRepository(_Effect, kind="read_repository"):
    """Fetch a branch and read its policy and outline: the default branch, or what `base_ref` is called today."""

    base_ref: str = ""


class PostComment(_Effect, kind="post_comment"):
    """A new comment on the issue, found again by the key hidden in it."""

    issue: int
    body: str


class UpdateStatus(_Effect, kind="update_status"):
    """Make the ticket's one status comment read `body`."""

    issue: int
    body: str


class Button(Frozen):
    """A button on a completed check run (GitHub's limits: 20, 40 and 20 characters; three at most)."""

    label: Annotated[str, Field(max_length=20)]
    description: Annotated[str, Field(max_length=40)]
    identifier: Annotated[str, Field(max_length=20)]


class PublishCheck(_Effect, kind="publish_check"):
    """Create or update the check run `name` on a commit, found again by `external_id`."""

    name: str
    head: Sha
    external_id: str
    status: Literal["queued", "in_progress", "completed"]
    conclusion: Literal["success", "failure", "neutral", "cancelled", "action_required"] | None = None
    title: str
    summary: str
    buttons: Annotated[tuple[Button, ...], Field(max_length=3)] = ()


class OpenPullRequest(_Effect, kind="open_pull_request"):
    """Open the pull request from the ticket's branch, or find it and bring title and body up to date."""

    branch: str
    base: str
    title: str
    body: str


class ReadReview(_Effect, kind="read_review"):
    """Read the line comments of a review."""

    number: int
    review: int


class CloseIssue(_Effect, kind="close_issue"):
    """Close the issue as completed."""

    issue: int


class RunAgent(_Effect, kind="run_agent"):
    """Run one agent session. The performer adds what it reads from the repository at `base` to the prompt."""

    role: Role
    attempt: int
    base: Sha
    title: str = ""
    body: str = ""
    questions: tuple[Question, ...] = ()
    scope: Scope | None = None
    outline: str = ""
    task: Task | None = None
    siblings: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    evidence: Evidence | None = None
    checks: tuple[CheckCommand, ...] = ()
    protected: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    max_tasks: int = 12
    first_task: int = 1
    first_question: int = 1
    environment: Environment = Environment()
    limits: Limits = Limits()
    model: str | None = None


class CancelRuns(_Effect, kind="cancel_runs"):
    """Stop what agents are doing for the ticket, or for one task of it."""

    task: str = ""


class TrialCompose(_Effect, kind="trial_compose"):
    """Compose the tip onto the base's head without a push, and onto rivals that were asked to be reviewed before."""

    trial: int
    fork: Sha
    tip: Sha
    branch: str = ""
    base_ref: str
    approved: tuple[Sha, Sha] | None = None
    """Fork and tip of what was approved last: what differs from it is told."""


class TakeBack(_Effect, kind="take_back"):
    """Make the change request that takes the commits of the ticket `of` out of `base` (None: the branch's head today);
    answered like a run of `task`."""

    of: Name
    task: Task
    attempt: int
    base: Sha | None
    base_ref: str


OnGitHub = PostComment | UpdateStatus | PublishCheck | OpenPullRequest | CloseIssue | ReadReview
OfGit = TrialCompose | TakeBack
Effect = Annotated[ReadRepository | OnGitHub | RunAgent | CancelRuns | OfGit, Field(discriminator="kind")]
