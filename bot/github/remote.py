"""Fetching and pushing: a bare mirror for each repository, driven by the git command line.

The credential is in a file of git configuration that is in memory alone and that only the child has open: never in an
argument, an environment, an address or on a disk. What a push did is decided by reading the ref back, not by its exit
code.
"""

import asyncio
import base64
import contextlib
import os
import re
import shutil
import signal
from collections import defaultdict
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pygit2

from bot.errors import Away, Rejected, Transient
from bot.github.app import GitHubApp
from bot.github.tokens import Purpose
from bot.ports import PushResult
from bot.rules.sanitise import redacted
from schemas.base import RepoRef

GIT_SECONDS = 300.0
READ_RETRIES = (0.5, 1.0)
"""Seconds after which a read that failed is repeated at once: a train needs many, and begins again if one fails."""
_CONFIG = {
    "core.fsyncObjectFiles": "true", "core.protectHFS": "true", "core.protectNTFS": "true", "gc.auto": "0",
    "core.hooksPath": "/dev/null", "transfer.fsckObjects": "false",
}  # fmt: skip
_CODE = re.compile(r"GH0\d\d[^\n]*")
_REFUSED = re.compile(r"(?:pre-receive hook declined|remote rejected|protected branch)[^\n]*", re.I)
_RULE = re.compile(r"^remote: (?:- |error: (?!GH|hook ))([^\n]*)", re.M)
"""GitHub names each broken rule on a line of its own: of rulesets with a dash, of classic protection as an error."""
_RULES = re.compile(r"GH006|GH013")
"""Branch protection and rulesets; a push that holds a secret breaks a rule, too, and is the change's own fault."""
_FINAL = re.compile(r"Authentication failed for|URL returned error: 40[34]\b|^fatal: repository '.*' not found$", re.M)
"""Git's own words for what no repetition mends; an address may hold the same digits."""


class GitHubRemote:
    """`bot.ports.Remote` over HTTP."""

    def __init__(
        self, git_dir: Path, url: str, token: Callable[[Purpose], Awaitable[str]], lock: asyncio.Lock,
        forget: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self.git_dir, self._url, self._token, self._lock, self._forget = git_dir, url, token, lock, forget

    async def head(self, ref: str) -> str | None:
        """One ls-remote; a fetch only if the commit is not here yet. Raises Transient, or Rejected without access."""
        async with self._lock:
            listed = await self._read("ls-remote", self._url, ref)
            sha = next((line.split("\t")[0] for line in listed.splitlines() if line.endswith(f"\t{ref}")), None)
            if sha is not None and not await asyncio.to_thread(_has, self.git_dir, sha):
                kept = f"refs/interlock/fetched/{ref.removeprefix('refs/')}"
                await self._read("fetch", "--no-tags", "--quiet", self._url, f"+{ref}:{kept}")
                if not await asyncio.to_thread(_has, self.git_dir, sha):
                    raise Transient(f"{ref} moved while it was fetched")
            return sha

    async def push(self, ref: str, expected_old: str | None, new: str, *, force: bool = False) -> PushResult:
        """Compare-and-swap by --force-with-lease with an explicit old value. A refusal names the rules that were broken."""
        lease = f"--force-with-lease={ref}:{expected_old or ''}"
        async with self._lock:
            if not force and not await asyncio.to_thread(_descends, self.git_dir, new, expected_old):
                return PushResult("stale", "the new commit does not descend from the old one")
            code, out, error = await self._git("push", "--porcelain", "--no-verify", lease, self._url, f"{new}:{ref}")
        if code == 0:
            return PushResult("ok")
        text = redacted(f"{out}\n{error}").strip()
        stale = any(sign in text for sign in ("stale info", "fetch first", "cannot lock ref"))
        if not stale and (found := _CODE.search(text) or _REFUSED.search(text) or _FINAL.search(text)):
            rules = "; ".join(dict.fromkeys(rule.strip().rstrip(".") for rule in _RULE.findall(text)))
            said = ": ".join(filter(None, (found[0].strip().rstrip("."), rules)))
            return PushResult("closed" if _RULES.match(said) and "secret" not in said else "refused", said)
        return PushResult("stale" if stale else "unknown", text[-500:])

    async def _read(self, *args: str) -> str:
        forgotten = False
        for wait in (*READ_RETRIES, 0.0):
            code, out, error = await self._git(*args)
            if code == 0:
                return out
            text = redacted(error).strip()[-500:]
            if _FINAL.search(error) and forgotten:
                raise Rejected(f"the repository cannot be read by git: {text}")
            if _FINAL.search(error):  # minting a new token says more than git does, or helps
                self._forget()
                forgotten = True
            else:
                await asyncio.sleep(wait)
        raise Away(f"git could not reach the repository: {text}")

    async def _git(self, *args: str) -> tuple[int, str, str]:
        token = await self._token("push" if args[0] == "push" else "fetch")
        credential = base64.b64encode(f"x-access-token:{token}".encode()).decode()
        config = os.memfd_create("git-config")
        try:
            os.write(config, f"[http]\n\textraHeader = Authorization: Basic {credential}\n".encode())
            env = {
                "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(self.git_dir), "LC_ALL": "C",
                "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_TERMINAL_PROMPT": "0",
                "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "include.path",
                "GIT_CONFIG_VALUE_0": f"/proc/self/fd/{config}",
            }  # fmt: skip
            process = await asyncio.create_subprocess_exec(
                "git", f"--git-dir={self.git_dir}", *args, stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=env, start_new_session=True,
                pass_fds=(config,),
            )  # fmt: skip
        finally:
            os.close(config)
        try:
            async with asyncio.timeout(GIT_SECONDS):
                out, error = await process.communicate()
        except TimeoutError:
            raise Away(f"git {args[0]} had no answer within {GIT_SECONDS:g} seconds") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):  # it may have ended just now
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        return process.returncode or 0, out.decode("utf-8", "replace"), error.decode("utf-8", "replace")


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
        token, forget = partial(self._app.token, repo, installation), partial(self._app.forget, repo, installation)
        return GitHubRemote(git_dir, url, token, self._locks[repo.id], forget)


def _open_mirror(git_dir: Path) -> None:
    """Make the mirror whole or not at all, and clear what a killed process of ours left locked in it."""
    pygit2.option(pygit2.enums.Option.ENABLE_FSYNC_GITDIR, True)
    if git_dir.exists():
        for lock in git_dir.rglob("*.lock"):
            lock.unlink(missing_ok=True)
        return
    new = git_dir.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    new.parent.mkdir(parents=True, exist_ok=True)
    repo = pygit2.init_repository(str(new), bare=True)
    for name, value in _CONFIG.items():
        repo.config[name] = value
    new.rename(git_dir)


def _has(git_dir: Path, sha: str) -> bool:
    return sha in pygit2.Repository(str(git_dir))


def _descends(git_dir: Path, new: str, old: str | None) -> bool:
    return old is None or new == old or pygit2.Repository(str(git_dir)).descendant_of(new, old)
