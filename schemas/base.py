"""What all models share: the frozen base, object ids, names and instants."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints


class Frozen(BaseModel):
    """A value: immutable, and unknown keys are refused with their name."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Kinded(Frozen):
    """One of a union that `kind` tells apart. Each class names its own value once:
    `class Ticked(TicketEvent, kind="ticked")` is `kind: Literal["ticked"] = "ticked"`.
    """

    kind: str = ""

    def __init_subclass__(cls, kind: str = "") -> None:
        if kind:
            cls.__annotations__["kind"] = Annotated[Literal[kind], Field(default=kind)]


class Described(Frozen):
    """Read by people: the string under a field is its description, in the JSON Schema and in docs/."""

    model_config = ConfigDict(use_attribute_docstrings=True)


Sha = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
"""A git object id, always all 40 digits; shortened only in messages."""

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._/#~-]{1,200}$")]
"""An id that we derive: ticket `octo/app#12`, task `octo/app#12/3`, run and change request `octo/app#12/3.1`."""

Glob = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
Folder = Annotated[
    str, StringConstraints(pattern=r"^\.?[A-Za-z0-9_-][A-Za-z0-9._-]*(/\.?[A-Za-z0-9_-][A-Za-z0-9._-]*)*$")
]
Mode = Literal["100644", "100755"]
Instant = AwareDatetime
Kind = Literal["feature", "bugfix", "refactor", "docs"]
Role = Literal["engineer", "orchestrator", "developer", "rework"]

Permission = Literal["admin", "write", "read", "none"]
"""As GitHub's collaborator permission answers: maintain counts as write, triage as read."""


class RepoRef(Frozen):
    """A repository, keyed by its id; the name is the one at the time of writing."""

    id: int
    full_name: str

    @property
    def owner(self) -> str:
        """The account before the slash."""
        return self.full_name.split("/", 1)[0]

    @property
    def name(self) -> str:
        """The name behind the slash."""
        return self.full_name.split("/", 1)[1]


class Person(Frozen):
    """Who did something on GitHub, with the permission that GitHub's API gave at that moment (None: not asked)."""

    id: int
    login: str
    type: str = "User"
    permission: Permission | None = None

    @property
    def writes(self) -> bool:
        """Whether this is a person (no bot) who may write to the repository."""
        return self.type == "User" and self.permission in ("admin", "write")


class Environment(Described):
    """What checks and agents need beyond the repository's files. Installed once for each state of the lock files."""

    setup: tuple[Annotated[str, Field(min_length=1, max_length=4000)], ...] = ()
    """commands that install it, at the repository's root, with a way to the registries alone; they write to $INTERLOCK_ENV,
    whose bin/ comes first on PATH afterwards, and to the folders of `keep`"""
    lock_files: tuple[Glob, ...] = ()
    """files whose content says what is installed: another content, another installation"""
    keep: tuple[Folder, ...] = ()
    """folders in the repository that the commands make (node_modules); each run and check finds them there"""
    variables: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], str] = {}
    """environment variables for commands, agents and checks; $INTERLOCK_ENV in them is the folder's path"""
    registries: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]{1,253}$")], ...] = ()
    """hosts that the commands may reach, by HTTPS"""
    minutes: Annotated[int, Field(ge=1, le=240)] = 20
    """how long one command may take"""


class CheckCommand(Frozen):
    """A command that must exit 0 at the tree's root."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    command: Annotated[str, Field(min_length=1, max_length=4000)]
    timeout_seconds: Annotated[int, Field(ge=1, le=7200)] = 600
    standing: bool = False
    """The repository's own: it must pass on the base too, while a task's check may rightly fail there."""


class CiCheck(Frozen):
    """A check of the repository's own CI: a check run of the App with this slug, or (no app) a commit status' context."""

    app: str = ""
    name: Annotated[str, Field(min_length=1, max_length=200)]

    def __str__(self) -> str:
        return f"{self.app}/{self.name}" if self.app else self.name


class Evidence(Frozen):
    """Why a change came back: what the agent that wrote it needs to mend it."""

    reason: str
    check: str | None = None
    command: str | None = None
    exit_code: int | None = None
    log: str = ""
    path: str | None = None
    base: str | None = None
    ours: str | None = None
    theirs: str | None = None
    other: str | None = None
