"""The repository's policy, `.github/interlock.yml`, read from the base branch only."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import CheckCommand, Frozen, Glob
from schemas.plan import Limits

WhoMay = Literal["admin", "write"]


class PolicyCheck(CheckCommand):
    """A check of the repository; the fast ones gate every task, all of them gate the base branch."""

    fast: bool = True


class Approve(Frozen):
    """Who approves what."""

    plan: Literal["always", "risky", "never"] = Field(
        default="risky",
        description="ask a person to approve the plan: always, for all but one-task low-risk plans, never",
    )
    by: WhoMay = Field(default="write", description="the permission that an approving review needs")
    by_requester: bool | None = Field(
        default=None,
        description="whether the requester's own approval counts; unset: only while the repository has one writer",
    )
    reviews: Annotated[int, Field(ge=1, le=6)] = Field(
        default=1, description="how many approving reviews a ticket needs"
    )


class Questions(Frozen):
    """How long the Engineer waits for answers."""

    deadline_hours: Annotated[float, Field(gt=0)] = Field(default=72, description="hours until silence counts")
    on_silence: Literal["stop", "assume"] = Field(
        default="stop", description="stop the ticket, or go on with the Engineer's own assumptions"
    )


class Concurrency(Frozen):
    """How much runs at once for this repository."""

    runs: Annotated[int, Field(ge=1, le=64)] = Field(default=4, description="agent runs at the same time in one ticket")


class Models(Frozen):
    """The model a role asks for; unset: the operator's default."""

    engineer: str | None = None
    orchestrator: str | None = None
    developer: str | None = None


class Attempts(Frozen):
    """How often something is tried before a person is asked."""

    task: Annotated[int, Field(ge=1, le=10)] = Field(default=3, description="runs of one task that may fail")
    plan: Annotated[int, Field(ge=1, le=10)] = Field(default=3, description="runs of the Orchestrator that may fail")
    scope: Annotated[int, Field(ge=1, le=10)] = Field(
        default=3, description="runs of the Engineer that may fail in a row"
    )


class Policy(Frozen):
    """Everything a maintainer may set. Unknown keys are refused with their name."""

    trigger: WhoMay = Field(default="write", description="the permission that labelling, answering and commands need")
    questions: Questions = Questions()
    approve: Approve = Approve()
    checks: tuple[PolicyCheck, ...] = Field(default=(), description="commands that must pass before anything lands")
    protected: tuple[Glob, ...] = Field(
        default=(".github/**", ".git*", "CODEOWNERS", "**/AGENTS.md", ".mcp.json"),
        description="paths whose change waits for a person's release",
    )
    shared: tuple[Glob, ...] = Field(default=(), description="paths that only a late glue task may own")
    limits: Limits = Limits()
    max_tasks: Annotated[int, Field(ge=1, le=100)] = Field(default=12, description="tasks in one plan")
    concurrency: Concurrency = Concurrency()
    attempts: Attempts = Attempts()
    models: Models = Models()
    merge: Literal["rebase", "squash"] = Field(
        default="rebase", description="how an approved ticket lands on the base branch"
    )
