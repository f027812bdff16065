"""The merge queue's nouns: lanes, their entries, the train under way and its intents.

A lane is an aggregate of its own, one for each (repository, full ref). Entry state lives in the queue's tables;
the lane holds what one lander needs to go on after a crash.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from schemas.acts import Unreachable as Unreachable
from schemas.base import CheckCommand, CiCheck, Environment, Evidence, Frozen, Glob, Instant, Kinded, Sha
from schemas.change_request import ChangeRequest
from schemas.landing import HeadRead as HeadRead
from schemas.landing import Intent as Intent
from schemas.landing import Merging as Merging
from schemas.landing import QueueRead as QueueRead
from schemas.landing import Wanted
from schemas.landing import Way as Way


class LaneState(StrEnum):
    """Whether a lane takes entries forward."""

    OPEN = "open"
    FROZEN = "frozen"  # the head itself fails its checks, or the ref was moved by force: nobody in the queue is blamed
    PAUSED = "paused"  # CI never reported: until a person looks


class EntryState(StrEnum):
    """Where an entry stands. The last six are at rest; held, rework and quarantined may be opened again."""

    QUEUED = "queued"
    COMPOSED = "composed"
    CHECKING = "checking"
    LANDING = "landing"
    LANDED = "landed"
    NOOP = "noop"
    HELD = "held"
    REWORK = "rework"
    QUARANTINED = "quarantined"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


class TrainState(StrEnum):
    """The steps of a train; only LANDING has touched the outside world."""

    COMPOSED = "composed"
    CHECKED = "checked"
    LANDING = "landing"


class ErrorClass(StrEnum):
    """Whose turn it is after a failure: the author's (invalid, conflict, check), a person's (policy), ours (infra)."""

    INVALID = "invalid"
    POLICY = "policy"
    CONFLICT = "conflict"
    CHECK = "check"
    INFRA = "infra"


class Series(Frozen):
    """The commits `fork..tip` of an approved ticket, which land on the base together or not at all."""

    fork: Sha
    tip: Sha
    digest: str
    branch: str
    method: Literal["rebase", "squash"] = "rebase"


class Rebase(Frozen):
    """Replay the lane's own commits `fork..tip` onto another commit, because the base moved in their way."""

    fork: Sha
    tip: Sha
    onto: Sha


class Rungs(Frozen):
    """How far a conflict may climb (bot.merge.ladder), and in which files both sides' lines may simply be kept."""

    upto: Literal["line", "safe", "driver"] = "line"
    union: tuple[Glob, ...] = ()


class Resolution(Frozen):
    """What a rung above the line merge made of one path: contents in and out, by their oids."""

    path: str
    rung: str
    version: str
    base: Sha | None
    ours: Sha | None
    theirs: Sha | None
    result: Sha | None


class NewEntry(Frozen):
    """What is put into a lane. Exactly one of change, series and rebase is set; `id` is unique in the lane.

    `held` holds the reasons for which a person must release the entry first. `supersedes_task` closes the
    task's older open entry in the same transaction.
    """

    id: str
    lane: str
    ticket: str = ""
    task: str = ""
    fork: Sha | None = None
    """Where the walk for landed trailers ends; also where the lane's ref begins when it does not exist yet."""
    change: ChangeRequest | None = None
    series: Series | None = None
    rebase: Rebase | None = None
    author: str = ""
    owns: tuple[str, ...] | None = None
    checks: tuple[CheckCommand, ...] = ()
    ci: tuple[CiCheck, ...] = ()
    ci_minutes: int = 60
    landing: Wanted = "auto"
    rungs: Rungs = Rungs()
    environment: Environment = Environment()
    priority: int = 0
    held: tuple[str, ...] = ()


class Entry(NewEntry):
    """An entry as the queue keeps it. `accepted` (whole seconds) is the commit's time; fence grows with each delivery.

    `deliveries` is written before each attempt, `outcomes` after; their difference counts crashes. `attempts`
    counts failures of class infra.
    """

    seq: int
    state: EntryState = EntryState.QUEUED
    accepted: Instant
    deliveries: int = 0
    outcomes: int = 0
    attempts: int = 0
    error_class: ErrorClass | None = None
    error: str = ""
    evidence: Evidence | None = None
    next_try: Instant | None = None
    commit: Sha | None = None
    released_by: str = ""


class Carriage(Frozen):
    """One entry composed into a train: its commit (the last one, for a series) and what it touches."""

    entry: str
    commit: Sha
    tree: Sha
    paths: tuple[str, ...] = ()
    rung: str = "line"
    resolutions: tuple[Resolution, ...] = ()
    digest: str = ""
    commits: tuple[tuple[str, Sha], ...] = ()
    """(change request, commit) of every commit that this entry adds, oldest first."""
    branch_old: Sha | None = None
    """For a series: what the ticket's own branch was on the remote, which is moved first."""
    dropped: tuple[tuple[str, Evidence], ...] = ()
    """For a rebase: the change requests that no longer fit, each with its conflict."""
    removal: str = ""
    """For GitHub's merge queue: the last time that it let go of the pull request before we asked; a later one is news."""


class Search(Frozen):
    """What is known of a train's prefixes, each named by its number of carriages; the base is the prefix of none.

    A check is named by its command. `green` is the longest prefix found green, and 0 until one was; `red` the shortest
    found red, whose failure `evidence` is.
    """

    green: int = 0
    verdict: str = ""
    red: int | None = None
    evidence: Evidence | None = None
    suspects: tuple[str, ...] = ()
    """Checks that were red once on the prefix that is looked at now: believed when they are red again."""
    cleared: tuple[str, ...] = ()
    """Standing checks that are green on the base."""


class Train(Frozen):
    """Consecutive entries composed on `base` and checked as one; `tip`'s tree is what was checked."""

    state: TrainState = TrainState.COMPOSED
    base: Sha
    old: Sha | None
    """What the remote's ref was; None if it does not exist yet (then `base` is the lane's fork)."""
    tip: Sha
    tree: Sha
    carriages: tuple[Carriage, ...]
    search: Search = Search()
    verdict: str = ""
    ci_since: Instant | None = None
    """Since when the repository's CI (for the prefix that is asked now) or GitHub's merge queue has been waited for."""
    ci_asked: tuple[tuple[str, str], ...] = ()
    """Which of its checks were asked to run once more there, each with the result that it had then."""
    way: Way = "push"
    intents: tuple[Intent, ...] = ()


class Lane(Frozen):
    """A lane between two steps. `fork` ends the first-parent walk that looks for landed trailers.

    `window` is how many entries a train may take; one that a check sends back halves it, a landing doubles it.
    """

    key: str
    ref: str
    version: int = 0
    state: LaneState = LaneState.OPEN
    why: str = ""
    head: Sha | None = None
    fork: Sha | None = None
    window: int = 32
    own_heads: tuple[tuple[str, Sha], ...] = ()
    """(branch, commit) of pushes that we meant to make to tickets' branches: such a head is no foreign push."""
    due: Instant | None = None
    """When a train that waits for CI is looked at again."""
    train: Train | None = None


class Outcome(StrEnum):
    """What composing one entry gave."""

    COMPOSED = "composed"
    NOOP = "noop"
    ALREADY = "already"  # found landed by its trailer
    CONFLICT = "conflict"
    INVALID = "invalid"
    POLICY = "policy"
    INFRA = "infra"


class ComposeResult(Frozen):
    """One entry's part in `Composed`."""

    entry: str
    outcome: Outcome
    carriage: Carriage | None = None
    evidence: Evidence | None = None


class Composed(Kinded, kind="composed"):
    """The lander composed a train on `base`; no carriage means nothing to land.

    `look_again`: somebody asks for a frozen lane to be tried although its head has not moved.
    """

    base: Sha
    old: Sha | None
    results: tuple[ComposeResult, ...]
    look_again: bool = False


class Checked(Kinded, kind="checked"):
    """The checks ran once on the train's first `length` carriages; on its base if that is 0."""

    outcome: Literal["green", "red", "unknown", "waiting", "late"]
    length: int
    evidence: Evidence | None = None
    verdict: str = ""
    believed: bool = False
    """Red at once: by the repository's own CI, which says itself whether it ran again."""
    since: Instant | None = None
    """waiting: since when, for what to run once more, and when to look again."""
    asked: tuple[tuple[str, str], ...] = ()
    look_at: Instant | None = None


class Confirmed(Kinded, kind="confirmed"):
    """Approvals and permissions were read again; refused entries leave the train, with the reason.

    `way` is how the rest lands. `made`: for each composed commit the one that GitHub made and signed of it. `removals`: see
    Carriage.removal. `refusal`: the way is closed, which is nobody's fault, and why.
    """

    refused: tuple[tuple[str, str], ...] = ()
    unknown: str = ""
    way: Way = "push"
    made: tuple[tuple[Sha, Sha], ...] = ()
    removals: tuple[tuple[str, str], ...] = ()
    refusal: str = ""


LaneEvent = Annotated[Composed | Checked | Confirmed | HeadRead | QueueRead | Unreachable, Field(discriminator="kind")]
