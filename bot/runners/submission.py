"""From collected edits to a change request, with the tree that our checks run on."""

from __future__ import annotations

from dataclasses import dataclass

import pygit2

from bot.runners.collect import Collected
from bot.runners.tools import WorkAnswers
from bot.runners.workspace import Workspace
from schemas.base import CheckCommand, Sha
from schemas.change_request import Add, ChangeRequest, Chmod, Delete, Edit, Modify
from schemas.effects import RunAgent


@dataclass(frozen=True)
class Submission:
    """A change request, the tree that it makes of its base, and what gates it."""

    change: ChangeRequest
    tree: Sha
    checks: tuple[CheckCommand, ...]


def submit(effect: RunAgent, answers: WorkAnswers, collected: Collected, space: Workspace) -> Submission:
    """The change request of a run; its id is the run's."""
    assert effect.task is not None
    change = ChangeRequest(
        id=f"{effect.task.id}.{effect.attempt}",
        task=effect.task.id,
        base=effect.base,
        title=effect.task.title,
        summary=answers.summary[:20_000],
        owns=answers.owns,
        patch=collected.edits,
    )
    checks = {check.name: check for check in (*effect.task.checks, *effect.checks)}
    return Submission(change, _tree(space, collected.edits), tuple(checks.values()))


def _tree(space: Workspace, edits: tuple[Edit, ...]) -> Sha:
    """Base and edits as a tree in our own object store, by an index in memory (the queue builds its own, strictly)."""
    repo = pygit2.Repository(str(space.git_dir))
    index = pygit2.Index()
    index.read_tree(repo[space.tree].peel(pygit2.Tree))
    for edit in sorted(edits, key=lambda e: not isinstance(e, Delete)):  # a file may become a folder, or the reverse
        match edit:
            case Delete():
                index.remove(edit.path)
            case Chmod():
                index.add(pygit2.IndexEntry(edit.path, pygit2.Oid(hex=edit.before), _mode(edit.mode)))
            case Add() | Modify():
                base = space.files.get(edit.path.encode("utf-8"))
                mode = _mode(edit.mode) if edit.mode else pygit2.enums.FileMode(base.mode if base else 0o100644)
                index.add(pygit2.IndexEntry(edit.path, repo.create_blob(edit.data()), mode))
            case _:
                raise AssertionError("collected edits hold no renames")
    return str(index.write_tree(repo))


def _mode(mode: str) -> pygit2.enums.FileMode:
    return pygit2.enums.FileMode(int(mode, 8))
