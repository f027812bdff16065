"""The repository's policy, `.github/interlock.yml`, read from the base branch only."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import CheckCommand, CiCheck, Described, Environment, Glob
from schemas.landing import Wanted
from schemas.plan import Limits

WhoMay = Literal["admin", "write"]
POLICY_PATH = ".github/interlock.yml"


class PolicyCheck(CheckCommand):
    """A check of the repository; the fast ones gate every task, all of them gate the base branch."""

    fast: bool = True
    standing: bool = True


class Approve(Described):
    """Who approves what."""

    plan: Literal["always", "risky", "never"] = "risky"
    """ask a person to approve the plan: always, for all but one-task low-risk plans, never"""
    by: WhoMay = "write"
    """the permission that an approving review needs"""
    by_requester: bool | None = None
    """whether the requester's own approval counts; unset: only while the repository has one writer"""
    reviews: Annotated[int, Field(ge=1, le=6)] = 1
    """how many approving reviews a ticket needs"""


class Questions(Described):
    """How long the Engineer waits for answers."""

    deadline_hours: Annotated[float, Field(gt=0)] = 72
    """hours until silence counts"""
    on_silence: Literal["stop", "assume"] = "stop"
    """stop the ticket, or go on with the Engineer's own assumptions"""


class Concurrency(Described):
    """How much runs at once for this repository."""

    runs: Annotated[int, Field(ge=1, le=64)] = 4
    """agent runs at the same time in one ticket"""


class Models(Described):
    """The model a role asks for; unset: the operator's default."""

    engineer: str | None = None
    orchestrator: str | None = None
    developer: str | None = None


class Attempts(Described):
    """How often something is tried before a person is asked."""

    task: Annotated[int, Field(ge=1, le=10)] = 3
    """runs of one task that may fail"""
    plan: Annotated[int, Field(ge=1, le=10)] = 3
    """runs of the Orchestrator that may fail"""
    scope: Annotated[int, Field(ge=1, le=10)] = 3
    """runs of the Engineer that may fail in a row"""


class Policy(Described):
    """Everything a maintainer may set. Unknown keys are refused with their name."""

    pause: Annotated[str, Field(max_length=300)] = ""
    """why nothing may start or land here for now; taking the key away lets everything go on"""
    trigger: WhoMay = "write"
    """the permission that labelling, answering and commands need"""
    questions: Questions = Questions()
    approve: Approve = Approve()
    environment: Environment = Environment()
    checks: tuple[PolicyCheck, ...] = ()
    """commands that must pass before anything lands"""
    ci: tuple[CiCheck, ...] = ()
    """checks of your own CI (`app`: the App's slug, such as github-actions, or leave it out for a commit status; `name`) that
    must be green on what lands on the base; the train is pushed to interlock/queue/<base> for it"""
    ci_deadline_minutes: Annotated[int, Field(ge=1, le=1440)] = 60
    """how long CI may take to report before the queue stops and says so"""
    protected: tuple[Glob, ...] = (".github/**", ".git*", "CODEOWNERS", "**/AGENTS.md", ".mcp.json")
    """paths whose change waits for a person's release"""
    shared: tuple[Glob, ...] = ()
    """paths that only a late glue task may own"""
    limits: Limits = Limits()
    max_tasks: Annotated[int, Field(ge=1, le=100)] = 12
    """tasks in one plan"""
    concurrency: Concurrency = Concurrency()
    attempts: Attempts = Attempts()
    models: Models = Models()
    merge: Literal["rebase", "squash"] = "rebase"
    """how an approved ticket lands on the base branch"""
    landing: Wanted = "auto"
    """the way onto a protected base branch: push (the App may bypass the rules), api (commits that GitHub makes and signs),
    merge_queue (GitHub's own); auto takes what the branch's rules ask for"""
    rungs: Literal["line", "safe", "driver"] = "line"
    """how far a conflict may climb before its author is asked: git's line merge; changes that only touch, and union files;
    the operator's merge driver. What a higher rung merged lands only behind a green check"""
    union: tuple[Glob, ...] = ()
    """files in which both sides' lines are kept, ours first (from rung safe on)"""


class ServerPolicy(Described):
    """The operator's, over all repositories: the file that the setting POLICY names. Read when the server starts."""

    defaults: Policy = Policy()
    """what holds where a repository's own policy says nothing"""
    ceilings: Policy = Policy()
    """what no repository may loosen; where its own policy is stricter, that holds. Lists are added to"""
    models: tuple[str, ...] = ()
    """the models that repositories may name; none: any"""
