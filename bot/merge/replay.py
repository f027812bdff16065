"""Replaying a branch's own commits onto another commit: for landing a ticket on its base, and for rebasing one."""

from dataclasses import dataclass, field

import pygit2

from bot.merge import commits
from bot.merge.threeway import Conflicted, merge
from bot.merge.trees import changes_between, tree_of
from schemas.base import Evidence


@dataclass(frozen=True)
class Replayed:
    """The new tip, (change request, commit) of each commit kept, what it touches, and what was dropped."""

    tip: str
    tree: str
    commits: tuple[tuple[str, str], ...]
    paths: tuple[str, ...]
    dropped: tuple[tuple[str, Evidence], ...] = field(default=())


def replay(
    repo: pygit2.Repository, fork: str, tip: str, onto: str, *, drop: bool = False, squash: str = ""
) -> Replayed | Evidence:
    """Bring `fork..tip` onto `onto`, whole or (with `drop`) without the changes that conflict.

    A foreign commit that conflicts is evidence in any case: nobody can be asked to write it again. `squash` makes one
    commit of all, with this title.
    """
    parent = onto
    done: list[tuple[str, str]] = []
    dropped: list[tuple[str, Evidence]] = []
    touched: set[str] = set()
    source = commits.series(repo, fork, tip)
    for commit in source:
        change = commits.change_of(commit)
        before, ours = commits.tree_before(repo, commit), tree_of(repo, parent)
        changes = changes_between(before, commit.tree)
        merged = merge(repo, before, ours, changes)
        if isinstance(merged, Conflicted):
            other = who_changed(repo, onto, fork, merged.evidence.path or "")
            evidence = merged.evidence.model_copy(update={"other": other})
            if not drop or not change:
                return evidence
            dropped.append((change, evidence))
            continue
        touched.update(changes)
        if merged.tree == str(ours.id) and changes:
            continue  # the same change is there already
        parent = commits.recreate(repo, commit, parent, merged.tree)
        done.append((change, parent))
    if squash and len(done) > 1:
        parent = _squashed(repo, onto, parent, squash, source)
        done = [(change, parent) for change, _ in done]
    return Replayed(parent, str(tree_of(repo, parent).id), tuple(done), tuple(sorted(touched)), tuple(dropped))


def _squashed(repo: pygit2.Repository, onto: str, tip: str, title: str, source: list[pygit2.Commit]) -> str:
    said = [commits.trailers(commit.message) for commit in source]
    names = ("Ticket", "Task", "Change-Request")
    lines = dict.fromkeys(f"{name}: {value}" for name in names for found in said for value in found.get(name, []))
    last, text = source[-1], f"{title}\n\n" + "\n".join(lines) + "\n"
    return str(repo.create_commit(None, last.author, last.committer, text, tree_of(repo, tip).id, [onto]))


def who_changed(repo: pygit2.Repository, head: str, fork: str, path: str) -> str:
    """The ticket (or the subject) of the newest commit since the fork that changed a path."""
    for commit in commits.first_parents(repo, head, fork, limit=500):
        sides = (commits.tree_before(repo, commit), commit.tree)
        old, new = (tree[path].id if path in tree else None for tree in sides)
        if old != new:
            subject = commit.message.split("\n", 1)[0][:80]
            return commits.trailers(commit.message).get("Ticket", [subject])[0]
    return ""
