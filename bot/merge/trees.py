"""Trees as maps from path to (oid, mode), read and rewritten only along the touched directories.

Nothing here reads or writes a whole index: the cost follows the size of the change, not of the repository. The patch
digest is what an approval is bound to. It stays the same over a rebase that changes nothing.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import pygit2
from pygit2.enums import FileMode

from bot.merge.objects import EMPTY_TREE, Node, Objects

FILE_MODES = {"100644": 0o100644, "100755": 0o100755}
DIGEST_VERSION = b"interlock-digest-1\0"
_TREE = b"40000"


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


def encoded(name: str) -> bytes:
    """A name as trees hold it; names that are no UTF-8 are carried through unharmed."""
    return name.encode("utf-8", "surrogateescape")


def decoded(name: bytes) -> str:
    """The other way."""
    return name.decode("utf-8", "surrogateescape")


def lookup(objects: Objects, tree: str, path: str) -> Blob | None:
    """What a path names: a file, link or submodule; None for nothing or a directory."""
    directory, _, name = path.rpartition("/")
    node = subtree(objects, tree, directory)
    entry = node.get(encoded(name)) if node is not None else None
    return None if entry is None or entry[0] == _TREE else Blob(entry[1].hex(), int(entry[0], 8))


def subtree(objects: Objects, tree: str, directory: str) -> Node | None:
    """The entries of a directory ('' or 'a/b'); None if there is none of this name."""
    known = objects.directories
    if (tree, directory) not in known:
        node: Node | None = objects.tree(tree)
        for name in filter(None, directory.split("/")):
            entry = node.get(encoded(name)) if node else None
            node = objects.tree(entry[1].hex()) if entry is not None and entry[0] == _TREE else None
        known[tree, directory] = node
    return known[tree, directory]


def names(objects: Objects, tree: str, directory: str) -> list[str]:
    """The names in a directory ('' or 'a/b/'); none if it does not exist."""
    return [decoded(name) for name in subtree(objects, tree, directory.rstrip("/")) or ()]


def rewrite(objects: Objects, root: str | None, changes: Changes, at: str = "") -> str:
    """A tree with the changes made, as an oid. Raises Clash."""
    old = objects.tree(root) if root else {}
    node = dict(old)
    groups: defaultdict[str, dict[str, Blob | None]] = defaultdict(dict)
    for path, blob in changes.items():
        first, _, rest = path.partition("/")
        groups[first][rest] = blob
    for first, below in groups.items():
        name = encoded(first)
        named = "" in below
        file = below.pop("", None)
        known = node.get(name)
        if named and file is None and known is not None:
            del node[name]
            known = None
        folder = known[1].hex() if known is not None and known[0] == _TREE else None
        if below:
            if known is not None and folder is None and any(below.values()):
                raise Clash(f"{at}{first}/{next(iter(below))}", f"{at}{first}")
            oid = rewrite(objects, folder, below, f"{at}{first}/")
            if oid != EMPTY_TREE:
                node[name] = _TREE, bytes.fromhex(oid)
            elif folder is not None:
                del node[name]
        if file is not None:
            if name in node and node[name][0] == _TREE:
                raise Clash(f"{at}{first}", f"{at}{first}/")
            node[name] = b"%o" % file.mode, bytes.fromhex(file.oid)
    if node.keys() - old.keys() or any((old[n][0] == _TREE) != (node[n][0] == _TREE) for n in node):
        node = dict(sorted(node.items(), key=_place))
    return objects.add_tree(node, root or "")


def _place(entry: tuple[bytes, tuple[bytes, bytes]]) -> bytes:
    """Git orders a directory as if its name ended with a slash."""
    return entry[0] + b"/" if entry[1][0] == _TREE else entry[0]


def changes_between(objects: Objects, old: str | None, new: str | None, at: str = "") -> dict[str, Blob | None]:
    """What turns one tree into the other (None: an empty one); equal subtrees are not looked at."""
    found: dict[str, Blob | None] = {}
    before = objects.tree(old) if old else {}
    after = objects.tree(new) if new else {}
    touched = {name for name, _ in before.items() ^ after.items()}
    for name in sorted(touched):
        one, two = before.get(name), after.get(name)
        path = at + decoded(name)
        was = one[1].hex() if one is not None and one[0] == _TREE else None
        becomes = two[1].hex() if two is not None and two[0] == _TREE else None
        if one is not None and was is None:
            found[path] = None  # unless another file takes its place, below
        if was is not None or becomes is not None:
            found |= changes_between(objects, was, becomes, f"{path}/")
        if two is not None and becomes is None:
            found[path] = Blob(two[1].hex(), int(two[0], 8))
    return found


def tree_digest(objects: Objects, old: str, new: str) -> str:
    """The digest of the patch between two trees, in hex.

    SHA-256 over sorted (path, modes, byte-exact hunks with three context lines; whole oids for binary files), without
    line numbers and without folding white space; `git patch-id` gives one id to a statement inside and outside an `if`.
    """
    total = hashlib.sha256(DIGEST_VERSION)
    parts = [
        _part(objects, encoded(path), lookup(objects, old, path), blob)
        for path, blob in changes_between(objects, old, new).items()
    ]
    for part in sorted(parts):
        total.update(len(part).to_bytes(8, "big"))
        total.update(part)
    return total.hexdigest()


def tree_patch(objects: Objects, old: str, new: str) -> dict[str, list[str]]:
    """What the digest is of, by path, as lines that people can read."""
    found = {}
    for path, blob in changes_between(objects, old, new).items():
        part = _part(objects, b"", lookup(objects, old, path), blob).decode("utf-8", "replace").split("\0")
        found[path] = [f"mode {part[1]} {part[2]}", *(line.rstrip("\n") for line in part[3:])]
    return found


def _part(objects: Objects, path: bytes, old: Blob | None, new: Blob | None) -> bytes:
    modes = [b"%o" % blob.mode if blob else b"0" for blob in (old, new)]
    head = b"\0".join((path, *modes))
    before, after = (_content(objects, blob) for blob in (old, new))
    patch = pygit2.Patch.create_from(before, after, context_lines=3, interhunk_lines=0)
    if patch.delta.is_binary or not patch.hunks:
        oids = [blob.oid.encode() if blob else b"0" * 40 for blob in (old, new)]
        return b"\0".join((head, b"binary", *oids))
    body = [head]
    for hunk in patch.hunks:
        body.append(b"@@")
        body.extend(line.origin.encode() + line.raw_content for line in hunk.lines)
    return b"\0".join(body)


def _content(objects: Objects, blob: Blob | None) -> bytes:
    """What a diff shows: a file's or link's content, a submodule's commit in words as git writes it."""
    if blob is None:
        return b""
    return b"Subproject commit %b\n" % blob.oid.encode() if blob.mode == FileMode.COMMIT else objects.blob(blob.oid)
