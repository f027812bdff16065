"""The ticket: our record of one GitHub issue under work, one row, decided on as a whole."""

from enum import StrEnum

from schemas.agent import Usage
from schemas.base import Evidence, Frozen, Instant, Name, Person, RepoRef, Sha
from schemas.landing import Way
from schemas.plan import Answer, Fault, Plan, PlanApproval, Question, Scope, Task
from schemas.policy import Policy


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
    """The ticket's pull request and the head that it shows."""

    number: int
    head: Sha


class Approval(Frozen):
    """An approving review, bound to the digest of what it saw."""

    by: Person
    review: int
    digest: str
    head: Sha
    at: Instant


class Ticket(Frozen):
    """The aggregate. `base` is where its branch forks from, `tip` its branch's head, `digest` the tip's patch digest.

    `resume` is the state that a stopped ticket goes back to; `wake_at` is when the loop sends `Ticked`.
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
    waits_for: str = ""
    note: str = ""
    trial: int = 0
    trial_running: bool = False
    rebasing: bool = False
    landed: tuple[Sha, ...] = ()
    landed_by: Way = "push"
    wake_at: Instant | None = None

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
    def open(self) -> bool:
        """Whether anything may still happen without a new label."""
        return self.state not in (TicketState.DONE, TicketState.DECLINED, TicketState.CANCELLED)
