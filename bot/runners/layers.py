"""Workspaces without copies: a tree is written once, and every run sees it through an overlay with a layer of its own.

    lowest   files of a tree that was written whole
             its git dir, for agents
             what another tree has instead (files, and overlayfs's mark for those that are gone), with its git dir
    highest  what this run writes

So a run's start costs what differs from a tree that is there already, not the repository's size. A run never changes a
lower layer: overlayfs copies a file up before it is written (docs.kernel.org/filesystems/overlayfs.html). Where the
sandbox has no overlays (mode off, older kernels) each run gets a copy.
"""

import asyncio
import itertools
import os
import stat
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from bot.errors import Transient
from bot.runners import workspace
from bot.runners.sandbox import Layers, Sandbox
from bot.runners.workspace import GIT, GIT_ENV, File, Workspace

NEAR = 5000
"""How many files may differ from a tree that is there; a tree further away is written whole."""
GIT_SECONDS = 300.0
_COMMIT = "git add --all --force && git commit -q --allow-empty --no-verify --no-gpg-sign --amend -m base"
_CONFIG = """[core]
\tcheckStat = minimal
\ttrustctime = false
\tfsync = none
[gc]
\tauto = 0
[user]
\tname = Interlock
\temail = interlock@localhost
"""
"""An overlay's inodes are not those of its layers: without the first two git would read every file again."""


@dataclass(eq=False)
class _Tree:
    """A tree on disk. `onto` is the whole tree that it is a difference from; `users` run in it or stand on it."""

    space: Workspace
    files: Mapping[bytes, File]
    folder: Path
    onto: "_Tree | None"
    users: int = 0
    used: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def lower(self, *, git: bool) -> tuple[Path, ...]:
        """The layers from the lowest up."""
        below = self.onto.lower(git=git) if self.onto else ()
        return (*below, self.folder / "files", *((self.folder / "git",) if git else ()))


class Trees:
    """Gives runs and checks their workspaces, and takes them back. One for each sandbox."""

    def __init__(self, sandbox: Sandbox, *, whole: int = 6, near: int = 64) -> None:
        """`whole` and `near` trees are kept while nobody uses them."""
        self._sandbox, self._area = sandbox, sandbox.area / "trees"
        self._kept = ((near, False), (whole, True))
        self._known: dict[tuple[Path, str], _Tree] = {}
        self._numbers = itertools.count(1)
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def workspace(self, git_dir: Path, commit: str, folder: Path, *, git: bool) -> AsyncIterator[Workspace]:
        """A commit's or tree's files at `folder`, as runs see it; for agents with a git dir of one commit. Gone afterwards.

        Raises KeyError for an unknown id, and Transient if it cannot be made.
        """
        if not self._sandbox.layered:
            make = workspace.prepare if git else workspace.export
            await asyncio.to_thread(workspace.remove, folder)
            try:
                yield await asyncio.to_thread(make, git_dir, commit, folder)
            finally:
                await asyncio.to_thread(workspace.remove, folder)
            return
        space = await asyncio.to_thread(workspace.read, git_dir, commit, folder)
        async with self._lock:
            tree = await self._tree(space)
            tree.users += 1
        own = self._area / f"run-{next(self._numbers)}"
        layers = Layers((), own / "upper", own / "work")
        try:
            if git:
                await self._with_git(tree)
            await asyncio.to_thread(self._sandbox.make, layers)
            self._sandbox.layers[folder] = layers._replace(lower=tree.lower(git=git))
            yield replace(space, upper=layers.upper)
        finally:
            tree.users -= 1
            self._sandbox.layers.pop(folder, None)
            await asyncio.to_thread(workspace.remove, own)
            await self._forget()

    async def _tree(self, space: Workspace) -> _Tree:
        """The tree, written if it is not there."""
        key = (space.git_dir, space.tree)
        found = self._known.get(key)
        if found is None:
            files = await asyncio.to_thread(workspace.placed, space)
            found = await asyncio.to_thread(self._written, space, files)
            self._known[key] = found
        found.used = next(self._numbers)
        if found.onto:
            found.onto.used = found.used
        return found

    def _written(self, space: Workspace, files: Mapping[bytes, File]) -> _Tree:
        whole = [one for one in self._known.values() if one.onto is None and one.space.git_dir == space.git_dir]
        near = max(whole, key=lambda one: one.used, default=None)
        fresh, gone = files, set[bytes]()
        if near is not None:
            fresh = {path: file for path, file in files.items() if near.files.get(path) != file}
            gone = {path for path in near.files if path not in files}
            if len(fresh) + len(gone) > NEAR:
                near, fresh, gone = None, files, set()
        made = _Tree(space, files, self._area / f"tree-{next(self._numbers)}", near)
        place = made.folder / "files"
        place.mkdir(parents=True)
        workspace.write_all(space, fresh, place)
        _mark_gone(place, gone)
        self._sandbox.give(place)
        if near is not None:
            near.users += 1
        return made

    async def _with_git(self, tree: _Tree) -> None:
        """Its git dir, in a layer of its own: made of the whole tree on our side, brought up to date inside."""
        if tree.onto:
            await self._with_git(tree.onto)
        place = tree.folder / "git"
        async with tree.lock:
            if place.exists():
                return
            new = tree.folder / "git.new"
            await asyncio.to_thread(workspace.remove, new)
            if tree.onto is None:
                await asyncio.to_thread(_init, tree, new)
                await asyncio.to_thread(self._sandbox.give, new)
            else:
                await self._amend(tree, new)
            new.rename(place)

    async def _amend(self, tree: _Tree, new: Path) -> None:
        layers = Layers(tree.lower(git=True)[:-1], new, tree.folder / "work")
        await asyncio.to_thread(self._sandbox.make, layers)
        at = tree.folder / "at"
        self._sandbox.layers[at] = layers
        try:
            done = await self._sandbox.run(_COMMIT, at, GIT_SECONDS, GIT_ENV)
        finally:
            del self._sandbox.layers[at]
        if done.exit_code != 0:
            raise Transient(f"the workspace could not be made: {done.output[-300:]}")

    async def _forget(self) -> None:
        """Take the trees away that nobody used for longest."""
        for limit, whole in self._kept:
            idle = [(key, one) for key, one in self._known.items() if (one.onto is None) is whole and not one.users]
            for key, one in sorted(idle, key=lambda item: item[1].used)[: max(0, len(idle) - limit)]:
                del self._known[key]
                if one.onto:
                    one.onto.users -= 1
                await asyncio.to_thread(workspace.remove, one.folder)


def _mark_gone(folder: Path, gone: set[bytes]) -> None:
    """Overlayfs's mark for what is no longer there. A file that became a directory, or the reverse, needs none."""
    for path in gone:
        place = os.path.join(os.fsencode(folder), path)
        try:
            os.makedirs(os.path.dirname(place), exist_ok=True)
            os.mknod(place, stat.S_IFCHR, os.makedev(0, 0))
        except (FileExistsError, NotADirectoryError):
            continue


def _init(tree: _Tree, place: Path) -> None:
    """A git dir with one commit of the tree's files, its objects in one pack that is copied from the mirror's."""
    git_dir = place / ".git"
    ours = [*GIT, f"--git-dir={git_dir}", f"--work-tree={tree.folder / 'files'}"]

    def git(*words: str, stdin: str = "") -> None:
        subprocess.run(words, input=stdin.encode(), env=GIT_ENV, check=True, capture_output=True, timeout=GIT_SECONDS)

    git(*GIT, "init", "-q", "--initial-branch=work", str(place))
    with (git_dir / "config").open("a") as config:
        config.write(_CONFIG)
    pack = ("pack-objects", "-q", "--revs", "--window=0", "--delta-base-offset", f"{git_dir}/objects/pack/pack")
    git("git", f"--git-dir={tree.space.git_dir}", *pack, stdin=f"{tree.space.tree}\n")
    git(*ours, "read-tree", tree.space.tree)
    git(*ours, "add", "--all", "--force")
    git(*ours, "commit", "-q", "--allow-empty", "--no-verify", "--no-gpg-sign", "-m", "base")
