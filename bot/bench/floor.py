"""The floor: what the same landings cost at the least. Hash and deflate each new object once, read what had to be read
once, and diff where both sides changed a file; no trees are walked, no commits made, nothing is written."""

import hashlib
import time
from dataclasses import dataclass, field

import pygit2
from isal import isal_zlib
from pygit2.enums import FileMode

from bot.bench.workload import Step, Workload
from bot.merge.objects import Objects as Store
from bot.merge.trees import changes_between, lookup


@dataclass
class Objects:
    """The objects of a run of steps: new ones, read ones, and the contents to be merged (base, ours, theirs)."""

    new: set[str] = field(default_factory=set)
    read: set[str] = field(default_factory=set)
    merged: list[tuple[str, str, str]] = field(default_factory=list)


def objects(work: Workload, steps: list[Step]) -> Objects:
    """Which objects these steps make and need; not measured."""
    repo = pygit2.Repository(str(work.folder))
    found, store = Objects(), Store(work.folder)
    before = store.tree_of(work.start)
    for step in steps:
        base, after = store.tree_of(step.base), step.wanted
        _pair(repo, repo[before].peel(pygit2.Tree), repo[after].peel(pygit2.Tree), found.new)
        found.read.add(before)
        for path, blob in changes_between(store, base, step.theirs).items():
            was, now = lookup(store, base, path), lookup(store, before, path)
            if was and now and blob and now != was and blob != now:
                found.merged.append((was.oid, now.oid, blob.oid))
                found.read |= {was.oid, now.oid}
        before = after
    return found


def _pair(repo: pygit2.Repository, old: pygit2.Tree | None, new: pygit2.Tree, found: set[str]) -> None:
    found.add(str(new.id))
    known = {entry.name: entry.id for entry in old} if old is not None else {}
    for entry in new:
        if known.get(entry.name) == entry.id or entry.filemode == FileMode.COMMIT:
            continue
        if entry.filemode == FileMode.TREE:
            inner = old[str(entry.name)] if old is not None and entry.name in known else None
            _pair(repo, inner if isinstance(inner, pygit2.Tree) else None, repo[entry.id].peel(pygit2.Tree), found)
        else:
            found.add(str(entry.id))


def measure(work: Workload, found: Objects) -> float:
    """CPU seconds of the floor of these objects."""
    repo = pygit2.Repository(str(work.folder))
    kinds = {1: b"commit", 2: b"tree", 3: b"blob", 4: b"tag"}
    contents = [repo.odb.read(pygit2.Oid(hex=oid)) for oid in found.new]
    began = time.process_time()
    for kind, data in contents:
        hashlib.sha1(b"%s %d\0" % (kinds[int(kind)], len(data)) + data, usedforsecurity=False)
        isal_zlib.compress(data, 1)
    cold = pygit2.Repository(str(work.folder))
    for oid in found.read:
        cold.odb.read(pygit2.Oid(hex=oid))
    for sides in found.merged:
        base, ours, theirs = (pygit2.IndexEntry("f", pygit2.Oid(hex=oid), FileMode.BLOB) for oid in sides)
        cold.merge_file_from_index(base, ours, theirs, use_deprecated=False)
    return time.process_time() - began
