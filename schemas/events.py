"""What has happened, in the past tense. Every event that a ticket is decided on is here; docs/spec.md says who emits what."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.acts import Act as Act
from schemas.acts import ButtonPressed as ButtonPressed
from schemas.acts import CheckRerequested as CheckRerequested
from schemas.acts import CommentAdded as CommentAdded
from schemas.acts import DatedAct as DatedAct
from schemas.acts import IssueEdited as IssueEdited
from schemas.acts import PlaceChanged as PlaceChanged
from schemas.acts import PullRequestReopened as PullRequestReopened
from schemas.acts import ReviewRead as ReviewRead
from schemas.acts import ReviewSubmitted as ReviewSubmitted
from schemas.acts import RollbackAsked as RollbackAsked
from schemas.acts import TicketEvent as TicketEvent
from schemas.agent import Usage
from schemas.base import Evidence, Frozen, Instant, Person, RepoRef, Sha
from schemas.change_request import ChangeRequest
from schemas.lane import EntryState, ErrorClass, Way
from schemas.plan import Fault, Plan, Question, Scope
from schemas.policy import Policy


class AgentEvent(TicketEvent):
    """How an agent's run ended, with what it consumed."""

    usage: Usage = Usage()


class RunEvent(AgentEvent):
    """How a Developer's run ended."""

    task: str
    attempt: int


class EntryEvent(TicketEvent):
    """An entry of this ticket left the queue."""

    entry: str
    entry_kind: Literal["change", "series", "rebase"]
    task: str = ""


# --- what people did (handlers) --------------------------------------------------------------------------------------
class IssueLabelled(DatedAct, kind="issue_labelled"):
    """The trigger label was put on an issue; title and body are as of that delivery."""

    repo: RepoRef
    installation: int
    issue: int
    label: str
    title: str
    body: str
    author: Person


class IssueUnlabelled(Act, kind="issue_unlabelled"):
    """The label was taken off."""

    label: str


class IssueClosed(Act, kind="issue_closed"):
    """The issue was closed, deleted or transferred by somebody else than us."""

    how: Literal["closed", "deleted", "transferred"] = "closed"


class PullRequestClosed(Act, kind="pull_request_closed"):
    """The pull request was closed by somebody else than us, merged or not."""

    merged: bool


class BranchPushed(Act, kind="branch_pushed"):
    """Somebody pushed to the ticket's branch. `ours` when the App's own bot user did."""

    before: Sha | None
    after: Sha | None
    forced: bool = False
    ours: bool = False


class BaseMoved(TicketEvent, kind="base_moved"):
    """The base branch has a new head, pushed by anybody; sent to every open ticket on it."""

    ref: str
    head: Sha
    forced: bool = False
    by: str = ""
    policy: bool = False
    """Whether the push may have changed the policy file."""


# --- outcomes (performers) -------------------------------------------------------------------------------------------
class RepositoryRead(TicketEvent, kind="repository_read"):
    """The repository was fetched: its base, policy and outline."""

    base_ref: str
    base: Sha
    policy: Policy
    policy_note: str = ""
    outline: str = ""
    single_writer: bool = False


class RepositoryRefused(TicketEvent, kind="repository_refused"):
    """The repository cannot be worked on (empty, archived, ...), with the sentence for people."""

    reason: str


class QuestionsAsked(AgentEvent, kind="questions_asked"):
    """The Engineer (or Orchestrator) needs answers."""

    questions: tuple[Question, ...]


class ScopeSubmitted(AgentEvent, kind="scope_submitted"):
    """The Engineer settled the scope."""

    scope: Scope


class PlanSubmitted(AgentEvent, kind="plan_submitted"):
    """The Orchestrator's plan passed the rules."""

    plan: Plan
    notes: tuple[str, ...] = ()


class AgentDeclined(AgentEvent, kind="agent_declined"):
    """The Engineer or Orchestrator says that this should not be done."""

    reason: str


class AgentFailed(AgentEvent, kind="agent_failed"):
    """A run of the Engineer or Orchestrator ended without an answer. `interrupted`: cut by a restart of ours."""

    reason: str
    faults: tuple[Fault, ...] = ()
    interrupted: bool = False


class RunSucceeded(RunEvent, kind="run_succeeded"):
    """A Developer's run made a change request whose checks pass. `holds`: why a person must release it first."""

    change: ChangeRequest
    holds: tuple[str, ...] = ()
    summary: str = ""


class RunFailed(RunEvent, kind="run_failed"):
    """A Developer's run made nothing that can be submitted. `interrupted` runs do not count as failures."""

    evidence: Evidence
    interrupted: bool = False
    gave_up: bool = False


class PullRequestOpened(TicketEvent, kind="pull_request_opened"):
    """The ticket's pull request exists."""

    number: int
    head: Sha
    at: Instant | None = None
    """GitHub's time of the change, if it was there before."""


class TrialComposed(TicketEvent, kind="trial_composed"):
    """The tip was tried on the base's head without a push. `digest` is the tip's patch digest against its fork."""

    trial: int
    tip: Sha
    onto: Sha
    digest: str
    clean: bool
    shifted: bool = False
    """It is clean, but its patch against the base's head has another digest."""
    interdiff: str = ""
    """How the patch differs from the one that was approved last."""
    evidence: Evidence | None = None
    rival: str = ""
    """An open ticket, already asked to be reviewed, with which the tip conflicts."""


class EffectGaveUp(TicketEvent, kind="effect_gave_up"):
    """An effect cannot be performed (refused, or out of attempts)."""

    effect: str
    effect_kind: str
    reason: str


# --- the merge queue -------------------------------------------------------------------------------------------------
class EntryLanded(EntryEvent, kind="entry_landed"):
    """An entry of this ticket is on its branch, read back from the remote. `commits`: (change request, commit)."""

    state: EntryState = EntryState.LANDED
    commit: Sha
    tree: Sha
    commits: tuple[tuple[str, Sha], ...] = ()
    paths: tuple[str, ...] = ()
    digest: str = ""
    verdict: str = ""
    onto: Sha | None = None
    way: Way = "push"
    dropped: tuple[tuple[str, Evidence], ...] = ()


class EntryReturned(EntryEvent, kind="entry_returned"):
    """An entry left the queue without landing: rework (the agent's turn), quarantined or cancelled."""

    state: EntryState
    error_class: ErrorClass
    evidence: Evidence


class EntryReopened(EntryEvent, kind="entry_reopened"):
    """An operator put an entry of this ticket back into the queue."""

    by: str


class LaneStopped(TicketEvent, kind="lane_stopped"):
    """Nothing of this ticket lands for now, and why: the lane is frozen or paused, or GitHub must do something (`way`) or
    people must (`ask`)."""

    lane: str
    why: str
    ask: bool = False
    way: Way = "push"


class LaneOpened(TicketEvent, kind="lane_opened"):
    """The lane goes on."""

    lane: str


# --- the loop --------------------------------------------------------------------------------------------------------
class Ticked(TicketEvent, kind="ticked"):
    """The ticket's `wake_at` has come."""

    at: Instant


OnIssues = IssueLabelled | IssueUnlabelled | IssueClosed | IssueEdited | CommentAdded | RollbackAsked
OnPulls = ReviewSubmitted | PullRequestClosed | PullRequestReopened | ButtonPressed | CheckRerequested
OnBranches = BranchPushed | BaseMoved | PlaceChanged
OfAgents = QuestionsAsked | ScopeSubmitted | PlanSubmitted | AgentDeclined | AgentFailed | RunSucceeded | RunFailed
OfTheQueue = EntryLanded | EntryReturned | EntryReopened | LaneStopped | LaneOpened
OfTheRest = RepositoryRead | RepositoryRefused | PullRequestOpened | ReviewRead | TrialComposed | EffectGaveUp | Ticked
Event = Annotated[OnIssues | OnPulls | OnBranches | OfAgents | OfTheQueue | OfTheRest, Field(discriminator="kind")]


class Address(Frozen):
    """Whom an event is for, before the inbox has found the ticket: an issue of a repository, all open tickets on a base
    ref, all of a repository, or (`installation` set) all that an installation of the App works for."""

    repo_id: int = 0
    installation: int = 0
    issue: int | None = None
    generation: int | None = None
    base_ref: str | None = None


class Addressed(Frozen):
    """An event on its way into the inbox; `key` makes a repeat the same event (empty: the delivery's own id does).

    `repo` and `installation` say where to ask what the person behind it may do.
    """

    key: str
    to: Address | None = None
    event: Event
    repo: RepoRef | None = None
    installation: int = 0
