"""Replaying a branch's own commits onto another commit: for landing a ticket on its base, and for rebasing one."""

from __future__ import annotations

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
        before = tree_of(repo, str(commit.parent_ids[0])) if commit.parent_ids else repo[repo.TreeBuilder().write()]
        changes = changes_between(repo, before.peel(pygit2.Tree), commit.tree)
        merged = merge(repo, before.peel(pygit2.Tree), tree_of(repo, parent), changes)
        if isinstance(merged, Conflicted):
            evidence = merged.evidence.model_copy(
                update={"other": who_changed(repo, onto, fork, merged.evidence.path or "")}
            )
            if not drop or not change:
                return evidence
            dropped.append((change, evidence))
            continue
        touched.update(changes)
        if merged.tree == str(tree_of(repo, parent).id) and changes:
            continue  # the same change is there already
        parent = commits.recreate(repo, commit, parent, merged.tree)
        done.append((change, parent))
    if squash and len(done) > 1:
        parent = _squashed(repo, onto, parent, squash, source)
        done = [(change, parent) for change, _ in done]
    return Replayed(parent, str(tree_of(repo, parent).id), tuple(done), tuple(sorted(touched)), tuple(dropped))


def _squashed(repo: pygit2.Repository, onto: str, tip: str, title: str, source: list[pygit2.Commit]) -> str:
    lines: dict[str, None] = {}
    for name in ("Ticket", "Task", "Change-Request"):
        for commit in source:
            for value in commits.trailers(commit.message).get(name, []):
                lines[f"{name}: {value}"] = None
    last = source[-1]
    text = f"{title}\n\n" + "\n".join(lines) + "\n"
    tree = tree_of(repo, tip).id
    return str(repo.create_commit(None, last.author, last.committer, text, tree, [pygit2.Oid(hex=onto)]))


def who_changed(repo: pygit2.Repository, head: str, fork: str, path: str) -> str:
    """The ticket (or the subject) of the newest commit since the fork that changed a path."""
    for commit in commits.first_parents(repo, head, fork, limit=500):
        if not commit.parent_ids:
            break
        before = tree_of(repo, str(commit.parent_ids[0]))
        try:
            old: object = before[path].id if path in before else None
            new: object = commit.tree[path].id if path in commit.tree else None
        except KeyError:
            continue
        if old != new:
            subject = commit.message.split("\n", 1)[0][:80]
            return commits.trailers(commit.message).get("Ticket", [subject])[0]
    return ""
