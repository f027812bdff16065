"""What the stand-in knows: users, the App, repositories, issues, pull requests, checks. In memory; git objects on disk."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pygit2

from bot.standin.weather import Weather

Json = dict[str, Any]


class ApiError(Exception):
    """An answer of GitHub's that is not a success."""

    def __init__(self, status: int, message: str, errors: list[Any] | None = None, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.headers: dict[str, str] = {}
        self.body: Json = {"message": message, "documentation_url": "https://docs.github.com/rest", **more}
        if status != 422:
            self.body["status"] = str(status)
        if errors is not None:
            self.body["errors"] = errors


def invalid(resource: str, field_: str, code: str, message: str = "") -> ApiError:
    """GitHub's 422 of a field."""
    error: Json = {"resource": resource, "field": field_, "code": code}
    if message:
        error["message"] = message
    return ApiError(422, "Validation Failed", [error])


@dataclass
class User:
    """A person or the App's bot user."""

    id: int
    login: str
    type: str = "User"


@dataclass
class App:
    """The one GitHub App."""

    id: int
    slug: str
    public_key: str
    webhook_url: str
    secret: str
    installation: int
    bot: User
    permissions: Json
    suspended: datetime | None = None
    uninstalled: bool = False
    without: set[int] = field(default_factory=set)
    """Repositories that the App was taken off."""
    more: Json = field(default_factory=dict)


@dataclass
class Token:
    """An installation token: one hour, some repositories, some permissions."""

    value: str
    expires: datetime
    repositories: set[int] | None
    permissions: Json


@dataclass
class Item:
    """An issue or a pull request: they share their numbers."""

    id: int
    number: int
    title: str
    body: str
    user: User
    created: datetime
    updated: datetime
    state: str = "open"
    state_reason: str | None = None
    locked: bool = False
    labels: list[str] = field(default_factory=list)
    comments: list[Json] = field(default_factory=list)
    closed: datetime | None = None
    # of pull requests only
    head_ref: str | None = None
    head_sha: str = ""
    base_ref: str = ""
    base_sha: str = ""
    merged_base: str = ""
    merged: datetime | None = None
    merged_by: User | None = None
    merge_commit: str | None = None
    reviews: list[Json] = field(default_factory=list)


@dataclass
class Repository:
    """A repository and everything in it."""

    id: int
    owner: str
    name: str
    path: Path
    default_branch: str
    created: datetime
    roles: dict[str, str] = field(default_factory=dict)
    archived: bool = False
    items: dict[int, Item] = field(default_factory=dict)
    checks: dict[int, Json] = field(default_factory=dict)
    statuses: dict[str, list[Json]] = field(default_factory=dict)
    suites: dict[str, int] = field(default_factory=dict)
    protected: dict[str, list[str]] = field(default_factory=dict)
    pushed: datetime | None = None
    renamed_branches: dict[str, str] = field(default_factory=dict)
    rulesets: dict[int, Json] = field(default_factory=dict)
    protection: dict[str, Json] = field(default_factory=dict)
    verified: set[str] = field(default_factory=set)
    queue: list[Json] = field(default_factory=list)
    queue_held: bool = False
    removals: dict[int, list[Json]] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def full_name(self) -> str:
        """owner/name."""
        return f"{self.owner}/{self.name}"

    def git(self) -> pygit2.Repository:
        """The bare repository on disk."""
        return pygit2.Repository(str(self.path))

    def refs(self) -> dict[str, str]:
        """Branches and tags with their commits."""
        git = self.git()
        return {name: str(git.references[name].peel(pygit2.Commit).id) for name in git.references}

    def head(self, branch: str) -> str | None:
        """A branch's commit."""
        git = self.git()
        name = f"refs/heads/{branch}"
        return str(git.references[name].peel(pygit2.Commit).id) if name in git.references else None


class State:
    """All of it, and the clock that tests may advance. Every change raises `seq`, so that clients await and never sleep."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.url = ""
        self.prefix = ""
        self.users: dict[str, User] = {}
        self.user_tokens: dict[str, User] = {}
        self.app: App | None = None
        self.tokens: dict[str, Token] = {}
        self.codes: dict[str, tuple[datetime, str]] = {}
        self.repositories: dict[int, Repository] = {}
        self.renamed: dict[str, int] = {}
        self.deliveries: list[Json] = []
        self.requests: list[Json] = []
        self.faults: list[Json] = []
        self.missing_operations: dict[str, str] = {}
        self.seq = 0
        self.offset = timedelta()
        self.began, self.pace = datetime.now(UTC), 1.0
        self.weather = Weather()
        self._ids = 1000
        self._changed = asyncio.Condition()
        self.outgoing: asyncio.Queue[Json] = asyncio.Queue()

    def now(self) -> datetime:
        """The stand-in's time: `pace` times as fast as the machine's since `began`, and moved on by hand."""
        return self.began + (datetime.now(UTC) - self.began) * self.pace + self.offset

    def next_id(self) -> int:
        """Ids are unique over everything."""
        self._ids += 1
        return self._ids

    def touch(self) -> None:
        """Something changed: wake whoever waits for it."""
        self.seq += 1

        async def wake() -> None:
            async with self._changed:
                self._changed.notify_all()

        task = asyncio.ensure_future(wake())
        task.add_done_callback(lambda _: None)

    async def wait(self, after: int, seconds: float) -> int:
        """Until `seq` is over `after`, or for some seconds."""
        deadline = time.monotonic() + seconds
        async with self._changed:
            while self.seq <= after and (left := deadline - time.monotonic()) > 0:
                try:
                    await asyncio.wait_for(self._changed.wait(), left)
                except TimeoutError:
                    break
        return self.seq

    def user(self, login: str) -> User:
        """Find or make a person."""
        if login not in self.users:
            self.users[login] = User(self.next_id(), login)
        return self.users[login]

    def user_token(self, login: str) -> str:
        """A personal token."""
        user = self.user(login)
        for value, owner in self.user_tokens.items():
            if owner is user:
                return value
        value = f"ghp_{secrets.token_hex(18)}"
        self.user_tokens[value] = user
        return value

    def repository(self, owner: str, name: str) -> Repository:
        """By name. Raises ApiError 404, or 301 after a rename."""
        for repo in self.repositories.values():
            if repo.full_name.lower() == f"{owner}/{name}".lower():
                return repo
        raise ApiError(404, "Not Found")

    def item(self, repo: Repository, number: int, *, pull: bool | None = None) -> Item:
        """An issue or pull request by number."""
        found = repo.items.get(number)
        if found is None or (pull is not None and (found.head_ref is not None) != pull):
            raise ApiError(404, "Not Found")
        return found

    def role(self, repo: Repository, user: User) -> str:
        """admin, maintain, write, triage, read or none."""
        if user.login == repo.owner:
            return "admin"
        return repo.roles.get(user.login, "none")


def stamp(moment: datetime | None) -> str | None:
    """As GitHub writes instants."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None
