"""The objects of one repository, as raw bytes: what is on disk, and what is being made and will be written as one pack.

libgit2 only reads what is on disk. Nothing is written before `flush`, and what no tip reaches never is. One of these
serves one train; threads may share it, as every step on its dictionaries is one operation of the interpreter.
"""

import hashlib
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

import pygit2

from bot.merge.pack import Raw, write_pack

COMMIT: Final = 1
TREE: Final = 2
BLOB: Final = 3
_NAMES: Final = {COMMIT: b"commit", TREE: b"tree", BLOB: b"blob", 4: b"tag"}
_ENTRY: Final = re.compile(rb"([0-7]+) ([^\0]+)\0(.{20})", re.DOTALL)
EMPTY_TREE: Final = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"

Node = dict[bytes, tuple[bytes, bytes]]
"""A tree: name to (mode as git writes it, raw oid), in git's order. Never changed once it is made."""


class Commit(NamedTuple):
    """A commit, as far as landing it needs. People and encoding are whole header lines, kept as they are."""

    oid: str
    tree: str
    parents: tuple[str, ...]
    author: bytes
    committer: bytes
    encoding: bytes
    text: bytes

    @property
    def message(self) -> str:
        """For reading; what does not decode is replaced."""
        return self.text.decode("utf-8", "replace")


class Objects:
    """Reads raise KeyError for what is not there, and for what is of another kind."""

    def __init__(self, git_dir: Path) -> None:
        self.git_dir = git_dir
        self._odb = pygit2.Odb(str(git_dir / "objects"))
        self._made: dict[str, Raw] = {}
        self._trees: dict[str, Node] = {EMPTY_TREE: {}}
        self._commits: dict[str, Commit] = {}
        self.directories: dict[tuple[str, str], Node | None] = {}
        """What bot.merge.trees.subtree has found, by tree and directory."""

    @cached_property
    def repository(self) -> pygit2.Repository:
        """The repository as libgit2 sees it: on disk. One for each thread."""
        return pygit2.Repository(str(self.git_dir))

    @cached_property
    def attributes(self) -> bytes:
        """The repository's own attributes file, which stands above those of the tree."""
        own = self.git_dir / "info" / "attributes"
        return own.read_bytes() if own.is_file() else b""

    # --- reading ------------------------------------------------------------------------------------------------
    def _read(self, oid: str, wanted: int) -> bytes:
        made = self._made.get(oid)
        kind, data = (made.kind, made.data) if made is not None else self._odb.read(oid)
        if kind != wanted:
            raise KeyError(f"{oid} is no {_NAMES[wanted].decode()}")
        return data

    def __contains__(self, oid: str) -> bool:
        return oid in self._made or oid in self._odb

    def blob(self, oid: str) -> bytes:
        """A file's content."""
        return self._read(oid, BLOB)

    def tree(self, oid: str) -> Node:
        """A tree's entries."""
        node = self._trees.get(oid)
        if node is None:
            node = {name: (mode, raw) for mode, name, raw in _ENTRY.findall(self._read(oid, TREE))}
            self._trees[oid] = node
        return node

    def commit(self, oid: str) -> Commit:
        """A commit."""
        found = self._commits.get(oid)
        if found is None:
            found = self._commits[oid] = _parsed(oid, self._read(oid, COMMIT))
        return found

    def tree_of(self, oid: str) -> str:
        """The tree of a commit; a tree is its own."""
        if oid in self._trees:
            return oid
        try:
            return self.commit(oid).tree
        except KeyError:
            self.tree(oid)
            return oid

    # --- making -------------------------------------------------------------------------------------------------
    def add_blob(self, data: bytes, before: str = "", *, trusted: bool = True) -> str:
        """A file's content; `before` is the version that it replaces. What is not `trusted` to be text is hashed with
        a look for SHA-1 collisions, which need bytes of a kind that text does not have."""
        if not trusted:
            oid = str(pygit2.hash(data))
            self._made.setdefault(oid, Raw(BLOB, data, before))
            return oid
        return self._add(BLOB, data, before)

    def add_tree(self, node: Node, before: str = "") -> str:
        """A tree in git's order; `before` is the version that it replaces."""
        data = b"".join([b"%b %b\0%b" % (mode, name, oid) for name, (mode, oid) in node.items()])
        oid = self._add(TREE, data, before)
        self._trees[oid] = node
        return oid

    def add_commit(self, made: Commit) -> str:
        """A commit; its own `oid` is not looked at."""
        parents = b"".join(b"parent %b\n" % parent.encode() for parent in made.parents)
        head = b"tree %b\n%b%b\n%b\n" % (made.tree.encode(), parents, made.author, made.committer)
        encoding = made.encoding + b"\n" if made.encoding else b""
        return self._add(COMMIT, b"%b%b\n%b" % (head, encoding, made.text), "")

    def _add(self, kind: int, data: bytes, before: str) -> str:
        total = hashlib.sha1(b"%b %d\0" % (_NAMES[kind], len(data)), usedforsecurity=False)
        total.update(data)
        oid = total.hexdigest()
        self._made.setdefault(oid, Raw(kind, data, before))
        return oid

    def flush(self, tips: Sequence[str], into: Path | None = None) -> None:
        """Write what these commits or trees reach, and is not on disk, as one pack into the repository (or another)."""
        found: set[str] = set()
        stack = [tip for tip in tips if tip in self._made]
        while stack:
            oid = stack.pop()
            if oid in found:
                continue
            found.add(oid)
            kind = self._made[oid].kind
            if kind == COMMIT:
                commit = self.commit(oid)
                stack += [one for one in (commit.tree, *commit.parents) if one in self._made]
            elif kind == TREE:
                stack += [one for _, raw in self.tree(oid).values() if (one := raw.hex()) in self._made]
        if found:
            # In the order in which they were made, an older version comes before the newer one.
            write_pack(into or self.git_dir, self._made, [oid for oid in self._made if oid in found])
        if into is None:
            self._made.clear()


def _parsed(oid: str, data: bytes) -> Commit:
    head, _, text = data.partition(b"\n\n")
    # A header's further lines (a signature's) begin with a space.
    lines = [line for line in head.split(b"\n") if not line.startswith(b" ")]
    first = {line.split(b" ", 1)[0]: line for line in reversed(lines)}
    parents = tuple(line[7:].decode() for line in lines if line.startswith(b"parent "))
    tree = first[b"tree"][5:].decode()
    people = first.get(b"author", b""), first.get(b"committer", b"")
    return Commit(oid, tree, parents, *people, first.get(b"encoding", b""), text)
