"""The Protocols through which the bot knows the world, and the small values that cross them."""

from collections.abc import Awaitable, Callable, Sequence, Set
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from pydantic import BaseModel

from schemas.agent import Activity, AgentJob, AgentOutcome
from schemas.base import CheckCommand, CiCheck, Environment, Evidence, Permission, Person, RepoRef, Sha
from schemas.decision import Decision, LaneDecision
from schemas.effects import Effect
from schemas.events import Address, Addressed, Event
from schemas.lane import Carriage, Entry, Lane, LaneEvent
from schemas.ticket import Ticket


# --- time and faults -------------------------------------------------------------------------------------------------
class Clock(Protocol):
    """See bot.clock.SystemClock."""

    def wall(self) -> datetime: ...
    def boot(self) -> float: ...
    def boot_id(self) -> str: ...
    async def sleep(self, seconds: float) -> None: ...


class Faults(Protocol):
    """Named points at which a test may kill the process. The product passes `no_faults`."""

    def reach(self, point: str) -> None: ...


class _NoFaults:
    def reach(self, point: str) -> None:
        """Do nothing."""


no_faults: Faults = _NoFaults()


# --- the store, as the loop and the performers see it ----------------------------------------------------------------
class Delivery(NamedTuple):
    """A verified webhook delivery, as it was stored before it was answered."""

    seq: int
    guid: str
    event: str
    body: bytes


class Due(NamedTuple):
    """The next undecided event of one ticket, with the ticket as it stands (None: not opened yet)."""

    seq: int
    event: Event
    ticket: Ticket | None


class Lease(NamedTuple):
    """The right to do one piece of work until a time. `fence` grows with every grant; a write that carries an older
    one is refused (bot.errors.Stale). `kind` is the leased effect's; empty for a lane.
    """

    key: str
    owner: str
    fence: int
    kind: str = ""
    attempts: int = 0
    interrupted: int = 0


class Store(Protocol):
    """The durable middle. Each call is one transaction; everything acknowledged is on disk."""

    async def keep_delivery(self, guid: str, event: str, body: bytes, now: datetime) -> bool:
        """Store a delivery; False if this guid was stored before."""

    async def next_delivery(self, now: datetime) -> Delivery | None:
        """The oldest delivery not yet translated and due."""

    async def take_delivery(self, seq: int, events: Sequence[Addressed], now: datetime) -> None:
        """Put a delivery's events into the inbox and mark it done."""

    async def postpone_delivery(self, seq: int, error: str, until: datetime) -> None:
        """Translate this delivery again later."""

    async def due_tickets(self) -> Sequence[str]:
        """Ids of tickets with undecided events."""

    async def next_event(self, ticket: str) -> Due | None:
        """The oldest undecided event of this ticket."""

    async def commit(self, seq: int, decision: Decision, now: datetime) -> None:
        """Store a decision: ticket, effects, emitted events, queue entries, audit row. Raises Stale."""

    async def discard(self, seq: int, why: str, now: datetime) -> None:
        """Mark an event as decided without effect (it fits no ticket), with an audit row."""

    async def wake(self, now: datetime) -> datetime | None:
        """Emit `Ticked` to tickets whose time has come; returns when the next one is due."""

    async def lease(self, kinds: Set[str], owner: str, seconds: float, now: datetime) -> tuple[Lease, Effect] | None:
        """Take the oldest due effect of these kinds; effects of one ticket and kind keep their order."""

    async def extend(self, lease: Lease, seconds: float) -> None:
        """Keep a lease alive. Raises Stale."""

    async def settle(self, lease: Lease, outcome: Event | None, now: datetime, *, shown: str = "") -> None:
        """End an effect; its outcome enters the inbox in the same transaction. Raises Stale.

        `shown` is what an agent was shown, kept as an erasable text of the audit row.
        """

    async def nack(self, lease: Lease, error: str, retry_in: float, now: datetime, *, counts: bool = True) -> None:
        """Perform it again later; after the last attempt that counts the ticket gets `EffectGaveUp`. Raises Stale."""

    async def refuse(self, lease: Lease, error: str, now: datetime) -> None:
        """Give the effect up now: the ticket gets `EffectGaveUp`."""

    async def awaited(self, to: Address, *, late: bool = False) -> bool:
        """Whether an event for this issue has a ticket: open, about to be opened by an event before it, or (`late`) over."""


class CheckVerdict(NamedTuple):
    """The outcome of a set of checks on one tree."""

    outcome: Literal["green", "red", "unknown"]
    evidence: Evidence | None = None
    seconds: float = 0.0
    summary: str = ""


class Queue(Protocol):
    """The merge queue's tables, as the lander sees them. All writes are durable when they return."""

    async def busy_lanes(self, now: datetime) -> Sequence[str]:
        """Lanes with a train under way that does not wait for CI, or not paused and with a due entry."""

    async def next_due(self) -> datetime | None:
        """When the earliest postponed entry or waiting train is due."""

    async def lease_lane(self, lane: str, owner: str, seconds: float) -> Lease | None:
        """Take a lane; None while another owner's lease runs. An expired or foreign-boot lease is taken over."""

    async def release_lane(self, lease: Lease) -> None:
        """Give the lane back."""

    async def lane(self, key: str) -> Lane:
        """The lane as it stands (a fresh one, open, if unknown). The ref is the key's part after the first ':'."""

    async def due_entries(self, lane: str, limit: int, now: datetime) -> Sequence[Entry]:
        """Queued entries that are due, in apply order, with their change requests."""

    async def due_ids(self, lane: str, limit: int, now: datetime) -> Sequence[str]:
        """Their ids alone."""

    async def entries(self, lane: str, ids: Sequence[str]) -> Sequence[Entry]:
        """These entries, without their change requests, in the order given."""

    async def begin(self, lease: Lease, ids: Sequence[str], now: datetime) -> None:
        """Count a delivery for each entry before it is worked on. Raises Stale."""

    async def decide(self, lease: Lease, event: LaneEvent, decision: LaneDecision, now: datetime) -> None:
        """Store a lane's decision: lane, entry moves, emitted ticket events, audit row. Raises Stale."""

    async def verdict(self, tree: Sha, checks: str) -> CheckVerdict | None:
        """A kept verdict on this tree for this set of checks (`checks` is their digest)."""

    async def keep_verdict(self, tree: Sha, checks: str, verdict: CheckVerdict, now: datetime) -> None:
        """Remember a green or red verdict; an unknown one is never kept (the lander keeps green ones alone)."""


# --- git and checks --------------------------------------------------------------------------------------------------
class PushResult(NamedTuple):
    """What a push seemed to do; only reading back decides. `refused` carries the remote's own sentence; `closed`, too: the
    branch's rules forbid it, and whoever may change them may lift it."""

    status: Literal["ok", "stale", "refused", "closed", "unknown"]
    message: str = ""


class Remote(Protocol):
    """One repository: a local git dir in which commits are composed, and the refs they are landed on."""

    @property
    def git_dir(self) -> Path:
        """A bare git dir of ours with the objects of everything fetched."""

    async def head(self, ref: str) -> Sha | None:
        """Read a ref from the remote and fetch its objects; None if it does not exist. Raises Transient."""

    async def push(self, ref: str, expected_old: Sha | None, new: Sha, *, force: bool = False) -> PushResult:
        """Move `ref` by compare-and-swap (None: it must not exist). `force` allows a non-fast-forward."""


Remotes = Callable[[RepoRef, int], Awaitable[Remote]]
"""The remote of a repository, seen by an installation."""


class Checker(Protocol):
    """Runs check commands on a tree, away from everything, with what is installed for it."""

    async def check(
        self, git_dir: Path, tree: Sha, commands: Sequence[CheckCommand], environment: Environment
    ) -> CheckVerdict: ...


Asked = tuple[tuple[str, str], ...]
"""For each check that was asked to run once more: its name, and the result that it had then."""


class CiVerdict(NamedTuple):
    """What CI says. Unknown: `summary` names who has not reported; `evidence` is of a red one that is to run again."""

    outcome: Literal["green", "red", "unknown"]
    evidence: Evidence | None = None
    summary: str = ""
    asked: Asked = ()


class Ci(Protocol):
    """The repository's own CI, which checks what is on a branch of the queue's."""

    async def look(
        self, lane: str, commit: Sha, wanted: Sequence[CiCheck], *, push: bool, asked: Asked = ()
    ) -> CiVerdict:
        """What CI says of a commit, green if every check has passed. `push` brings it to the lane's queue branch if it is
        not there yet, and has what failed run once more; `asked` is what the last look gave. Raises Transient."""


class Confirmation(NamedTuple):
    """Whether an entry may still land: ok, refused with a reason, or unknown (try later)."""

    status: Literal["ok", "refused", "unknown"]
    reason: str = ""


class Confirmer(Protocol):
    """Reads approvals and permissions again just before a landing."""

    async def confirm(self, entry: Entry, carriage: Carriage) -> Confirmation: ...


# --- performers ------------------------------------------------------------------------------------------------------
class Performed(NamedTuple):
    """The outcome event (if the ticket needs to know), and what an agent was shown."""

    outcome: Event | None = None
    shown: str = ""


class Performer(Protocol):
    """Acts on effects of its kinds. May be called twice with one key; must act once.

    Raises Transient (tried later), Rejected (given up, with the reason) or asyncio.CancelledError.
    """

    @property
    def kinds(self) -> frozenset[str]: ...

    async def perform(self, effect: Effect, lease: Lease) -> Performed: ...


class People(Protocol):
    """Who may do what, asked from GitHub's API now."""

    async def permission(self, repo: RepoRef, installation: int, person: Person) -> Permission: ...


# --- agents ----------------------------------------------------------------------------------------------------------
class ToolAnswer(NamedTuple):
    """What a tool says to the agent. `ok=False` reaches it as the tool's error; `ends` ends the run."""

    text: str
    ok: bool = True
    ends: bool = False


class Tool(NamedTuple):
    """A tool of ours that an agent may call; `answer` gets the validated parameters."""

    name: str
    description: str
    parameters: type[BaseModel]
    answer: Callable[[Any], Awaitable[ToolAnswer]]


class Harness(Protocol):
    """Drives one agent for one run in one directory.

    Cancelling the coroutine kills every process of the run within 5 seconds. Model and agent trouble is
    an `AgentOutcome`, never an exception.
    """

    async def run(
        self, job: AgentJob, workspace: Path, tools: Sequence[Tool], on_activity: Callable[[Activity], None]
    ) -> AgentOutcome:
        """Run the session to its end."""
