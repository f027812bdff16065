"""Strict application of a change request to its own base: every `before` must fit, nothing is guessed.

A failure here is the submitter's (`invalid`), never a conflict. What is allowed is judged on the paths read back from
the tree that was built, not on the request's words.
"""

from itertools import accumulate

import pygit2
from pygit2.enums import AttrCheck

from bot.merge.trees import FILE_MODES, Blob, Clash, changes_between, lookup, names, rewrite, tree_of
from bot.rules import globs, paths
from schemas.change_request import Add, ChangeRequest, Chmod, Delete, Edit, Rename

_ATTRIBUTES = AttrCheck.INDEX_ONLY | AttrCheck.INCLUDE_COMMIT | AttrCheck.NO_SYSTEM


class Invalid(Exception):
    """The request does not fit its own base; the message says where."""


def apply(repo: pygit2.Repository, request: ChangeRequest, owns: tuple[str, ...] | None) -> dict[str, Blob | None]:
    """The files that the request changes, checked against its base. Raises Invalid."""
    try:
        base = tree_of(repo, request.base)
    except (KeyError, ValueError, pygit2.GitError):
        raise Invalid(f"the base {request.base} is not a commit of this repository") from None
    changes: dict[str, Blob | None] = {}
    for edit in request.patch:
        for path, blob in _edit(repo, base, edit):
            changes[path] = blob or changes.get(path)  # one file may leave a path and another take it
    new_paths = [e.path for e in request.patch if isinstance(e, Add | Rename) and lookup(base, e.path) is None]
    spelt: dict[str, str] = {}
    for path in new_paths:
        if reason := paths.fault(path):
            raise Invalid(f"{path!r:.200}: {reason}")
        other = paths.twin(path, lambda directory: names(base, directory))
        if other is not None and changes.get(other, other) is not None:
            raise Invalid(f"{path!r} differs from the existing {other!r} in case or composition only")
        for part in accumulate(path.split("/"), "{}/{}".format):
            if (other := spelt.setdefault(paths.folded(part), part)) != part:
                raise Invalid(f"{path!r} differs from {other!r}, new as well, in case or composition only")
    for path in changes:
        if owns is not None and not globs.matches(owns, path):
            raise Invalid(f"{path!r} is outside of what this request owns")
        if repo.get_attr(path, "filter", _ATTRIBUTES, request.base) == "lfs":
            raise Invalid(f"{path!r} is kept in Git LFS, which is read-only here")
    try:
        tree = rewrite(repo, base, changes)
    except Clash as clash:
        raise Invalid(str(clash)) from None
    declared = {path: blob for path, blob in changes.items() if blob != lookup(base, path)}
    if changes_between(base, repo[tree].peel(pygit2.Tree)) != declared:
        raise Invalid("the tree that was built differs from what the request declares")
    return declared


def _edit(repo: pygit2.Repository, base: pygit2.Tree, edit: Edit) -> list[tuple[str, Blob | None]]:
    if isinstance(edit, Add):
        if lookup(base, edit.path) is not None:
            raise Invalid(f"{edit.path!r} exists in the base: it cannot be added")
        return [(edit.path, Blob(str(repo.create_blob(edit.data())), FILE_MODES[edit.mode]))]
    source = edit.source if isinstance(edit, Rename) else edit.path
    known = lookup(base, source)
    if known is None:
        what = "is a directory" if names(base, source) else "does not exist in the base"
        raise Invalid(f"{source!r} {what}")
    if not known.regular:
        raise Invalid(f"{source!r} is a link or a submodule: those are not changed here")
    if known.oid != edit.before:
        raise Invalid(f"{source!r} is {known.oid} in the base, not {edit.before}")
    if isinstance(edit, Delete):
        return [(edit.path, None)]
    oid = known.oid if isinstance(edit, Chmod) or edit.content is None else str(repo.create_blob(edit.data()))
    after = Blob(oid, FILE_MODES[edit.mode] if edit.mode else known.mode)
    if not isinstance(edit, Rename):
        return [(edit.path, after)]
    if edit.path != edit.source and lookup(base, edit.path) is not None:
        raise Invalid(f"{edit.path!r} exists in the base: nothing can be renamed to it")
    return [(edit.source, None), (edit.path, after)]
