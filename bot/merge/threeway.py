"""Three-way merge at path level: equal ids need no merge, only a true overlap merges content.

Before a conflict is declared `git merge-tree` has the second word: it sees renames and attributes. It runs in a
scratch git dir with objects of its own, whose attributes come from our side (decisions.md 39).
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import pygit2
from pygit2.enums import FileMode, MergeFlag

from bot.merge.git import run_git
from bot.merge.trees import Blob, Changes, Clash, changes_between, lookup, open_repository, rewrite, tree_of
from schemas.base import Evidence

TEXT_LIMIT = 20_000
_WHO = pygit2.Signature("Interlock", "interlock@localhost", 0, 0)


@dataclass(frozen=True)
class Merged:
    """The merged tree, and by which rung."""

    tree: str
    rung: str = "line"


def merge(repo: pygit2.Repository, base: pygit2.Tree, ours: pygit2.Tree, changes: Changes) -> Merged | Evidence:
    """Bring `changes`, made on `base`, onto `ours`; or the first path that cannot be merged, with the three texts."""
    result: dict[str, Blob | None] = {}
    overlaps: dict[str, Blob | None] = {}
    for path, theirs in changes.items():
        was, now = lookup(base, path), lookup(ours, path)
        if now == was:
            result[path] = theirs
        elif theirs != now:
            overlaps[path] = theirs
    try:
        if overlaps:
            result |= _content(repo, base, ours, overlaps)
        return Merged(rewrite(repo, ours, result))
    except Clash as problem:
        return _second_word(repo, base, ours, changes) or _evidence(repo, base, ours, changes, problem.path)


def _content(repo: pygit2.Repository, base: pygit2.Tree, ours: pygit2.Tree, overlaps: Changes) -> Changes:
    """Merge the contents of all overlaps at once, as three flat trees of numbered names. Raises Clash."""
    builders = [repo.TreeBuilder() for _ in range(3)]
    for number, (path, theirs) in enumerate(overlaps.items()):
        was, now = lookup(base, path), lookup(ours, path)
        if was is None and now is not None and theirs is not None:
            raise Clash(path)  # added twice: libgit2 would take an empty file and a full one for a clean merge
        for builder, blob in zip(builders, (was, now, theirs), strict=True):
            if blob is not None and not blob.regular:
                raise Clash(path)
            if blob is not None:
                builder.insert(f"{number:06}", blob.oid, FileMode(blob.mode))
    ancestor, mine, other = (builder.write() for builder in builders)
    index = repo.merge_trees(ancestor, mine, other, flags=MergeFlag(0))
    if index.conflicts is not None:
        name = next(side.path for side in next(iter(index.conflicts)) if side is not None)
        raise Clash(list(overlaps)[int(name)])
    merged = {entry.path: Blob(str(entry.id), int(entry.mode)) for entry in index}
    return {path: merged.get(f"{number:06}") for number, path in enumerate(overlaps)}


def _second_word(repo: pygit2.Repository, base: pygit2.Tree, ours: pygit2.Tree, changes: Changes) -> Merged | None:
    """What git's own merge makes of it, the objects brought here; None if git sees a conflict too."""
    try:
        theirs = rewrite(repo, base, changes)
    except Clash:
        return None
    with tempfile.TemporaryDirectory(prefix="interlock-merge-") as directory:
        place = Path(directory)
        pygit2.init_repository(directory, bare=True)
        (place / "objects" / "info" / "alternates").write_text(f"{Path(repo.path) / 'objects'}\n")
        attributes = lookup(ours, ".gitattributes")
        if attributes is not None and attributes.regular:
            (place / "info" / "attributes").write_bytes(repo[attributes.oid].peel(pygit2.Blob).data)
        scratch = open_repository(place)
        root = scratch.create_commit(None, _WHO, _WHO, "base", base.id, [])
        sides = [str(scratch.create_commit(None, _WHO, _WHO, "side", tree, [root])) for tree in (ours.id, theirs)]
        done = run_git(place, "merge-tree", "--write-tree", "--no-messages", *sides)
        if done.returncode != 0:
            return None
        merged = tree_of(scratch, done.stdout.split()[0])
        found = changes_between(ours, merged)
        for blob in found.values():
            if blob is not None and blob.oid not in repo and blob.mode != FileMode.COMMIT:
                repo.create_blob(scratch[blob.oid].peel(pygit2.Blob).data)
        tree = rewrite(repo, ours, found)
        return Merged(tree, "merge-tree") if tree == str(merged.id) else None


def _text(repo: pygit2.Repository, blob: Blob | None) -> str | None:
    if blob is None or blob.mode == FileMode.COMMIT:
        return None
    data = repo[blob.oid].peel(pygit2.Blob).data
    if b"\0" in data[:8000]:
        return f"(binary, {len(data)} bytes)"
    return data[:TEXT_LIMIT].decode("utf-8", "replace")


def _evidence(repo: pygit2.Repository, base: pygit2.Tree, ours: pygit2.Tree, changes: Changes, path: str) -> Evidence:
    was, now, theirs = (_text(repo, blob) for blob in (lookup(base, path), lookup(ours, path), changes.get(path)))
    reason = f"conflict in {path}: both sides changed the same lines"
    return Evidence(reason=reason, path=path, base=was, ours=now, theirs=theirs)


def merge_commits(repo: pygit2.Repository, base: str, ours: str, theirs: str) -> Merged | Evidence:
    """Three commits (or trees) of one repository."""
    start = tree_of(repo, base)
    return merge(repo, start, tree_of(repo, ours), changes_between(start, tree_of(repo, theirs)))
