"""Composing a train: entries are prepared in parallel threads, then folded in order onto the head.

Preparing is strict application to the entry's own base; folding is a three-way merge with what was folded before.
What fails only because of an entry ahead of it in the train stays queued: it is judged against landed commits alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pygit2

from bot.merge import commits
from bot.merge.apply import Invalid, apply
from bot.merge.digest import tree_digest
from bot.merge.replay import replay
from bot.merge.threeway import Conflicted, merge
from bot.merge.trees import Blob, open_repository, tree_of
from schemas.base import Evidence
from schemas.lane import Carriage, Composed, ComposeResult, Entry, Outcome


@dataclass(frozen=True)
class Prepared:
    """An entry's files against its own base, or why it can never land."""

    changes: dict[str, Blob | None] | None
    evidence: Evidence | None = None
    infra: bool = False


@dataclass(frozen=True)
class Start:
    """What a train is composed on: the remote's ref (`old`), the parent commit, and where the lane forked."""

    old: str | None
    base: str
    fork: str | None


def prepare(git_dir: Path, entry: Entry) -> Prepared:
    """Validate one change request against its base; reads and writes objects only."""
    if entry.change is None:
        return Prepared({})
    try:
        return Prepared(apply(open_repository(git_dir), entry.change, entry.owns or entry.change.owns))
    except Invalid as problem:
        return Prepared(None, Evidence(reason=str(problem)))
    except (pygit2.GitError, OSError) as problem:
        return Prepared(None, Evidence(reason=f"git failed: {problem}"), infra=True)


def compose(
    git_dir: Path, start: Start, entries: Sequence[Entry], branch_heads: dict[str, str | None], threads: int = 2
) -> Composed:
    """A train of these entries. `branch_heads` tells the remote head of each series' own branch."""
    with ThreadPoolExecutor(max_workers=max(1, threads)) as pool:
        prepared = list(pool.map(lambda entry: prepare(git_dir, entry), entries))
    repo = open_repository(git_dir)
    known = commits.landed(repo, start.base, start.fork) if start.old is not None else {}
    results: list[ComposeResult] = []
    parent, moved = start.base, False
    for entry, ready in zip(entries, prepared, strict=True):
        result = _one(repo, start, parent, entry, ready, known, branch_heads.get(entry.id))
        if moved and result.outcome in (Outcome.CONFLICT, Outcome.NOOP):
            break
        results.append(result)
        if result.carriage is not None and result.outcome is Outcome.COMPOSED:
            parent, moved = result.carriage.commit, True
            if entry.rebase is not None:
                break  # the lane's history is another one now: nothing else rides along
    return Composed(base=start.base, old=start.old, results=tuple(results))


def _one(
    repo: pygit2.Repository,
    start: Start,
    parent: str,
    entry: Entry,
    ready: Prepared,
    known: dict[str, str],
    branch_head: str | None,
) -> ComposeResult:
    if ready.changes is None:
        outcome = Outcome.INFRA if ready.infra else Outcome.INVALID
        return ComposeResult(entry=entry.id, outcome=outcome, evidence=ready.evidence)
    try:
        if entry.series is not None:
            return _series(repo, start, parent, entry, known, branch_head)
        if entry.rebase is not None:
            return _rebase(repo, parent, entry)
        return _change(repo, parent, entry, ready.changes, known)
    except (pygit2.GitError, KeyError, OSError) as problem:
        return ComposeResult(entry=entry.id, outcome=Outcome.INFRA, evidence=Evidence(reason=f"git failed: {problem}"))


def _change(
    repo: pygit2.Repository, parent: str, entry: Entry, changes: dict[str, Blob | None], known: dict[str, str]
) -> ComposeResult:
    change = entry.change
    assert change is not None
    if change.id in known:
        commit = known[change.id]
        tree = str(tree_of(repo, commit).id)
        return ComposeResult(entry=entry.id, outcome=Outcome.ALREADY, commit=commit, tree=tree)
    ours = tree_of(repo, parent)
    merged = merge(repo, tree_of(repo, change.base), ours, changes)
    if isinstance(merged, Conflicted):
        return ComposeResult(entry=entry.id, outcome=Outcome.CONFLICT, evidence=merged.evidence)
    if merged.tree == str(ours.id):
        return ComposeResult(entry=entry.id, outcome=Outcome.NOOP, commit=parent, tree=merged.tree)
    text = commits.message(change, entry.ticket)
    commit = commits.create(repo, parent, merged.tree, text, entry.accepted)
    carriage = Carriage(
        entry=entry.id,
        commit=commit,
        tree=merged.tree,
        paths=tuple(sorted(changes)),
        rung=merged.rung,
        commits=((change.id, commit),),
    )
    return ComposeResult(entry=entry.id, outcome=Outcome.COMPOSED, carriage=carriage)


def _series(
    repo: pygit2.Repository, start: Start, parent: str, entry: Entry, known: dict[str, str], branch_head: str | None
) -> ComposeResult:
    series = entry.series
    assert series is not None
    changes = [commits.change_of(commit) for commit in commits.series(repo, series.fork, series.tip)]
    named = [change for change in changes if change]
    if named and all(change in known for change in named):
        commit = known[named[-1]]
        done = tuple((change, known[change]) for change in named)
        tree = str(tree_of(repo, commit).id)
        carriage = Carriage(entry=entry.id, commit=commit, tree=tree, commits=done)
        return ComposeResult(entry=entry.id, outcome=Outcome.ALREADY, commit=commit, tree=tree, carriage=carriage)
    title = f"{entry.ticket}: {len(changes)} changes"
    new = replay(repo, series.fork, series.tip, parent, squash=title if series.method == "squash" else "")
    if isinstance(new, Evidence):
        return ComposeResult(entry=entry.id, outcome=Outcome.CONFLICT, evidence=new)
    if new.tip == parent:
        return ComposeResult(entry=entry.id, outcome=Outcome.NOOP, commit=parent, tree=new.tree)
    digest = tree_digest(tree_of(repo, parent), tree_of(repo, new.tip))
    if digest != series.digest:
        reason = "on today's base the change differs from what was approved"
        return ComposeResult(entry=entry.id, outcome=Outcome.POLICY, evidence=Evidence(reason=reason))
    carriage = Carriage(
        entry=entry.id,
        commit=new.tip,
        tree=new.tree,
        paths=new.paths,
        digest=digest,
        commits=new.commits,
        branch_old=branch_head,
    )
    return ComposeResult(entry=entry.id, outcome=Outcome.COMPOSED, carriage=carriage)


def _rebase(repo: pygit2.Repository, parent: str, entry: Entry) -> ComposeResult:
    wanted = entry.rebase
    assert wanted is not None
    new = replay(repo, wanted.fork, parent, wanted.onto, drop=True)
    if isinstance(new, Evidence):
        return ComposeResult(entry=entry.id, outcome=Outcome.CONFLICT, evidence=new)
    carriage = Carriage(
        entry=entry.id,
        commit=new.tip,
        tree=new.tree,
        paths=new.paths,
        rung="rebase",
        commits=new.commits,
        dropped=new.dropped,
    )
    return ComposeResult(entry=entry.id, outcome=Outcome.COMPOSED, carriage=carriage)
