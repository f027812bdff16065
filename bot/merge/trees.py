"""Trees as maps from path to (oid, mode), read and rewritten only along the touched directories.

Nothing here reads or writes a whole index: the cost follows the size of the change, not of the repository.
"""

from collections import defaultdict
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
    """Two sides cannot both have their way at `path`: its contents differ, or a file stands where a directory must be."""

    def __init__(self, path: str, other: str = "") -> None:
        super().__init__(f"{path!r} cannot exist beside {other!r}")
        self.path = path


def open_repository(git_dir: Path) -> pygit2.Repository:
    """One for each thread: libgit2's objects are not shared between threads."""
    return pygit2.Repository(str(git_dir))


def tree_of(repo: pygit2.Repository, oid: str) -> pygit2.Tree:
    """The tree of a commit or of a tree id. Raises KeyError if it is not here."""
    return repo[oid].peel(pygit2.Tree)


def lookup(tree: pygit2.Tree, path: str) -> Blob | None:
    """What a path names: a file, link or submodule; None for nothing or a directory."""
    try:
        entry = tree[path]
    except KeyError:
        return None
    return None if isinstance(entry, pygit2.Tree) else Blob(str(entry.id), int(entry.filemode))


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
    groups: defaultdict[str, dict[str, Blob | None]] = defaultdict(dict)
    for path, blob in changes.items():
        name, _, rest = path.partition("/")
        groups[name][rest] = blob
    for name, below in groups.items():
        named = "" in below
        file = below.pop("", None)
        known: pygit2.Object | None = builder.get(name)
        if named and file is None and known is not None:
            builder.remove(name)
            known = None
        folder = known if isinstance(known, pygit2.Tree) else None
        if below:
            if known is not None and folder is None and any(below.values()):
                raise Clash(f"{at}{name}/{next(iter(below))}", f"{at}{name}")
            oid = rewrite(repo, folder, below, f"{at}{name}/")
            if oid is not None:
                builder.insert(name, oid, FileMode.TREE)
            elif folder is not None:
                builder.remove(name)
        if file is not None:
            if isinstance(builder.get(name), pygit2.Tree):
                raise Clash(f"{at}{name}", f"{at}{name}/")
            builder.insert(name, file.oid, FileMode(file.mode))
    return str(builder.write()) if len(builder) else None


def rewrite_root(repo: pygit2.Repository, root: pygit2.Tree, changes: Changes) -> str:
    """Like `rewrite`, for a whole commit's tree: an empty one has an oid too."""
    return rewrite(repo, root, changes) or str(repo.TreeBuilder().write())


def changes_between(old: pygit2.Tree | None, new: pygit2.Tree | None, at: str = "") -> dict[str, Blob | None]:
    """What turns one tree into the other (None: an empty one); equal subtrees are not looked at."""
    found: dict[str, Blob | None] = {}
    before = {entry.name: entry for entry in old or () if entry.name}
    after = {entry.name: entry for entry in new or () if entry.name}
    for name in sorted(before.keys() | after.keys()):
        one, two = before.get(name), after.get(name)
        if one is not None and two is not None and one.id == two.id and one.filemode == two.filemode:
            continue
        was = one if isinstance(one, pygit2.Tree) else None
        becomes = two if isinstance(two, pygit2.Tree) else None
        if one is not None and was is None:
            found[at + name] = None  # unless another file takes its place, below
        if was is not None or becomes is not None:
            found |= changes_between(was, becomes, f"{at}{name}/")
        if two is not None and becomes is None:
            found[at + name] = Blob(str(two.id), int(two.filemode))
    return found
