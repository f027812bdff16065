"""A local repository as the remote: `interlock merge` composes in it and moves its ref by compare-and-swap."""

import asyncio
import re
from pathlib import Path

import pygit2

from bot.disk import keep_names
from bot.errors import Misconfigured, Transient
from bot.merge.git import run_git
from bot.ports import PushResult

_REF = re.compile(r"(?!.*(?:\.\.|/HEAD\Z))refs(?:/(?![-.])[\w.+=#@,-]{1,200}(?<!\.)(?<!\.lock))+", re.ASCII)
"""Narrower than git's own rule: no name that a shell, an option parser or a reader could take for something else."""


def find_git_dir(path: Path) -> Path:
    """The git dir that all work trees of a repository share. Raises Misconfigured if there is none."""
    found = pygit2.discover_repository(str(path))
    if found is None:
        raise Misconfigured(f"{path} is not a git repository")
    shared = Path(found, "commondir")  # a linked work tree names the repository's own directory in it
    return Path(found, shared.read_text("utf-8").strip() if shared.exists() else "").resolve()


class LocalRemote:
    """`bot.ports.Remote` on a repository of the operator's, bare or not."""

    def __init__(self, path: Path, ref: str) -> None:
        """Raises Misconfigured if there is no repository, or the ref is no safe name or checked out in a work tree."""
        if not _REF.fullmatch(ref):
            raise Misconfigured(f"{ref!a:.200} is no safe ref: take ASCII letters, digits and _.+=#@,- between slashes")
        self.git_dir = find_git_dir(path)
        place = ""
        for line in run_git(self.git_dir, "worktree", "list", "--porcelain").stdout.splitlines():
            if line.startswith("worktree "):
                place = line.removeprefix("worktree ")
            elif line == f"branch {ref}":
                mend = "switch that work tree to another branch (git switch --detach), or name another --target"
                raise Misconfigured(f"{ref} is checked out in {place}: {mend}")

    async def head(self, ref: str) -> str | None:
        """The ref's commit, if it exists; put on disk before anybody relies on it, since git fsyncs no directory."""
        found = pygit2.Repository(str(self.git_dir)).references.get(ref)
        above = (self.git_dir / ref).parents
        keep_names(*(folder for folder in above if folder.is_relative_to(self.git_dir) and folder.is_dir()))
        return None if found is None else str(found.peel(pygit2.Commit).id)

    async def push(self, ref: str, expected_old: str | None, new: str, *, force: bool = False) -> PushResult:
        """git update-ref with the expected old value: git's own lock makes it atomic. By default it fsyncs no ref.

        Whoever else moves the ref is waited for. Raises Transient if nobody has: a git that was killed left its lock.
        """
        config = ("-c", "core.fsync=all", "-c", "core.filesRefLockTimeout=3000")
        update = ("update-ref", "-m", "interlock: land", ref, new, expected_old or "0" * 40)
        done = await asyncio.to_thread(run_git, self.git_dir, *config, *update)
        if done.returncode and await self.head(ref) == expected_old:
            raise Transient(f"{ref} could not be moved: {' '.join(done.stderr.split())}")
        return PushResult("stale" if done.returncode else "ok", done.stderr.strip())
