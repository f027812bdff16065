"""What was agreed (scope), how it is split (plan) and what one Developer gets (task, version 1)."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import CheckCommand, Frozen, Glob, Instant, Kind, Name, Person, Sha


class Answer(Frozen):
    """What a person answered, as cleaned text."""

    by: str
    at: Instant
    text: str


class Question(Frozen):
    """One question of the Engineer; numbers run over the ticket's whole life."""

    number: int
    text: str
    why: str = ""
    options: tuple[str, ...] = ()
    answer: Answer | None = None


class Scope(Frozen):
    """What a ticket is for, as the Engineer settled it."""

    goal: Annotated[str, Field(min_length=1, max_length=4000)]
    kind: Kind
    acceptance: tuple[str, ...] = ()
    out_of_scope: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()


class Limits(Frozen):
    """The most that one task may change or consume."""

    files: Annotated[int, Field(ge=1)] = 20
    lines: Annotated[int, Field(ge=1)] = 2000
    bytes: Annotated[int, Field(ge=1)] = 1_000_000
    tokens: Annotated[int, Field(ge=1)] = 2_000_000
    minutes: Annotated[int, Field(ge=1)] = 30


class Task(Frozen):
    """The assignment of one Developer: `interlock schema task`."""

    version: Literal[1] = 1
    id: Name
    ticket: Name
    kind: Kind
    title: Annotated[str, Field(min_length=1, max_length=200)]
    brief: Annotated[str, Field(min_length=1, max_length=20_000)]
    owns: Annotated[tuple[Glob, ...], Field(min_length=1)]
    reads: tuple[Glob, ...] = ()
    after: tuple[Name, ...] = ()
    checks: tuple[CheckCommand, ...] = ()
    limits: Limits = Limits()


class Plan(Frozen):
    """A decomposition. `hash` is the SHA-256 over everything else: what a person approves."""

    version: Literal[1] = 1
    ticket: Name
    base: Sha
    tasks: Annotated[tuple[Task, ...], Field(min_length=1)]
    shared: tuple[Glob, ...] = ()
    hash: str = ""


class PlanApproval(Frozen):
    """Who approved which plan; `by` is None when the policy asks nobody."""

    hash: str
    by: Person | None
    at: Instant


class Fault(Frozen):
    """What is wrong with a plan, in a sentence that the Orchestrator can act on."""

    rule: str
    task: str = ""
    message: str
