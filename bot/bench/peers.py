"""The peers: the ways in which others land a change today. Each lands one step after the other on a chain of its own."""

import resource
import shutil
import subprocess
from pathlib import Path
from typing import Protocol

import pygit2

from bot.bench.workload import Step, Workload

WHO = pygit2.Signature("Bench", "bench@example.org", 1_700_000_000, 0)
_ENV = {
    "PATH": "/usr/local/bin:/usr/bin:/bin", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "Bench", "GIT_AUTHOR_EMAIL": "bench@example.org", "GIT_AUTHOR_DATE": "1700000000 +0000",
    "GIT_COMMITTER_NAME": "Bench", "GIT_COMMITTER_EMAIL": "bench@example.org",
    "GIT_COMMITTER_DATE": "1700000000 +0000", "HOME": "/nonexistent",
}  # fmt: skip


class Peer(Protocol):
    """`ready` prepares a step without being measured; `land` is measured and answers the tree that it ended on."""

    name: str

    def ready(self, step: Step) -> None: ...
    def land(self, step: Step) -> str: ...


def git(folder: Path, *args: str, feed: bytes = b"") -> str:
    """One git process; raises CalledProcessError."""
    done = subprocess.run(["git", *args], cwd=folder, input=feed, capture_output=True, env=_ENV, check=True)
    return done.stdout.decode().strip()


class Am:
    """`git am --3way --keep-cr`, a process a change, in a work tree."""

    name = "git am --3way"

    def __init__(self, work: Workload, folder: Path) -> None:
        self._folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        git(work.folder.parent, "clone", "-q", "--shared", "--no-checkout", str(work.folder), str(folder))
        git(folder, "checkout", "-q", "-B", "am", work.start)
        git(folder, "config", "gc.auto", "0")
        git(folder, "config", "core.fsync", "none")

    def ready(self, step: Step) -> None:
        """The mail: the step's patch against its own base."""
        patch = subprocess.run(
            ["git", "diff-tree", "-p", "--binary", "--full-index", "--no-renames", step.base, step.theirs],
            cwd=self._folder, capture_output=True, env=_ENV, check=True,
        ).stdout  # fmt: skip
        head = (
            b"From 0 Mon Sep 17 00:00:00 2001\nFrom: Bench <bench@example.org>\nDate: Tue, 14 Nov 2023 22:13:20 +0000\n"
        )
        self._mail = head + b"Subject: [PATCH] Step\n\nStep\n---\n\n" + patch + b"-- \n2.39\n"

    def land(self, step: Step) -> str:
        """Measured."""
        git(self._folder, "am", "--3way", "--keep-cr", "--quiet", "--no-gpg-sign", feed=self._mail)
        return ""

    def tree(self) -> str:
        """The tree at the end."""
        return git(self._folder, "rev-parse", "HEAD^{tree}")


class MergeTree:
    """`git merge-tree --write-tree`, `git commit-tree`, `git update-ref`: three processes a change, no work tree."""

    name = "merge-tree + commit-tree + update-ref"

    def __init__(self, work: Workload, folder: Path) -> None:
        self._folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        git(work.folder.parent, "clone", "-q", "--bare", "--shared", str(work.folder), str(folder))
        self._repo = pygit2.Repository(str(folder))
        self._head = work.start
        self._landed = {self._tree(work.start): work.start}
        git(folder, "update-ref", "refs/heads/peer", work.start)

    def _tree(self, commit: str) -> str:
        return str(self._repo[commit].peel(pygit2.Tree).id)

    def ready(self, step: Step) -> None:
        """The change as a commit on the peer's own commit of the base's tree (2.39 has no --merge-base)."""
        base = self._landed.get(self._tree(step.base), step.base)
        tree = pygit2.Oid(hex=step.theirs)
        self._change = str(self._repo.create_commit(None, WHO, WHO, "change\n", tree, [pygit2.Oid(hex=base)]))

    def land(self, step: Step) -> str:
        """Measured."""
        tree = git(self._folder, "merge-tree", "--write-tree", self._head, self._change).split()[0]
        commit = git(self._folder, "commit-tree", tree, "-p", self._head, "-m", "Step")
        git(self._folder, "update-ref", "refs/heads/peer", commit, self._head)
        self._head = commit
        self._landed[tree] = commit
        return tree


class WholeIndex:
    """pygit2 as its manual shows it: the head's index in memory, `merge_trees`, `write_tree`, a commit, a ref."""

    name = "pygit2 Index + merge_trees"

    def __init__(self, work: Workload, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        git(work.folder.parent, "clone", "-q", "--bare", "--shared", str(work.folder), str(folder))
        self._repo = pygit2.Repository(str(folder))
        self._head = pygit2.Oid(hex=work.start)
        self._repo.references.create("refs/heads/peer", self._head, force=True)

    def ready(self, step: Step) -> None:
        """Nothing."""

    def land(self, step: Step) -> str:
        """Measured."""
        repo = self._repo
        base, head = repo[step.base].peel(pygit2.Tree), repo[self._head].peel(pygit2.Tree)
        merged = repo.merge_trees(base, head, repo[step.theirs].peel(pygit2.Tree))
        tree = merged.write_tree(repo)
        self._head = repo.create_commit(None, WHO, WHO, "Step\n", tree, [self._head])
        repo.references["refs/heads/peer"].set_target(self._head)
        return str(tree)


def cpu_of_children() -> float:
    """CPU seconds of the processes that were waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
