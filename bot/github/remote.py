"""Fetching and pushing: a bare mirror for each repository, driven by the git command line.

The credential travels in the child's environment, never in an argument, an address or a file. What a push did is
decided by reading the ref back, not by its exit code.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import shutil
import signal
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path

import pygit2

from bot.errors import Rejected, Transient
from bot.github.app import GitHubApp
from bot.ports import PushResult
from bot.rules.sanitise import redacted
from schemas.base import RepoRef

GIT_SECONDS = 300.0
_CONFIG = {
    "core.fsyncObjectFiles": "true", "core.protectHFS": "true", "core.protectNTFS": "true", "gc.auto": "0",
    "core.hooksPath": "/dev/null", "transfer.fsckObjects": "false",
}  # fmt: skip
_REFUSED = re.compile(
    r"(GH0\d\d[^\n]*|pre-receive hook declined[^\n]*|remote rejected[^\n]*|protected branch[^\n]*)", re.I
)

Token = Callable[[], Awaitable[str]]


class Mirrors:
    """Makes remotes; one mirror and one lock for each repository."""

    def __init__(self, app: GitHubApp, git_url: str, folder: Path) -> None:
        self._app, self._git_url, self._folder = app, git_url, folder
        self._locks: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._opened: set[int] = set()

    async def remote(self, repo: RepoRef, installation: int) -> GitHubRemote:
        """The remote of a repository, its mirror made if it is not there yet."""
        git_dir = self._folder / f"{repo.id}.git"
        async with self._locks[repo.id]:
            if repo.id not in self._opened:
                await asyncio.to_thread(_open_mirror, git_dir)
                self._opened.add(repo.id)
        url = self._git_url.format(owner=repo.owner, repo=repo.name)

        async def token() -> str:
            return await self._app.token(repo, installation)

        return GitHubRemote(git_dir, url, token, self._locks[repo.id])


def _open_mirror(git_dir: Path) -> None:
    """Make the mirror whole or not at all, and clear what a killed process of ours left locked in it."""
    if git_dir.exists():
        for lock in git_dir.rglob("*.lock"):
            lock.unlink(missing_ok=True)
        return
    pygit2.option(pygit2.enums.Option.ENABLE_FSYNC_GITDIR, True)
    new = git_dir.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    new.parent.mkdir(parents=True, exist_ok=True)
    repo = pygit2.init_repository(str(new), bare=True)
    for name, value in _CONFIG.items():
        repo.config[name] = value
    new.rename(git_dir)


class GitHubRemote:
    """`bot.ports.Remote` over HTTP."""

    def __init__(self, git_dir: Path, url: str, token: Token, lock: asyncio.Lock) -> None:
        self._git_dir, self._url, self._token, self._lock = git_dir, url, token, lock

    @property
    def git_dir(self) -> Path:
        """Our bare mirror."""
        return self._git_dir

    async def head(self, ref: str) -> str | None:
        """One ls-remote; a fetch only if the commit is not here yet. Raises Transient, or Rejected without access."""
        async with self._lock:
            code, out, error = await self._git("ls-remote", "--exit-code", self._url, ref)
            if code == 2:
                return None
            if code != 0:
                raise _failure(error)
            sha = next((line.split("\t")[0] for line in out.splitlines() if line.endswith(f"\t{ref}")), None)
            if sha is None:
                return None
            if not await asyncio.to_thread(_has, self._git_dir, sha):
                kept = f"refs/interlock/fetched/{ref.removeprefix('refs/')}"
                code, _, error = await self._git("fetch", "--no-tags", "--quiet", self._url, f"+{ref}:{kept}")
                if code != 0:
                    raise _failure(error)
                if not await asyncio.to_thread(_has, self._git_dir, sha):
                    raise Transient(f"{ref} moved while it was fetched")
            return sha

    async def push(self, ref: str, expected_old: str | None, new: str, *, force: bool = False) -> PushResult:
        """Compare-and-swap by --force-with-lease with an explicit old value."""
        lease = f"--force-with-lease={ref}:{expected_old or ''}"
        async with self._lock:
            if (
                expected_old is not None
                and not force
                and not await asyncio.to_thread(_descends, self._git_dir, new, expected_old)
            ):
                return PushResult("stale", "the new commit does not descend from the old one")
            code, out, error = await self._git("push", "--porcelain", "--no-verify", lease, self._url, f"{new}:{ref}")
        text = redacted(f"{out}\n{error}")
        if code == 0:
            return PushResult("ok")
        if "stale info" in text or "fetch first" in text or "cannot lock ref" in text:
            return PushResult("stale", text.strip()[-500:])
        if found := _REFUSED.search(text):
            return PushResult("refused", found[1].strip())
        return PushResult("unknown", text.strip()[-500:])

    async def _git(self, *args: str) -> tuple[int, str, str]:
        credential = base64.b64encode(f"x-access-token:{await self._token()}".encode()).decode()
        env = {
            "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(self._git_dir), "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_TERMINAL_PROMPT": "0",
            "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "http.extraHeader",
            "GIT_CONFIG_VALUE_0": f"Authorization: Basic {credential}",
        }  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            "git", f"--git-dir={self._git_dir}", *args, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=env, start_new_session=True,
        )  # fmt: skip
        try:
            async with asyncio.timeout(GIT_SECONDS):
                out, error = await process.communicate()
        except (TimeoutError, asyncio.CancelledError):
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            raise
        return process.returncode or 0, out.decode("utf-8", "replace"), error.decode("utf-8", "replace")


def _failure(error: str) -> Exception:
    text = redacted(error).strip()[-500:]
    if "Authentication failed" in text or "403" in text or "404" in text or "not found" in text:
        return Rejected(f"the repository cannot be read by git: {text}")
    return Transient(f"git could not reach the repository: {text}")


def _has(git_dir: Path, sha: str) -> bool:
    repo = pygit2.Repository(str(git_dir))
    return sha in repo


def _descends(git_dir: Path, new: str, old: str) -> bool:
    return bool(new == old or pygit2.Repository(str(git_dir)).descendant_of(new, old))
