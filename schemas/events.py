"""What has happened, in the past tense. Every event that a ticket is decided on is here; docs/spec.md says who emits what."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from schemas.agent import Usage
from schemas.base import Evidence, Frozen, Instant, Person, RepoRef, Sha
from schemas.change_request import ChangeRequest
from schemas.lane import EntryState, ErrorClass
from schemas.plan import Fault, Plan, Question, Scope
from schemas.policy import Policy


class _Event(Frozen):
    """`ticket` is filled in by the inbox when the event arrives with an address instead."""

    ticket: str = ""


# --- what people did (handlers) --------------------------------------------------------------------------------------
class IssueLabelled(_Event):
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


class IssueUnlabelled(_Event):
    """The label was taken off."""

    kind: Literal["issue_unlabelled"] = "issue_unlabelled"
    label: str
    by: Person


class IssueClosed(_Event):
    """The issue was closed, deleted or transferred by somebody else than us."""

    kind: Literal["issue_closed"] = "issue_closed"
    how: Literal["closed", "deleted", "transferred"] = "closed"
    by: Person


class CommentAdded(_Event):
    """A new comment on the issue or its pull request (edits never count)."""

    kind: Literal["comment_added"] = "comment_added"
    comment: int
    body: str
    by: Person
    at: Instant


class ReviewSubmitted(_Event):
    """A pull-request review."""

    kind: Literal["review_submitted"] = "review_submitted"
    review: int
    state: Literal["approved", "changes_requested", "commented", "dismissed"]
    head: Sha
    body: str = ""
    by: Person
    at: Instant


class PullRequestClosed(_Event):
    """The pull request was closed by somebody else than us, merged or not."""

    kind: Literal["pull_request_closed"] = "pull_request_closed"
    merged: bool
    by: Person


class BranchPushed(_Event):
    """Somebody pushed to the ticket's branch. `ours` when the App's own bot user did."""

    kind: Literal["branch_pushed"] = "branch_pushed"
    before: Sha | None
    after: Sha | None
    forced: bool = False
    ours: bool = False
    by: Person


class BaseMoved(_Event):
    """The base branch has a new head, pushed by anybody; sent to every open ticket on it."""

    kind: Literal["base_moved"] = "base_moved"
    ref: str
    head: Sha
    forced: bool = False
    by: str = ""


class ButtonPressed(_Event):
    """A button on one of our check runs; `identifier` is the button's, `about` the check run's external id."""

    kind: Literal["button_pressed"] = "button_pressed"
    identifier: str
    about: str = ""
    head: Sha
    by: Person
    at: Instant


# --- outcomes (performers) -------------------------------------------------------------------------------------------
class RepositoryRead(_Event):
    """The repository was fetched: its base, policy and outline."""

    kind: Literal["repository_read"] = "repository_read"
    base_ref: str
    base: Sha
    policy: Policy
    policy_note: str = ""
    outline: str = ""
    single_writer: bool = False


class RepositoryRefused(_Event):
    """The repository cannot be worked on (empty, archived, ...), with the sentence for people."""

    kind: Literal["repository_refused"] = "repository_refused"
    reason: str


class QuestionsAsked(_Event):
    """The Engineer (or Orchestrator) needs answers."""

    kind: Literal["questions_asked"] = "questions_asked"
    questions: tuple[Question, ...]
    usage: Usage = Usage()


class ScopeSubmitted(_Event):
    """The Engineer settled the scope."""

    kind: Literal["scope_submitted"] = "scope_submitted"
    scope: Scope
    usage: Usage = Usage()


class PlanSubmitted(_Event):
    """The Orchestrator's plan passed the rules."""

    kind: Literal["plan_submitted"] = "plan_submitted"
    plan: Plan
    notes: tuple[str, ...] = ()
    usage: Usage = Usage()


class AgentDeclined(_Event):
    """The Engineer or Orchestrator says that this should not be done."""

    kind: Literal["agent_declined"] = "agent_declined"
    reason: str
    usage: Usage = Usage()


class AgentFailed(_Event):
    """A run of the Engineer or Orchestrator ended without an answer. `interrupted`: cut by a restart of ours."""

    kind: Literal["agent_failed"] = "agent_failed"
    reason: str
    faults: tuple[Fault, ...] = ()
    interrupted: bool = False
    usage: Usage = Usage()


class RunSucceeded(_Event):
    """A Developer's run made a change request whose checks pass. `holds`: why a person must release it first."""

    kind: Literal["run_succeeded"] = "run_succeeded"
    task: str
    attempt: int
    change: ChangeRequest
    holds: tuple[str, ...] = ()
    summary: str = ""
    usage: Usage = Usage()


class RunFailed(_Event):
    """A Developer's run made nothing that can be submitted. `interrupted` runs do not count as failures."""

    kind: Literal["run_failed"] = "run_failed"
    task: str
    attempt: int
    evidence: Evidence
    interrupted: bool = False
    gave_up: bool = False
    usage: Usage = Usage()


class PullRequestOpened(_Event):
    """The ticket's pull request exists."""

    kind: Literal["pull_request_opened"] = "pull_request_opened"
    number: int
    head: Sha


class TrialComposed(_Event):
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


class EffectGaveUp(_Event):
    """An effect cannot be performed (refused, or out of attempts)."""

    kind: Literal["effect_gave_up"] = "effect_gave_up"
    effect: str
    effect_kind: str
    reason: str


# --- the lander ------------------------------------------------------------------------------------------------------
class EntryLanded(_Event):
    """An entry of this ticket is on its branch, read back from the remote. `commits`: (change request, commit)."""

    kind: Literal["entry_landed"] = "entry_landed"
    entry: str
    entry_kind: Literal["change", "series", "rebase"]
    task: str = ""
    state: EntryState = EntryState.LANDED
    commit: Sha
    tree: Sha
    commits: tuple[tuple[str, Sha], ...] = ()
    paths: tuple[str, ...] = ()
    digest: str = ""
    verdict: str = ""
    onto: Sha | None = None
    dropped: tuple[tuple[str, Evidence], ...] = ()


class EntryReturned(_Event):
    """An entry left the queue without landing: rework (the agent's turn), quarantined or cancelled."""

    kind: Literal["entry_returned"] = "entry_returned"
    entry: str
    entry_kind: Literal["change", "series", "rebase"]
    task: str = ""
    state: EntryState
    error_class: ErrorClass
    evidence: Evidence


class LaneStopped(_Event):
    """The lane is frozen or paused; nothing of this ticket lands until it is open again."""

    kind: Literal["lane_stopped"] = "lane_stopped"
    lane: str
    why: str


class LaneOpened(_Event):
    """The lane goes on."""

    kind: Literal["lane_opened"] = "lane_opened"
    lane: str


# --- the loop --------------------------------------------------------------------------------------------------------
class Ticked(_Event):
    """The ticket's `wake_at` has come."""

    kind: Literal["ticked"] = "ticked"
    at: Instant


PersonEvent = (
    IssueLabelled | IssueUnlabelled | IssueClosed | CommentAdded | ReviewSubmitted | PullRequestClosed | ButtonPressed
)

Event = Annotated[
    IssueLabelled
    | IssueUnlabelled
    | IssueClosed
    | CommentAdded
    | ReviewSubmitted
    | PullRequestClosed
    | BranchPushed
    | BaseMoved
    | ButtonPressed
    | RepositoryRead
    | RepositoryRefused
    | QuestionsAsked
    | ScopeSubmitted
    | PlanSubmitted
    | AgentDeclined
    | AgentFailed
    | RunSucceeded
    | RunFailed
    | PullRequestOpened
    | TrialComposed
    | EffectGaveUp
    | EntryLanded
    | EntryReturned
    | LaneStopped
    | LaneOpened
    | Ticked,
    Field(discriminator="kind"),
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
