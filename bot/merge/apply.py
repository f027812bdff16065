"""Strict application of a change request to its own base: every `before` must fit, nothing is guessed.

A failure here is the submitter's (`invalid`), never a conflict. What is allowed is judged on the paths read back from
the tree that was built, not on the request's words.
"""

from __future__ import annotations

import pygit2
from pygit2.enums import FileMode

from bot.merge.trees import FILE_MODES, Blob, Clash, changes_between, is_directory, lookup, names, rewrite_root, tree_of
from bot.rules import globs, paths
from schemas.change_request import Add, ChangeRequest, Chmod, Delete, Edit, Modify, Rename

_FILES = (FileMode.BLOB, FileMode.BLOB_EXECUTABLE)


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
            if path in changes and not (changes[path] is None and blob is not None):
                if blob is None:
                    continue
                raise Invalid(f"{path!r} is changed twice")
            changes[path] = blob
    removed = {path for path, blob in changes.items() if blob is None}
    for edit in request.patch:
        if isinstance(edit, Add | Rename) and lookup(base, edit.path) is None:
            _new_path(base, edit.path, removed)
    for path in changes:
        if owns is not None and not globs.matches(owns, path):
            raise Invalid(f"{path!r} is outside of what this request owns")
        if _is_lfs(repo, base, path):
            raise Invalid(f"{path!r} is kept in Git LFS, which is read-only here")
    try:
        tree = rewrite_root(repo, base, changes)
    except Clash as clash:
        raise Invalid(str(clash)) from None
    read_back = changes_between(repo, base, repo[tree].peel(pygit2.Tree))
    declared = {path: blob for path, blob in changes.items() if blob != lookup(base, path)}
    if read_back != declared:
        raise Invalid("the tree that was built differs from what the request declares")
    return declared


def _edit(repo: pygit2.Repository, base: pygit2.Tree, edit: Edit) -> list[tuple[str, Blob | None]]:
    if isinstance(edit, Add):
        if lookup(base, edit.path) is not None:
            raise Invalid(f"{edit.path!r} exists in the base: it cannot be added")
        return [(edit.path, Blob(_store(repo, edit), FILE_MODES[edit.mode]))]
    source = edit.source if isinstance(edit, Rename) else edit.path
    known = lookup(base, source)
    if known is None:
        what = "is a directory" if is_directory(base, source) else "does not exist in the base"
        raise Invalid(f"{source!r} {what}")
    if known.mode not in _FILES:
        raise Invalid(f"{source!r} is a link or a submodule: those are not changed here")
    if known.oid != edit.before:
        raise Invalid(f"{source!r} is {known.oid} in the base, not {edit.before}")
    match edit:
        case Delete():
            return [(edit.path, None)]
        case Chmod():
            return [(edit.path, Blob(known.oid, FILE_MODES[edit.mode]))]
        case Modify():
            return [(edit.path, Blob(_store(repo, edit), _mode(edit.mode, known)))]
        case Rename():
            if edit.path != edit.source and lookup(base, edit.path) is not None:
                raise Invalid(f"{edit.path!r} exists in the base: nothing can be renamed to it")
            oid = known.oid if edit.content is None else _store(repo, edit)
            return [(edit.source, None), (edit.path, Blob(oid, _mode(edit.mode, known)))]


def _mode(wanted: str | None, known: Blob) -> int:
    return int(FILE_MODES[wanted]) if wanted else known.mode


def _store(repo: pygit2.Repository, edit: Add | Modify | Rename) -> str:
    return str(repo.create_blob(edit.data()))


def _new_path(base: pygit2.Tree, path: str, removed: set[str]) -> None:
    if reason := paths.fault(path):
        raise Invalid(f"{path!r}: {reason}")
    other = paths.twin(path, lambda directory: names(base, directory))
    if other is not None and other not in removed:
        raise Invalid(f"{path!r} differs from the existing {other!r} in case or composition only")


def _is_lfs(repo: pygit2.Repository, base: pygit2.Tree, path: str) -> bool:
    """Whether an attributes file on the way says `filter=lfs` for the path (last match wins, as git has it)."""
    verdict = False
    directories = ["", *("/".join(path.split("/")[:depth]) + "/" for depth in range(1, path.count("/") + 1))]
    for directory in directories:
        blob = lookup(base, f"{directory}.gitattributes")
        if blob is None or b"filter" not in (data := repo[blob.oid].peel(pygit2.Blob).data):
            continue
        for line in data.decode("utf-8", "replace").splitlines():
            pattern, _, rest = line.strip().partition(" ")
            if not pattern or pattern.startswith(("#", "[")) or "filter" not in rest:
                continue
            relative = path[len(directory) :]
            glob = pattern.lstrip("/") if "/" in pattern.strip("/") or pattern.startswith("/") else f"**/{pattern}"
            if globs.match(glob, relative):
                verdict = "filter=lfs" in rest.split()
    return verdict
