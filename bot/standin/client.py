"""Driving the stand-in from outside: its process, its scene (users, App, repository) and people's REST calls."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from bot.standin import record
from bot.standin.errors import NoScene, Refused

STOP_SECONDS = 10.0
PEOPLE = {"alice": "write", "bob": "admin"}
"""Who is there, with their role: one asks for work, one reviews it."""
SAMPLE = Path(__file__).resolve().parent / "sample"
"""A project with an issue, the answers to its questions, and the playbook of a model that does the work."""


@dataclass(frozen=True)
class Made:
    """A repository on the stand-in, with what its default branch was pushed from."""

    id: int
    full_name: str
    branch: str
    head: str


class LocalGitHub:
    """A stand-in's address and the tokens of its people."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url, self._session = url, session
        self._tokens: dict[str, str] = {}

    async def control(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """One call under /_standin/: POST with a body, else GET."""
        method = "GET" if body is None else "POST"
        async with self._session.request(method, f"{self.url}/_standin/{path}", json=body) as answer:
            return await answer.json()

    async def user(self, login: str) -> None:
        """Make a person who can act."""
        self._tokens[login] = (await self.control("users", {"login": login}))["token"]

    async def as_user(self, login: str, method: str, path: str, body: Any = None) -> Any:
        """One REST call as a person. Raises Refused with GitHub's words."""
        headers = {"Authorization": f"Bearer {self._tokens[login]}"}
        async with self._session.request(method, f"{self.url}{path}", json=body, headers=headers) as answer:
            found = await answer.json() if answer.status != 204 else None
            if answer.status >= 400:
                raise Refused(f"{method} {path} as {login}: {answer.status} {found}")
            return found

    async def wait(self, after: int, seconds: float = 10.0) -> int:
        """Until something has changed on the stand-in; the new sequence number."""
        return int((await self.control(f"wait?after={after}&timeout={seconds:g}"))["seq"])

    async def quiet(self, seconds: float = 1.0) -> None:
        """Until nothing has changed for a moment: last check runs and comments are still under way at the end."""
        sequence = -1
        while (now := await self.wait(sequence, seconds)) != sequence:
            sequence = now

    async def register_app(self, key_file: Path, secret: str) -> int:
        """Make the App, signing its webhooks with `secret`; its private key goes to `key_file`. The App's id."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        key_file.touch(mode=0o600)
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return int((await self.control("app", {"public_key": public.decode(), "secret": secret}))["app_id"])

    async def push(self, repo: Path, full_name: str, roles: Mapping[str, str]) -> Made:
        """Make a repository and push HEAD's commits as its default branch; `repo` is never written to."""
        head = (await git(repo, "rev-parse", "--verify", "HEAD^{commit}")).strip()
        if (await git(repo, "rev-parse", "--is-shallow-repository")).strip() == "true":
            raise NoScene(f"{repo} is a shallow clone: run git fetch --unshallow in it first")
        named = (await git(repo, "rev-parse", "--abbrev-ref", "HEAD")).strip()
        branch = named if named not in ("HEAD", "interlock") else "main"
        owner = full_name.split("/")[0]
        made = await self.control(
            "repositories", {"full_name": full_name, "default_branch": branch, "roles": dict(roles)}
        )
        if owner not in self._tokens:
            await self.user(owner)
        url = self.url.replace("://", f"://{owner}:{self._tokens[owner]}@")
        await git(repo, "-c", "core.hooksPath=/dev/null", "push", "-q", "--no-verify",
                  f"{url}/{full_name}.git", f"{head}:refs/heads/{branch}")  # fmt: skip
        return Made(made["id"], full_name, branch, head)


def name_for(repo: Path) -> str:
    """octo/<the folder's name>, as GitHub allows names."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", repo.resolve().name).removesuffix(".git").strip(".-")
    return f"octo/{name or 'project'}"


async def make_sample(folder: Path) -> Path:
    """The sample project as a repository of one commit."""
    await asyncio.to_thread(shutil.copytree, SAMPLE / "project", folder, ignore=shutil.ignore_patterns("__pycache__"))
    identity = ("-c", "user.name=Alice", "-c", "user.email=alice@example.org")
    await git(folder, "init", "-q", "--initial-branch=main")
    await git(folder, "add", "--all")
    await git(folder, *identity, "commit", "-q", "-m", "Keep a list of what is in the kitchen")
    return folder


async def git(repo: Path, *args: str) -> str:
    """git in somebody's repository, with nothing of theirs or ours run on the way. Raises NoScene."""
    env = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C",
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        "git", "-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-C", str(repo), *args, env=env,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, error = await process.communicate()
    if process.returncode != 0:
        what = error.decode("utf-8", "replace").strip().splitlines()
        raise NoScene(f"{repo}: git {args[0]} failed: {what[-1] if what else process.returncode}")
    return out.decode("utf-8", "replace")


@asynccontextmanager
async def process(
    *module: str, env: Mapping[str, str], log: Path, cwd: Path | None = None
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A Python module of ours as a process of its own; its first line on stdout. Stopped when the block ends."""
    with log.open("ab") as errors:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", *module, env=dict(env), cwd=cwd, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=errors, start_new_session=True,
        )  # fmt: skip
    try:
        assert child.stdout is not None
        first = (await child.stdout.readline()).decode().strip()
        if not first:
            await child.wait()
            last = log.read_text("utf-8", "replace").strip().splitlines()
            raise NoScene(f"{module[0]} did not start: {last[-1] if last else child.returncode}")
        yield child, first
    finally:
        await stop(child)


@asynccontextmanager
async def started(folder: Path, env: Mapping[str, str]) -> AsyncIterator[LocalGitHub]:
    """A stand-in as a process, its data and log in `folder`, with PEOPLE."""
    env = {**env, **{name: os.environ[name] for name in (record.ENVIRONMENT,) if name in os.environ}}
    stand_in = process("bot.standin.main", "--data", str(folder / "github"), env=env, log=folder / "github.log")
    async with stand_in as (_, url), aiohttp.ClientSession() as session:
        github = LocalGitHub(url, session)
        for login in PEOPLE:
            await github.user(login)
        yield github


async def stop(child: asyncio.subprocess.Process) -> None:
    """SIGTERM, then SIGKILL to its whole group."""
    if child.returncode is None:
        child.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await child.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    await child.wait()
