"""Commits: made as pure functions of their inputs, known by our trailers, and replayed onto another commit.

A branch's own commits are replayed for landing a ticket on its base, for trying that, and for rebasing a branch.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import islice

from bot.merge.objects import EMPTY_TREE, Commit, Objects
from bot.merge.threeway import merge
from bot.merge.trees import changes_between, lookup
from schemas.base import Evidence
from schemas.change_request import ChangeRequest
from schemas.lane import Carriage

AUTHOR = (b"Interlock", b"interlock@users.noreply.invalid")
_NAMES = ("Ticket", "Task", "Change-Request")
_TRAILER = re.compile(rf"^({'|'.join(_NAMES)}): (.+)$", re.MULTILINE)
_FORGED = re.compile(r"^([A-Za-z][A-Za-z0-9-]*)(\s*):", re.MULTILINE)
_CLOSING = re.compile(r"\b(close[sd]?|fix(?:e[sd])?|resolve[sd]?)(\s{0,5}:?\s{0,5})(?=#\d|\S{0,200}#\d)", re.IGNORECASE)
_SKIP = re.compile(r"\[(\s*(?:skip|no)[ -]ci|ci[ -]skip|skip actions|actions skip)(\s*)\]", re.IGNORECASE)


def _neutral(text: str) -> str:
    """Agents' text without forged trailers, closing keywords, CI switches or control characters."""
    text = "".join(c for c in text if c in "\n\t" or (ord(c) >= 32 and ord(c) != 127))
    return _SKIP.sub(r"(\1\2)", _CLOSING.sub(r"\1\2no. ", text))


def message(request: ChangeRequest, ticket: str) -> str:
    """Title, summary, and the trailers that only we write."""
    title = " ".join(_neutral(request.title).split())[:200] or f"Change {request.id}"
    body = _FORGED.sub(r"> \1\2:", _neutral(request.summary).strip())
    named = zip(_NAMES, (ticket, request.task, request.id), strict=True)
    lines = "\n".join(f"{name}: {value}" for name, value in named if value)
    return "\n\n".join(part for part in (title, body, lines) if part) + "\n"


def trailers(text: str) -> dict[str, list[str]]:
    """Our trailers in the last paragraph of a commit's message."""
    found: dict[str, list[str]] = {}
    for name, value in _TRAILER.findall(text.rstrip().rsplit("\n\n", 1)[-1]):
        found.setdefault(name, []).append(value.strip())
    return found


def change_of(commit: Commit) -> str:
    """The change request that a commit carries; empty for a foreign commit."""
    return trailers(commit.message).get("Change-Request", [""])[0]


def create(objects: Objects, parent: str, tree: str, text: str, when: datetime) -> str:
    """The commit of these inputs: the same ones give the same oid, whenever and wherever it is made."""
    who = b"%b <%b> %d +0000" % (*AUTHOR, int(when.timestamp()))
    return objects.add_commit(Commit("", tree, (parent,), b"author " + who, b"committer " + who, b"", text.encode()))


def recreate(objects: Objects, commit: Commit, parent: str, tree: str) -> str:
    """The same commit on another parent, without the signature that does not fit it any more; on its own parent it is
    itself."""
    if commit.parents == (parent,) and commit.tree == tree:
        return commit.oid
    return objects.add_commit(commit._replace(parents=(parent,), tree=tree))


def tree_before(objects: Objects, commit: Commit) -> str:
    """The tree that a commit started from; an empty one for a root."""
    return objects.tree_of(commit.parents[0]) if commit.parents else EMPTY_TREE


def first_parents(objects: Objects, head: str, fork: str | None) -> Iterator[Commit]:
    """Commits from `head` back to, not including, `fork`, along first parents."""
    at: str | None = head
    while at is not None and at != fork:
        commit = objects.commit(at)
        yield commit
        at = commit.parents[0] if commit.parents else None


class Landed:
    """What is on a branch since its fork: change request to commit. It is read once; later only what is new on top."""

    def __init__(self) -> None:
        self._read: tuple[str, str | None] | None = None
        self._found: dict[str, str] = {}

    def upto(self, objects: Objects, head: str, fork: str | None) -> Mapping[str, str]:
        """All that `head` holds; the walk ends where an earlier one began. A head elsewhere is read anew."""
        known = self._read[0] if self._read and self._read[1] == fork else None
        fresh: dict[str, str] = {}
        last = None
        for last in first_parents(objects, head, fork):
            if last.oid == known:
                break
            if b"Change-Request: " in last.text:
                for change in trailers(last.message).get("Change-Request", []):
                    fresh.setdefault(change, last.oid)
        met = known == head or (last is not None and last.oid == known)
        self._found = self._found | fresh if met else fresh
        self._read = head, fork
        return self._found


def series(objects: Objects, fork: str, tip: str) -> list[Commit]:
    """The commits `fork..tip`, oldest first."""
    return [*first_parents(objects, tip, fork)][::-1]


def replay(
    objects: Objects, fork: str, tip: str, onto: str, *, entry: str = "", drop: bool = False, squash: str = ""
) -> Carriage | Evidence:
    """Bring `fork..tip` onto `onto`, whole or (with `drop`) without the changes that conflict; the carriage of `entry`.

    A foreign commit that conflicts is evidence in any case: nobody can be asked to write it again. `squash` makes one
    commit of all, with this title.
    """
    parent = onto
    done: list[tuple[str, str]] = []
    dropped: list[tuple[str, Evidence]] = []
    touched: set[str] = set()
    rungs: list[str] = []
    source = series(objects, fork, tip)
    for commit in source:
        change = change_of(commit)
        before, ours = tree_before(objects, commit), objects.tree_of(parent)
        changes = changes_between(objects, before, commit.tree)
        merged = merge(objects, before, ours, changes)
        if isinstance(merged, Evidence):
            evidence = merged.model_copy(update={"other": who_changed(objects, onto, fork, merged.path or "")})
            if not drop or not change:
                return evidence
            dropped.append((change, evidence))
            continue
        touched.update(changes)
        if merged.tree == ours and changes:
            continue  # the same change is there already
        rungs.append(merged.rung)
        parent = recreate(objects, commit, parent, merged.tree)
        done.append((change, parent))
    if squash and len(done) > 1:
        parent = _squashed(objects, onto, parent, squash, source)
        done = [(change, parent) for change, _ in done]
    rung = "merge-tree" if "merge-tree" in rungs else "line"
    paths = tuple(sorted(path.encode("utf-8", "replace").decode() for path in touched))
    tree = objects.tree_of(parent)
    return Carriage(
        entry=entry, commit=parent, tree=tree, paths=paths, rung=rung, commits=tuple(done), dropped=tuple(dropped)
    )


def _squashed(objects: Objects, onto: str, tip: str, title: str, source: list[Commit]) -> str:
    said = [trailers(commit.message) for commit in source]
    lines = dict.fromkeys(f"{name}: {value}" for name in _NAMES for found in said for value in found.get(name, []))
    text = f"{title}\n\n" + "\n".join(lines) + "\n"
    last = source[-1]._replace(parents=(onto,), tree=objects.tree_of(tip), encoding=b"", text=text.encode())
    return objects.add_commit(last)


def who_changed(objects: Objects, head: str, fork: str, path: str) -> str:
    """The ticket (or the subject) of the newest commit since the fork that changed a path."""
    for commit in islice(first_parents(objects, head, fork), 500):
        old, new = (lookup(objects, tree, path) for tree in (tree_before(objects, commit), commit.tree))
        if old != new:
            subject = commit.message.split("\n", 1)[0][:80]
            return trailers(commit.message).get("Ticket", [subject])[0]
    return ""
