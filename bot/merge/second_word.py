"""Git's own merge, asked before a conflict is declared: it sees renames and attributes, and another diff.

It runs in a scratch git dir with objects of its own, whose attributes come from our side (decisions.md 39): in a bare
mirror git 2.39 ignores them silently.
"""

import os
import tempfile
from pathlib import Path

from bot.merge.git import run_git
from bot.merge.objects import Commit, Objects
from bot.merge.trees import Changes, Clash, changes_between, lookup, rewrite

_WHO = b"Interlock <interlock@localhost> 0 +0000"


def second_word(objects: Objects, base: str, ours: str, changes: Changes) -> str | None:
    """The merged tree, its objects brought here; None if git sees a conflict too."""
    try:
        theirs = rewrite(objects, base, changes)
    except Clash:
        return None
    with tempfile.TemporaryDirectory(prefix="interlock-merge-") as directory:
        place = Path(directory)
        for folder in ("objects/info", "objects/pack", "refs", "info"):
            (place / folder).mkdir(parents=True)
        (place / "HEAD").write_text("ref: refs/heads/none\n")
        (place / "objects" / "info" / "alternates").write_bytes(os.fsencode(objects.git_dir / "objects") + b"\n")
        attributes = lookup(objects, ours, ".gitattributes")
        if attributes is not None and attributes.regular:
            (place / "info" / "attributes").write_bytes(objects.blob(attributes.oid))
        root = _commit(objects, base)
        sides = [_commit(objects, tree, root) for tree in (ours, theirs)]
        objects.flush(sides, place)
        done = run_git(place, "merge-tree", "--write-tree", "--no-messages", *sides)
        if done.returncode != 0:
            return None
        return _brought(objects, Objects(place), ours, done.stdout.split()[0])


def _commit(objects: Objects, tree: str, *parents: str) -> str:
    who = (b"author " + _WHO, b"committer " + _WHO)
    return objects.add_commit(Commit("", tree, parents, *who, b"", b"merge\n"))


def _brought(objects: Objects, scratch: Objects, ours: str, tree: str) -> str | None:
    """The same tree made of our own objects."""
    found = changes_between(scratch, ours, tree)
    for blob in found.values():
        if blob is not None and blob.mode != 0o160000 and blob.oid not in objects:
            objects.add_blob(scratch.blob(blob.oid))
    return tree if rewrite(objects, ours, found) == tree else None
