"""Trees as maps from path to (oid, mode), read and rewritten only along the touched directories.

Nothing here reads or writes a whole index: the cost follows the size of the change, not of the repository.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pygit2
from pygit2.enums import FileMode

FILE_MODES = {"100644": FileMode.BLOB, "100755": FileMode.BLOB_EXECUTABLE}


class Blob(NamedTuple):
    """A file in a tree."""

    oid: str
    mode: int


Changes = Mapping[str, Blob | None]
"""Path to its new file; None removes it."""


class Clash(Exception):
    """A file stands where a directory must be, or the other way round."""

    def __init__(self, path: str, other: str) -> None:
        super().__init__(f"{path!r} cannot exist beside {other!r}")
        self.path, self.other = path, other


def open_repository(git_dir: Path) -> pygit2.Repository:
    """One for each thread: libgit2's objects are not shared between threads."""
    return pygit2.Repository(str(git_dir))


def tree_of(repo: pygit2.Repository, oid: str) -> pygit2.Tree:
    """The tree of a commit or of a tree id. Raises KeyError if it is not here."""
    found = repo[oid]
    return found.peel(pygit2.Tree)


def lookup(tree: pygit2.Tree, path: str) -> Blob | None:
    """What a path names: a file, link or submodule; None for nothing or a directory."""
    try:
        entry = tree[path]
    except KeyError:
        return None
    if entry.filemode == FileMode.TREE:
        return None
    return Blob(str(entry.id), int(entry.filemode))


def is_directory(tree: pygit2.Tree, path: str) -> bool:
    """Whether a path names a directory."""
    try:
        return bool(tree[path].filemode == FileMode.TREE)
    except KeyError:
        return False


def names(tree: pygit2.Tree, directory: str) -> list[str]:
    """The names in a directory ('' or 'a/b/'); none if it does not exist."""
    try:
        found = tree if not directory else tree[directory.rstrip("/")]
    except KeyError:
        return []
    return [entry.name for entry in found if entry.name] if isinstance(found, pygit2.Tree) else []


def rewrite(repo: pygit2.Repository, root: pygit2.Tree | None, changes: Changes, at: str = "") -> str | None:
    """A tree with the changes made, as an oid; None if nothing is left in it. Raises Clash."""
    builder = repo.TreeBuilder(root) if root is not None else repo.TreeBuilder()
    below: dict[str, dict[str, Blob | None]] = {}
    here: dict[str, Blob | None] = {}
    for path, blob in changes.items():
        name, slash, rest = path.partition("/")
        if slash:
            below.setdefault(name, {})[rest] = blob
        else:
            here[name] = blob
    for name, blob in here.items():
        if blob is None:
            if builder.get(name) is not None:
                builder.remove(name)
        elif (known := builder.get(name)) is not None and known.filemode == FileMode.TREE and name not in below:
            raise Clash(f"{at}{name}", f"{at}{name}/")
    for name, inner in below.items():
        known = builder.get(name)
        subtree = None
        if known is not None and known.filemode == FileMode.TREE:
            subtree = repo[known.id].peel(pygit2.Tree)
        elif known is not None and any(blob is not None for blob in inner.values()):
            raise Clash(f"{at}{name}/{next(iter(inner))}", f"{at}{name}")
        oid = rewrite(repo, subtree, inner, f"{at}{name}/")
        if oid is not None:
            builder.insert(name, oid, FileMode.TREE)
        elif known is not None and known.filemode == FileMode.TREE:
            builder.remove(name)
    for name, blob in here.items():
        if blob is None:
            continue
        left = builder.get(name)
        if left is not None and left.filemode == FileMode.TREE:
            raise Clash(f"{at}{name}", f"{at}{name}/")
        builder.insert(name, blob.oid, FileMode(blob.mode))
    return str(builder.write()) if len(builder) else None


def rewrite_root(repo: pygit2.Repository, root: pygit2.Tree, changes: Changes) -> str:
    """Like `rewrite`, for a whole commit's tree: an empty one has an oid too."""
    return rewrite(repo, root, changes) or str(repo.TreeBuilder().write())


def changes_between(repo: pygit2.Repository, old: pygit2.Tree, new: pygit2.Tree) -> dict[str, Blob | None]:
    """What turns one tree into the other; equal subtrees are not looked at."""
    found: dict[str, Blob | None] = {}
    _compare(repo, old, new, "", found)
    return found


def _compare(
    repo: pygit2.Repository, old: pygit2.Tree | None, new: pygit2.Tree | None, at: str, found: dict[str, Blob | None]
) -> None:
    before = {entry.name: entry for entry in old if entry.name} if old is not None else {}
    after = {entry.name: entry for entry in new if entry.name} if new is not None else {}
    for name in sorted(before.keys() | after.keys()):
        one, two = before.get(name), after.get(name)
        if one is not None and two is not None and one.id == two.id and one.filemode == two.filemode:
            continue
        was = repo[one.id].peel(pygit2.Tree) if one is not None and one.filemode == FileMode.TREE else None
        becomes = repo[two.id].peel(pygit2.Tree) if two is not None and two.filemode == FileMode.TREE else None
        if one is not None and was is None and (two is None or becomes is not None):
            found[at + name] = None
        if was is not None or becomes is not None:
            _compare(repo, was, becomes, f"{at}{name}/", found)
        if two is not None and becomes is None:
            found[at + name] = Blob(str(two.id), int(two.filemode))
