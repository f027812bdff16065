"""The inverse of landed changes on today's head, and which later commits stand in its way.

A change is taken out by a three-way merge: base is its own tree, ours the head, theirs the tree before it.
"""

import asyncio
import base64
from collections.abc import Callable, Sequence
from typing import NamedTuple

from bot.errors import Transient
from bot.merge.commits import change_of, first_parents, trailers, tree_before
from bot.merge.objects import Commit, Objects
from bot.merge.threeway import merge
from bot.merge.trees import FILE_MODES, Blob, changes_between, lookup
from bot.ports import Lease, Performed, Remotes
from schemas.base import Evidence
from schemas.change_request import ChangeRequest
from schemas.effects import Effect, TakeBack
from schemas.events import RunFailed, RunSucceeded

_MODES = {number: name for name, number in FILE_MODES.items()}


class Inverse(NamedTuple):
    """The head's tree without what was taken out (newest first). `dependants` were not asked for; `gone` were undone
    before, and nothing of them is left. `conflict` says why there is no tree."""

    tree: str | None
    taken: tuple[Commit, ...]
    dependants: tuple[Commit, ...] = ()
    gone: tuple[Commit, ...] = ()
    conflict: Evidence | None = None


class Unwritable(ValueError):
    """The inverse holds what no change request may carry; the message says what."""


class RollbackPerformer:
    """Performs `take_back`; reads our own mirror only, so it may run any number of times."""

    kinds = frozenset({"take_back"})

    def __init__(self, remotes: Remotes) -> None:
        self._remotes = remotes

    async def perform(self, effect: Effect, lease: Lease) -> Performed:
        """See bot.ports.Performer."""
        assert isinstance(effect, TakeBack)
        remote = await self._remotes(effect.repo, effect.installation)
        base = effect.base or await remote.head(f"refs/heads/{effect.base_ref}")
        if base is None:
            raise Transient(f"the branch {effect.base_ref} does not exist")
        made = await asyncio.to_thread(_take_back, Objects(remote.git_dir), effect, base)
        about = {"ticket": effect.ticket, "task": effect.task.id, "attempt": effect.attempt}
        if isinstance(made, str):
            failed = {**about, "evidence": Evidence(reason=made), "gave_up": True}
            return Performed(RunFailed.model_validate(failed))
        return Performed(RunSucceeded.model_validate({**about, "change": made, "summary": made.summary}))


def _take_back(objects: Objects, effect: TakeBack, base: str) -> ChangeRequest | str:
    """The inverse of a ticket's commits, or why there is none."""
    targets = carrying(objects, base, named(effect.of))
    if not targets:
        return f"no commit of {effect.of} is on {effect.base_ref}"
    inverse = invert(objects, base, targets)
    if why_not := refusal(objects, base, inverse):
        return why_not
    try:
        made = request(objects, f"{effect.task.id}.{effect.attempt}", base, inverse)
    except Unwritable as problem:
        return str(problem)
    return made.model_copy(update={"task": effect.task.id, "title": effect.task.title})


def refusal(objects: Objects, head: str, inverse: Inverse, *, with_dependants: bool = False) -> str:
    """Why an inverse is not to be landed by itself; empty if it may."""
    if inverse.tree == objects.tree_of(head):
        return "it was rolled back already: nothing of it is left"
    if inverse.dependants and not with_dependants:
        return f"later changes build on it: {', '.join(label(commit) for commit in inverse.dependants)}"
    if inverse.tree is None or not inverse.taken:
        return inverse.conflict.reason if inverse.conflict else "nothing of it is left to take out"
    return ""


def carrying(objects: Objects, head: str, wanted: Callable[[Commit], bool]) -> list[Commit]:
    """The commits of a branch that are wanted, newest first."""
    return [commit for commit in first_parents(objects, head, None) if wanted(commit)]


def named(name: str) -> Callable[[Commit], bool]:
    """Whether a commit carries this change request, or is of this ticket."""

    def says(commit: Commit) -> bool:
        said = trailers(commit.message) if b": " in commit.text else {}
        return name in said.get("Change-Request", []) or name in said.get("Ticket", [])

    return says


def label(commit: Commit) -> str:
    """How people are told of a commit: its id, and its change request or else its subject."""
    return f"{commit.oid[:12]} ({change_of(commit) or commit.message.split(chr(10), 1)[0][:80]})"


def invert(objects: Objects, head: str, targets: Sequence[Commit]) -> Inverse:
    """Take these commits out of the head, with whatever depends on them. They are on its first-parent line."""
    wanted = {commit.oid for commit in targets}
    straight = _without(objects, objects.tree_of(head), targets)
    if isinstance(straight, str):
        return Inverse(straight, tuple(targets))
    oldest = targets[-1]
    later = [*first_parents(objects, head, oldest.oid)][::-1]
    taken: list[Commit] = [oldest]
    undone = False
    touched = set(_changed(objects, oldest))
    for commit in later:
        changed = _changed(objects, commit)
        if commit.oid in wanted:
            taken.insert(0, commit)
            undone = False
        elif not _meet(touched, changed):
            continue
        else:
            tree = _without(objects, commit.tree, taken)
            if isinstance(tree, str):
                undone = tree == commit.tree  # and whatever brings it back ends that
            elif not undone:
                taken.insert(0, commit)
        touched |= set(changed)  # also where a file went that was moved away
    if undone:
        return Inverse(objects.tree_of(head), (), gone=tuple(taken))
    found = _without(objects, objects.tree_of(head), taken)
    dependants = tuple(commit for commit in taken if commit.oid not in wanted)
    if isinstance(found, Evidence):
        return Inverse(None, tuple(taken), dependants, conflict=found)
    return Inverse(found, tuple(taken), dependants)


def _without(objects: Objects, tree: str, taken: Sequence[Commit]) -> str | Evidence:
    """A tree after each of these is undone in turn."""
    for commit in taken:
        undo = changes_between(objects, commit.tree, tree_before(objects, commit))
        merged = merge(objects, commit.tree, tree, undo)
        if isinstance(merged, Evidence):
            return merged
        tree = merged.tree
    return tree


def _changed(objects: Objects, commit: Commit) -> dict[str, Blob | None]:
    return changes_between(objects, tree_before(objects, commit), commit.tree)


def _meet(touched: set[str], changed: dict[str, Blob | None]) -> bool:
    """Whether one names a path of the other, or a directory above or below it."""
    return any(
        one == two or one.startswith(f"{two}/") or two.startswith(f"{one}/") for one in changed for two in touched
    )


def request(objects: Objects, name: str, head: str, inverse: Inverse) -> ChangeRequest:
    """The change request that makes the head's tree the inverse's. Raises Unwritable."""
    assert inverse.tree is not None
    base = objects.tree_of(head)
    edits = [
        _edit(objects, path, lookup(objects, base, path), blob)
        for path, blob in changes_between(objects, base, inverse.tree).items()
    ]
    listed = "\n".join(f"- {label(commit)}" for commit in inverse.taken)
    given = {
        "version": 1, "id": name, "base": head, "title": f"Roll back {name.removeprefix('rollback/')}",
        "summary": f"Takes out, newest first:\n{listed}"[:20_000], "patch": edits,
    }  # fmt: skip
    try:
        return ChangeRequest.model_validate(given)
    except ValueError as error:
        raise Unwritable(f"the inverse cannot be written as a change request: {error}") from None


def _edit(objects: Objects, path: str, old: Blob | None, new: Blob | None) -> dict[str, object]:
    for blob in (old, new):
        if blob is not None and not blob.regular:
            raise Unwritable(f"{path!r} is a link or a submodule: take it back by hand")
    before = {"before": old.oid} if old else {}
    if new is None:
        return {"op": "delete", "path": path, **before}
    mode = {"mode": _MODES[new.mode]}
    if old is not None and old.oid == new.oid:
        return {"op": "chmod", "path": path, **before, **mode}
    data = objects.blob(new.oid)
    return {"op": "modify" if old else "add", "path": path, **before, **mode, **_content(data)}


def _content(data: bytes) -> dict[str, str]:
    try:
        if b"\0" not in data:
            return {"content": data.decode("utf-8"), "encoding": "utf-8"}
    except UnicodeDecodeError:
        pass
    return {"content": base64.b64encode(data).decode(), "encoding": "base64"}
