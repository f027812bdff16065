"""Composing a train: entries are prepared in parallel threads, then folded in order onto the head.

Preparing is strict application to the entry's own base; folding is a three-way merge with what was folded before.
What fails only because of an entry ahead of it in the train stays queued: it is judged against landed commits alone.
"""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pygit2

from bot.merge import commits
from bot.merge.apply import Invalid, apply
from bot.merge.ladder import Ladder
from bot.merge.objects import Objects
from bot.merge.threeway import merge
from bot.merge.trees import Blob, tree_digest
from schemas import lane as q
from schemas.base import Evidence
from schemas.change_request import ChangeRequest

Files = dict[str, Blob | None]
Folded = tuple[q.Outcome, q.Carriage | Evidence]
_TROUBLE = (pygit2.GitError, OSError, KeyError, ValueError, subprocess.SubprocessError)


@dataclass(frozen=True)
class Start:
    """What a train is composed on: the remote's ref (`old`), the parent commit, where the lane forked, and the remote
    head of each series' own branch, by entry."""

    old: str | None
    base: str
    fork: str | None
    branch_heads: dict[str, str | None]


def prepare(objects: Objects, entry: q.Entry) -> Files:
    """An entry's files against its own base; only makes and reads objects. Raises Invalid."""
    if entry.change is None:
        return {}
    return apply(objects, entry.change, entry.owns or entry.change.owns)


def compose(
    git_dir: Path, start: Start, entries: Sequence[q.Entry], threads: int,
    landed: commits.Landed | None = None, driver: str = "",
) -> q.Composed:  # fmt: skip
    """A train of these entries, its objects on disk. `landed` may be one that read this lane before."""
    objects = Objects(git_dir)
    known = (landed or commits.Landed()).upto(objects, start.base, start.fork) if start.old is not None else {}
    fold = _Fold(objects, known, start.branch_heads, driver)
    results: list[q.ComposeResult] = []
    parent, moved = start.base, False
    for entry, ready in zip(entries, _prepared(objects, entries, threads), strict=True):
        result = fold.entry(parent, entry, ready)
        if moved and result.outcome in (q.Outcome.CONFLICT, q.Outcome.NOOP):
            break
        results.append(result)
        if result.carriage is not None and result.outcome is q.Outcome.COMPOSED:
            parent, moved = result.carriage.commit, True
            if entry.rebase is not None:
                break  # the lane's history is another one now: nothing else rides along
    if moved:
        objects.flush([parent])
    return q.Composed(base=start.base, old=start.old, results=tuple(results))


def _prepared(objects: Objects, entries: Sequence[q.Entry], threads: int) -> Sequence[Callable[[], Files]]:
    """What gives each entry's files, made ahead in threads."""
    if threads < 2 or len(entries) < 2:
        return [partial(prepare, objects, entry) for entry in entries]
    with ThreadPoolExecutor(max_workers=threads) as pool:
        return [pool.submit(prepare, objects, entry).result for entry in entries]


@dataclass(frozen=True)
class _Fold:
    """Folds prepared entries onto a parent commit. `known`: what is on the branch already, by change request."""

    objects: Objects
    known: Mapping[str, str]
    branch_heads: dict[str, str | None]
    driver: str

    def entry(self, parent: str, entry: q.Entry, ready: Callable[[], Files]) -> q.ComposeResult:
        """One entry's part in the train."""
        try:
            outcome, found = self._folded(parent, entry, ready)
        except Invalid as problem:
            outcome, found = q.Outcome.INVALID, Evidence(reason=str(problem))
        except _TROUBLE as problem:
            outcome, found = q.Outcome.INFRA, Evidence(reason=f"git failed: {problem}")
        if isinstance(found, Evidence):
            return q.ComposeResult(entry=entry.id, outcome=outcome, evidence=found)
        return q.ComposeResult(entry=entry.id, outcome=outcome, carriage=found)

    def _folded(self, parent: str, entry: q.Entry, ready: Callable[[], Files]) -> Folded:
        if entry.series is not None:
            return self._series(parent, entry, entry.series)
        if entry.rebase is not None:
            return self._rebase(parent, entry, entry.rebase)
        assert entry.change is not None
        if entry.change.id in self.known:
            return self._already(entry, [entry.change.id])
        return self._change(parent, entry, entry.change, ready())

    def _change(self, parent: str, entry: q.Entry, change: ChangeRequest, files: Files) -> Folded:
        ours = self.objects.tree_of(parent)
        base = self.objects.tree_of(change.base)
        merged = merge(self.objects, base, ours, files, Ladder(entry.rungs, self.driver))
        if isinstance(merged, Evidence):
            return q.Outcome.CONFLICT, merged
        if merged.tree == ours:
            return q.Outcome.NOOP, q.Carriage(entry=entry.id, commit=parent, tree=merged.tree)
        text = commits.message(change, entry.ticket)
        commit = commits.create(self.objects, parent, merged.tree, text, entry.accepted)
        return q.Outcome.COMPOSED, q.Carriage(
            entry=entry.id, commit=commit, tree=merged.tree, paths=tuple(sorted(files)), rung=merged.rung,
            resolutions=merged.resolutions, commits=((change.id, commit),),
        )  # fmt: skip

    def _series(self, parent: str, entry: q.Entry, series: q.Series) -> Folded:
        changes = [commits.change_of(commit) for commit in commits.series(self.objects, series.fork, series.tip)]
        named = [change for change in changes if change]
        if named and all(change in self.known for change in named):
            return self._already(entry, named)
        title = f"{entry.ticket}: {len(changes)} changes" if series.method == "squash" else ""
        new = commits.replay(self.objects, series.fork, series.tip, parent, entry=entry.id, squash=title)
        if isinstance(new, Evidence):
            return q.Outcome.CONFLICT, new
        if new.commit == parent:
            return q.Outcome.NOOP, q.Carriage(entry=entry.id, commit=parent, tree=new.tree)
        digest = tree_digest(self.objects, self.objects.tree_of(parent), self.objects.tree_of(new.commit))
        if digest != series.digest:
            return q.Outcome.POLICY, Evidence(reason="on today's base the change differs from what was approved")
        branch_old = self.branch_heads.get(entry.id)
        return q.Outcome.COMPOSED, new.model_copy(update={"digest": digest, "branch_old": branch_old})

    def _already(self, entry: q.Entry, changes: list[str]) -> Folded:
        """A change, or all of a series, was found on the branch by its trailers."""
        landed = tuple((change, self.known[change]) for change in changes)
        commit = self.known[changes[-1]]
        tree = self.objects.tree_of(commit)
        return q.Outcome.ALREADY, q.Carriage(entry=entry.id, commit=commit, tree=tree, commits=landed)

    def _rebase(self, parent: str, entry: q.Entry, wanted: q.Rebase) -> Folded:
        new = commits.replay(self.objects, wanted.fork, parent, wanted.onto, entry=entry.id, drop=True)
        if isinstance(new, Evidence):
            return q.Outcome.CONFLICT, new
        return q.Outcome.COMPOSED, new.model_copy(update={"rung": "rebase"})
