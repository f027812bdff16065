"""Commits as pure functions of their inputs, and what our trailers say."""

import re
from collections.abc import Iterator
from datetime import datetime

import pygit2
from pygit2.enums import SortMode

from schemas.change_request import ChangeRequest

AUTHOR = ("Interlock", "interlock@users.noreply.invalid")
_TRAILER = re.compile(r"^(Ticket|Task|Change-Request): (.+)$", re.MULTILINE)
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
    named = {"Ticket": ticket, "Task": request.task, "Change-Request": request.id}
    lines = "\n".join(f"{name}: {value}" for name, value in named.items() if value)
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
    for count, commit in enumerate(walker):
        if str(commit.id) == fork or count >= limit:
            return
        yield commit


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
