"""What has happened, in the past tense. Every event that a ticket is decided on is here; docs/spec.md says who emits what."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.agent import Usage
from schemas.base import Evidence, Frozen, Instant, Person, RepoRef, Sha, TicketEvent
from schemas.change_request import ChangeRequest
from schemas.landing import EntryLanded as EntryLanded
from schemas.landing import EntryReturned as EntryReturned
from schemas.landing import LaneOpened as LaneOpened
from schemas.landing import LaneStopped as LaneStopped
from schemas.plan import Fault, Plan, Question, Scope
from schemas.policy import Policy


# --- what people did (handlers) --------------------------------------------------------------------------------------
class IssueLabelled(TicketEvent):
    """The trigger label was put on an issue; title and body are as of that delivery."""

    kind: Literal["issue_labelled"] = "issue_labelled"
    repo: RepoRef
    installation: int
    issue: int
    label: str
    title: str
    body: str
    author: Person
    by: Person
    at: Instant


class IssueUnlabelled(TicketEvent):
    """The label was taken off."""

    kind: Literal["issue_unlabelled"] = "issue_unlabelled"
    label: str
    by: Person


class IssueClosed(TicketEvent):
    """The issue was closed, deleted or transferred by somebody else than us."""

    kind: Literal["issue_closed"] = "issue_closed"
    how: Literal["closed", "deleted", "transferred"] = "closed"
    by: Person


class CommentAdded(TicketEvent):
    """A new comment on the issue or its pull request (edits never count)."""

    kind: Literal["comment_added"] = "comment_added"
    comment: int
    body: str
    by: Person
    at: Instant


class ReviewSubmitted(TicketEvent):
    """A pull-request review."""

    kind: Literal["review_submitted"] = "review_submitted"
    review: int
    state: Literal["approved", "changes_requested", "commented", "dismissed"]
    head: Sha
    body: str = ""
    by: Person
    at: Instant


class PullRequestClosed(TicketEvent):
    """The pull request was closed by somebody else than us, merged or not."""

    kind: Literal["pull_request_closed"] = "pull_request_closed"
    merged: bool
    by: Person


class BranchPushed(TicketEvent):
    """Somebody pushed to the ticket's branch. `ours` when the App's own bot user did."""

    kind: Literal["branch_pushed"] = "branch_pushed"
    before: Sha | None
    after: Sha | None
    forced: bool = False
    ours: bool = False
    by: Person


class BaseMoved(TicketEvent):
    """The base branch has a new head, pushed by anybody; sent to every open ticket on it."""

    kind: Literal["base_moved"] = "base_moved"
    ref: str
    head: Sha
    forced: bool = False
    by: str = ""


class ButtonPressed(TicketEvent):
    """A button on one of our check runs; `identifier` is the button's, `about` the check run's external id."""

    kind: Literal["button_pressed"] = "button_pressed"
    identifier: str
    about: str = ""
    head: Sha
    by: Person
    at: Instant


# --- outcomes (performers) -------------------------------------------------------------------------------------------
class RepositoryRead(TicketEvent):
    """The repository was fetched: its base, policy and outline."""

    kind: Literal["repository_read"] = "repository_read"
    base_ref: str
    base: Sha
    policy: Policy
    policy_note: str = ""
    outline: str = ""
    single_writer: bool = False


class RepositoryRefused(TicketEvent):
    """The repository cannot be worked on (empty, archived, ...), with the sentence for people."""

    kind: Literal["repository_refused"] = "repository_refused"
    reason: str


class QuestionsAsked(TicketEvent):
    """The Engineer (or Orchestrator) needs answers."""

    kind: Literal["questions_asked"] = "questions_asked"
    questions: tuple[Question, ...]
    usage: Usage = Usage()


class ScopeSubmitted(TicketEvent):
    """The Engineer settled the scope."""

    kind: Literal["scope_submitted"] = "scope_submitted"
    scope: Scope
    usage: Usage = Usage()


class PlanSubmitted(TicketEvent):
    """The Orchestrator's plan passed the rules."""

    kind: Literal["plan_submitted"] = "plan_submitted"
    plan: Plan
    notes: tuple[str, ...] = ()
    usage: Usage = Usage()


class AgentDeclined(TicketEvent):
    """The Engineer or Orchestrator says that this should not be done."""

    kind: Literal["agent_declined"] = "agent_declined"
    reason: str
    usage: Usage = Usage()


class AgentFailed(TicketEvent):
    """A run of the Engineer or Orchestrator ended without an answer. `interrupted`: cut by a restart of ours."""

    kind: Literal["agent_failed"] = "agent_failed"
    reason: str
    faults: tuple[Fault, ...] = ()
    interrupted: bool = False
    usage: Usage = Usage()


class RunSucceeded(TicketEvent):
    """A Developer's run made a change request whose checks pass. `holds`: why a person must release it first."""

    kind: Literal["run_succeeded"] = "run_succeeded"
    task: str
    attempt: int
    change: ChangeRequest
    holds: tuple[str, ...] = ()
    summary: str = ""
    usage: Usage = Usage()


class RunFailed(TicketEvent):
    """A Developer's run made nothing that can be submitted. `interrupted` runs do not count as failures."""

    kind: Literal["run_failed"] = "run_failed"
    task: str
    attempt: int
    evidence: Evidence
    interrupted: bool = False
    gave_up: bool = False
    usage: Usage = Usage()


class PullRequestOpened(TicketEvent):
    """The ticket's pull request exists."""

    kind: Literal["pull_request_opened"] = "pull_request_opened"
    number: int
    head: Sha


class TrialComposed(TicketEvent):
    """The tip was tried on the base's head without a push. `digest` is the tip's patch digest against its fork."""

    kind: Literal["trial_composed"] = "trial_composed"
    trial: int
    tip: Sha
    onto: Sha
    digest: str
    clean: bool
    evidence: Evidence | None = None
    rival: str = ""
    """An open ticket, already asked to be reviewed, with which the tip conflicts."""


class EffectGaveUp(TicketEvent):
    """An effect cannot be performed (refused, or out of attempts)."""

    kind: Literal["effect_gave_up"] = "effect_gave_up"
    effect: str
    effect_kind: str
    reason: str


# --- the loop --------------------------------------------------------------------------------------------------------
class Ticked(TicketEvent):
    """The ticket's `wake_at` has come."""

    kind: Literal["ticked"] = "ticked"
    at: Instant


OnIssues = IssueLabelled | IssueUnlabelled | IssueClosed | CommentAdded
OnBranches = ReviewSubmitted | PullRequestClosed | BranchPushed | BaseMoved | ButtonPressed
OfReading = RepositoryRead | RepositoryRefused
OfAgents = QuestionsAsked | ScopeSubmitted | PlanSubmitted | AgentDeclined | AgentFailed | RunSucceeded | RunFailed
OfTheRest = PullRequestOpened | TrialComposed | EffectGaveUp
OfTheQueue = EntryLanded | EntryReturned | LaneStopped | LaneOpened
Event = Annotated[
    OnIssues | OnBranches | OfReading | OfAgents | OfTheRest | OfTheQueue | Ticked, Field(discriminator="kind")
]


class Address(Frozen):
    """Whom an event is for, before the inbox has found the ticket: an issue of a repository, or all on a base ref."""

    repo_id: int
    issue: int | None = None
    generation: int | None = None
    base_ref: str | None = None


class Addressed(Frozen):
    """An event on its way into the inbox; `key` makes a repeat the same event."""

    key: str
    to: Address | None = None
    event: Event
