"""Trees as maps from path to (oid, mode), read and rewritten only along the touched directories.

Nothing here reads or writes a whole index: the cost follows the size of the change, not of the repository. The patch
digest is what an approval is bound to. It stays the same over a rebase that changes nothing.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pygit2
from pygit2.enums import FileMode

FILE_MODES = {"100644": FileMode.BLOB, "100755": FileMode.BLOB_EXECUTABLE}
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
DIGEST_VERSION = b"interlock-digest-1\0"


class Blob(NamedTuple):
    """A file, link or submodule in a tree."""

    oid: str
    mode: int

    @property
    def regular(self) -> bool:
        """Whether this is a file."""
        return self.mode in FILE_MODES.values()


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


def rewrite(repo: pygit2.Repository, root: pygit2.Tree | None, changes: Changes, at: str = "") -> str:
    """A tree with the changes made, as an oid. Raises Clash."""
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
            if oid != EMPTY_TREE:
                builder.insert(name, oid, FileMode.TREE)
            elif folder is not None:
                builder.remove(name)
        if file is not None:
            if isinstance(builder.get(name), pygit2.Tree):
                raise Clash(f"{at}{name}", f"{at}{name}/")
            builder.insert(name, file.oid, FileMode(file.mode))
    return str(builder.write())


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


def tree_digest(old: pygit2.Tree, new: pygit2.Tree) -> str:
    """The digest of the patch between two trees, in hex.

    SHA-256 over sorted (path, modes, byte-exact hunks with three context lines; whole oids for binary files), without
    line numbers and without folding white space; `git patch-id` gives one id to a statement inside and outside an `if`.
    """
    diff = old.diff_to_tree(new, context_lines=3, interhunk_lines=0)
    total = hashlib.sha256(DIGEST_VERSION)
    for part in sorted(_part(patch) for patch in diff if patch is not None):
        total.update(len(part).to_bytes(8, "big"))
        total.update(part)
    return total.hexdigest()


def _part(patch: pygit2.Patch) -> bytes:
    delta = patch.delta
    old, new = delta.old_file, delta.new_file
    head = b"\0".join((new.raw_path, b"%o" % int(old.mode), b"%o" % int(new.mode)))
    if delta.is_binary or not patch.hunks:
        return b"\0".join((head, b"binary", str(old.id).encode(), str(new.id).encode()))
    body = [head]
    for hunk in patch.hunks:
        body.append(b"@@")
        body.extend(line.origin.encode() + line.raw_content for line in hunk.lines)
    return b"\0".join(body)
