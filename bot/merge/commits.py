"""Commits: made as pure functions of their inputs, known by our trailers, and replayed onto another commit.

A branch's own commits are replayed for landing a ticket on its base, for trying that, and for rebasing a branch.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from itertools import islice, takewhile

import pygit2
from pygit2.enums import SortMode

from bot.merge.threeway import merge
from bot.merge.trees import changes_between, tree_of
from schemas.base import Evidence
from schemas.change_request import ChangeRequest
from schemas.lane import Carriage

AUTHOR = ("Interlock", "interlock@users.noreply.invalid")
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


def change_of(commit: pygit2.Commit) -> str:
    """The change request that a commit carries; empty for a foreign commit."""
    return trailers(commit.message).get("Change-Request", [""])[0]


def create(repo: pygit2.Repository, parent: str, tree: str, text: str, when: datetime) -> str:
    """The commit of these inputs: the same ones give the same oid, whenever and wherever it is made."""
    who = pygit2.Signature(*AUTHOR, int(when.timestamp()), 0)
    return str(repo.create_commit(None, who, who, text, tree, [parent]))


def recreate(repo: pygit2.Repository, commit: pygit2.Commit, parent: str, tree: str) -> str:
    """The same commit on another parent; on its own parent it is itself."""
    if [str(oid) for oid in commit.parent_ids] == [parent] and str(commit.tree_id) == tree:
        return str(commit.id)
    return str(repo.create_commit(None, commit.author, commit.committer, commit.message, tree, [parent]))


def tree_before(repo: pygit2.Repository, commit: pygit2.Commit) -> pygit2.Tree:
    """The tree that a commit started from; an empty one for a root."""
    before = commit.parent_ids[0] if commit.parent_ids else repo.TreeBuilder().write()
    return repo[before].peel(pygit2.Tree)


def first_parents(repo: pygit2.Repository, head: str, fork: str | None, limit: int = 20_000) -> Iterator[pygit2.Commit]:
    """Commits from `head` back to, not including, `fork`, along first parents; stops at the limit."""
    walker = repo.walk(head, SortMode.TOPOLOGICAL)
    walker.simplify_first_parent()
    return takewhile(lambda commit: str(commit.id) != fork, islice(walker, limit))


def landed(repo: pygit2.Repository, head: str, fork: str | None) -> dict[str, str]:
    """Change request to commit, for all that is on the branch since the fork."""
    found: dict[str, str] = {}
    for commit in first_parents(repo, head, fork):
        for change in trailers(commit.message).get("Change-Request", []):
            found.setdefault(change, str(commit.id))
    return found


def series(repo: pygit2.Repository, fork: str, tip: str) -> list[pygit2.Commit]:
    """The commits `fork..tip`, oldest first."""
    return [*first_parents(repo, tip, fork)][::-1]


def replay(
    repo: pygit2.Repository, fork: str, tip: str, onto: str, *, entry: str = "", drop: bool = False, squash: str = ""
) -> Carriage | Evidence:
    """Bring `fork..tip` onto `onto`, whole or (with `drop`) without the changes that conflict; the carriage of `entry`.

    A foreign commit that conflicts is evidence in any case: nobody can be asked to write it again. `squash` makes one
    commit of all, with this title.
    """
    parent = onto
    done: list[tuple[str, str]] = []
    dropped: list[tuple[str, Evidence]] = []
    touched: set[str] = set()
    source = series(repo, fork, tip)
    for commit in source:
        change = change_of(commit)
        before, ours = tree_before(repo, commit), tree_of(repo, parent)
        changes = changes_between(before, commit.tree)
        merged = merge(repo, before, ours, changes)
        if isinstance(merged, Evidence):
            evidence = merged.model_copy(update={"other": who_changed(repo, onto, fork, merged.path or "")})
            if not drop or not change:
                return evidence
            dropped.append((change, evidence))
            continue
        touched.update(changes)
        if merged.tree == str(ours.id) and changes:
            continue  # the same change is there already
        parent = recreate(repo, commit, parent, merged.tree)
        done.append((change, parent))
    if squash and len(done) > 1:
        parent = _squashed(repo, onto, parent, squash, source)
        done = [(change, parent) for change, _ in done]
    tree, paths = str(tree_of(repo, parent).id), tuple(sorted(touched))
    return Carriage(entry=entry, commit=parent, tree=tree, paths=paths, commits=tuple(done), dropped=tuple(dropped))


def _squashed(repo: pygit2.Repository, onto: str, tip: str, title: str, source: list[pygit2.Commit]) -> str:
    said = [trailers(commit.message) for commit in source]
    lines = dict.fromkeys(f"{name}: {value}" for name in _NAMES for found in said for value in found.get(name, []))
    last, text = source[-1], f"{title}\n\n" + "\n".join(lines) + "\n"
    return str(repo.create_commit(None, last.author, last.committer, text, tree_of(repo, tip).id, [onto]))


def who_changed(repo: pygit2.Repository, head: str, fork: str, path: str) -> str:
    """The ticket (or the subject) of the newest commit since the fork that changed a path."""
    for commit in first_parents(repo, head, fork, limit=500):
        sides = (tree_before(repo, commit), commit.tree)
        old, new = (tree[path].id if path in tree else None for tree in sides)
        if old != new:
            subject = commit.message.split("\n", 1)[0][:80]
            return trailers(commit.message).get("Ticket", [subject])[0]
    return ""
