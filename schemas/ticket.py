"""The ticket: our record of one GitHub issue under work, one row, decided on as a whole."""

from datetime import timedelta
from enum import StrEnum

from schemas.agent import Usage
from schemas.base import Evidence, Frozen, Instant, Name, Person, RepoRef, Sha
from schemas.landing import Way
from schemas.plan import Answer, Fault, Plan, PlanApproval, Question, Scope, Task
from schemas.policy import Policy

SILENCE = timedelta(minutes=5)
"""After how long without news a ticket says what it waits on."""


class TicketState(StrEnum):
    """Where a ticket stands; docs/states.md has the table."""

    OPENED = "opened"  # the repository and its policy are being read
    CLARIFYING = "clarifying"  # the Engineer is at work
    ASKING = "asking"  # a person's turn: questions are open
    PLANNING = "planning"  # the Orchestrator is at work
    PROPOSED = "proposed"  # a person's turn: the plan waits for approval
    BUILDING = "building"  # tasks run and land on the ticket's branch
    TRIALING = "trialing"  # everything landed on the branch; it is tried on today's base
    REVIEWING = "reviewing"  # a person's turn: the pull request waits for review
    LANDING = "landing"  # approved; in the base branch's lane
    DONE = "done"
    DECLINED = "declined"
    STOPPED = "stopped"  # by a person, by silence, or because we need one; may be resumed
    CANCELLED = "cancelled"  # the issue was closed or the label removed


class TaskState(StrEnum):
    """Where a task stands."""

    WAITING = "waiting"  # for the tasks it comes after
    READY = "ready"  # for a free runner
    RUNNING = "running"
    SUBMITTED = "submitted"  # its change request is in the queue
    HELD = "held"  # a person must release its change request
    LANDED = "landed"
    FAILED = "failed"  # out of attempts; a person's turn
    QUARANTINED = "quarantined"
    CANCELLED = "cancelled"


class RunState(StrEnum):
    """Where one agent run stands."""

    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"


class TaskProgress(Frozen):
    """A task and what became of it. `attempt` counts runs from 1 and never resets; `failures` is bounded by policy."""

    task: Task
    state: TaskState = TaskState.WAITING
    run: RunState | None = None
    attempt: int = 0
    failures: int = 0
    interrupted: int = 0
    base: Sha | None = None
    shown_on: Sha | None = None
    """The commit that carries this task's check run while it is under work."""
    change: str | None = None
    commit: Sha | None = None
    paths: tuple[str, ...] = ()
    evidence: Evidence | None = None
    held: tuple[str, ...] = ()
    usage: Usage = Usage()
    summary: str = ""


class PullRequest(Frozen):
    """The ticket's pull request and the head that it shows, since when by GitHub's clock (None: it was opened with it)."""

    number: int
    head: Sha
    closed: bool = False
    """By hand, without a merge."""
    at: Instant | None = None


class Approval(Frozen):
    """An approving review, bound to the digest of what it saw."""

    by: Person
    review: int
    digest: str
    head: Sha
    at: Instant


class Objection(Frozen):
    """A review that asks for changes, until its author approves or it is dismissed."""

    by: Person
    review: int
    body: str = ""


class Ticket(Frozen):
    """The aggregate. `base` is where its branch forks from, `tip` its branch's head, `digest` the tip's patch digest.

    `resume` is the state that a stopped ticket goes back to; `wake_at` is when its stage wants to hear `Ticked`.
    """

    schema_version: int = 1
    id: Name
    repo: RepoRef
    installation: int
    issue: int
    generation: int = 1
    version: int = 0
    state: TicketState = TicketState.OPENED
    resume: TicketState | None = None
    requester: Person
    author: Person
    title: str
    body: str
    hidden_removed: int = 0
    opened_at: Instant
    base_ref: str = ""
    base: Sha | None = None
    tip: Sha | None = None
    digest: str = ""
    policy: Policy = Policy()
    policy_note: str = ""
    single_writer: bool = False
    outline: str = ""
    questions: tuple[Question, ...] = ()
    offered: tuple[Answer, ...] = ()
    """What the issue's author answered without write permission; counts once a writer accepts it."""
    scope: Scope | None = None
    plan: Plan | None = None
    faults: tuple[Fault, ...] = ()
    approved_plan: PlanApproval | None = None
    tasks: tuple[TaskProgress, ...] = ()
    engineer_attempt: int = 0
    orchestrator_attempt: int = 0
    failures: int = 0
    interrupted: int = 0
    agent_running: bool = False
    usage: Usage = Usage()
    pull_request: PullRequest | None = None
    approvals: tuple[Approval, ...] = ()
    objections: tuple[Objection, ...] = ()
    look_again: tuple[Person, ...] = ()
    """Whose approval no longer counts, until they have been asked anew."""
    hasty: tuple[int, ...] = ()
    """Who was told, for this tip, that an approval came too soon after it was pushed."""
    approved: tuple[Sha, Sha] | None = None
    """Fork and tip of what was approved last, and how today's patch differs from it."""
    interdiff: str = ""
    pushed_by: tuple[int, ...] = ()
    """The people, by id, who pushed to the branch."""
    edited_by: str = ""
    """Who changed the issue's text after it was taken on; the change is not read."""
    priority: int = 0
    rolls_back: str = ""
    """The ticket whose landed commits this one takes back, by code."""
    waits_for: str = ""
    note: str = ""
    trial: int = 0
    trial_running: bool = False
    rebasing: bool = False
    landed: tuple[Sha, ...] = ()
    landed_by: Way = "push"
    """Known before it has landed while it is in GitHub's own queue."""
    wake_at: Instant | None = None
    suspended: bool = False
    """GitHub lets the App do nothing here for now."""
    rereading: bool = False
    """The policy or the base's name may have changed: nothing starts or lands before both are read again."""
    branch_lost: bool = False
    """Its branch was deleted or moved by force, and is not back where it was."""
    notice: str = ""
    """What happened around the ticket, for people to know."""
    since: Instant | None = None
    """When what people see of the ticket last changed."""
    silent: bool = False
    """Whether it has said that it still waits."""

    @property
    def branch(self) -> str:
        """The short name of the branch that this ticket owns."""
        suffix = f"-{self.generation}" if self.generation > 1 else ""
        return f"interlock/{self.issue}{suffix}"

    @property
    def lane(self) -> str:
        """The key of the lane in which this ticket's change requests land."""
        return f"{self.repo.id}:refs/heads/{self.branch}"

    @property
    def base_lane(self) -> str:
        """The key of the base branch's lane."""
        return f"{self.repo.id}:refs/heads/{self.base_ref}"

    @property
    def on_hold(self) -> bool:
        """Whether nothing of it may start or land for now."""
        return self.suspended or self.rereading or bool(self.policy.pause)

    @property
    def speaks_at(self) -> Instant | None:
        """When it says what it waits on, unless there is news before; None while it is a person's turn."""
        working = self.state in _WORKING and self.since is not None and not self.silent
        return self.since + SILENCE if self.since and working else None

    @property
    def next_wake(self) -> Instant | None:
        """When the loop sends `Ticked`."""
        return min((at for at in (self.wake_at, self.speaks_at) if at), default=None)

    @property
    def open(self) -> bool:
        """Whether anything may still happen without a new label."""
        return self.state not in (TicketState.DONE, TicketState.DECLINED, TicketState.CANCELLED)


_WORKING = (
    TicketState.OPENED, TicketState.CLARIFYING, TicketState.PLANNING, TicketState.BUILDING, TicketState.TRIALING,
    TicketState.LANDING,
)  # fmt: skip
