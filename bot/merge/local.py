"""A local repository as the remote: `interlock merge` composes in it and moves its ref by compare-and-swap."""

import asyncio
import re
from pathlib import Path

import pygit2

from bot.errors import Misconfigured, Transient
from bot.merge.git import run_git
from bot.merge.trees import open_repository
from bot.ports import PushResult

_REF = re.compile(r"(?!.*(?:\.\.|/HEAD\Z))refs(?:/(?![-.])[\w.+=#@,-]{1,200}(?<!\.)(?<!\.lock))+", re.ASCII)
"""Narrower than git's own rule: no name that a shell, an option parser or a reader could take for something else."""


class LocalRemote:
    """`bot.ports.Remote` on a repository of the operator's, bare or not."""

    def __init__(self, path: Path, ref: str) -> None:
        """Raises Misconfigured if there is no repository, or the ref is no safe name or checked out in a work tree."""
        if not _REF.fullmatch(ref):
            raise Misconfigured(f"{ref!a:.200} is no safe ref: take ASCII letters, digits and _.+=#@,- between slashes")
        found = pygit2.discover_repository(str(path))
        if found is None:
            raise Misconfigured(f"{path} is not a git repository")
        pygit2.option(pygit2.enums.Option.ENABLE_FSYNC_GITDIR, True)
        self.git_dir = Path(found).resolve()
        place = ""
        for line in run_git(self.git_dir, "worktree", "list", "--porcelain").stdout.splitlines():
            if line.startswith("worktree "):
                place = line.removeprefix("worktree ")
            elif line == f"branch {ref}":
                mend = "switch that work tree to another branch (git switch --detach), or name another --target"
                raise Misconfigured(f"{ref} is checked out in {place}: {mend}")

    async def head(self, ref: str) -> str | None:
        """The ref's commit, if it exists."""
        found = open_repository(self.git_dir).references.get(ref)
        return None if found is None else str(found.peel(pygit2.Commit).id)

    async def push(self, ref: str, expected_old: str | None, new: str, *, force: bool = False) -> PushResult:
        """git update-ref with the expected old value: git's own lock makes it atomic. Raises Transient when git will not,
        for a lock that stays (it waits ten seconds), a branch that is in the way or a hook: nothing is lost by it."""
        wait = ("-c", "core.filesRefLockTimeout=10000")
        update = (*wait, "update-ref", "-m", "interlock: land", ref, new, expected_old or "0" * 40)
        done = await asyncio.to_thread(run_git, self.git_dir, *update)
        if done.returncode == 0:
            return PushResult("ok")
        if await self.head(ref) == expected_old:
            raise Transient(" ".join(done.stderr.split("\n\n")[0].split()))
        return PushResult("stale", done.stderr.strip())
