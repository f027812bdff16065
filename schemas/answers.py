"""How agents answer: the parameters of our tools (contract.md, Agent protocol). Bad ones come back naming the field."""

from typing import Annotated

from pydantic import Field

from schemas.base import Frozen, Glob, Kind
from schemas.plan import Scope

Text = Annotated[str, Field(min_length=1, max_length=4000)]
Line = Annotated[str, Field(min_length=1, max_length=200)]
Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,60}$")]


class AskedQuestion(Frozen):
    """One question to the people behind the issue."""

    id: Line
    text: Text
    why: Annotated[str, Field(max_length=1000)] = ""
    options: Annotated[tuple[Line, ...], Field(max_length=8)] = ()


class AskQuestions(Frozen):
    """Only what cannot be found in the repository and changes the work."""

    questions: Annotated[tuple[AskedQuestion, ...], Field(min_length=1, max_length=8)]


class SubmitScope(Scope):
    """What the ticket is for, and what it is not for."""

    acceptance: Annotated[tuple[Text, ...], Field(max_length=30)] = ()
    out_of_scope: Annotated[tuple[Text, ...], Field(max_length=30)] = ()
    assumptions: Annotated[tuple[Text, ...], Field(max_length=30)] = ()


class Decline(Frozen):
    """Why this should not be done."""

    reason: Text


class PlannedCheck(Frozen):
    """A command that must exit 0 at the tree's root once the task is done."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    command: Text


class PlannedTask(Frozen):
    """A task of the plan; `key` is how `after` refers to it."""

    key: Key
    title: Line
    kind: Kind
    brief: Annotated[str, Field(min_length=1, max_length=20_000)]
    owns: Annotated[tuple[Glob, ...], Field(min_length=1, max_length=200)]
    reads: Annotated[tuple[Glob, ...], Field(max_length=200)] = ()
    after: Annotated[tuple[Key, ...], Field(max_length=100)] = ()
    checks: Annotated[tuple[PlannedCheck, ...], Field(max_length=20)] = ()


class SubmitPlan(Frozen):
    """The decomposition; `shared` are paths that only a last task may own."""

    tasks: Annotated[tuple[PlannedTask, ...], Field(min_length=1, max_length=100)]
    shared: Annotated[tuple[Glob, ...], Field(max_length=100)] = ()


class Finish(Frozen):
    """The work is done."""

    summary: Annotated[str, Field(min_length=1, max_length=20_000)]


class RequestFile(Frozen):
    """A file outside of what the task owns."""

    path: Annotated[str, Field(min_length=1, max_length=1024)]
    why: Text


class GiveUp(Frozen):
    """This cannot be done, and why."""

    reason: Text
