"""Strict application of a change request to its own base: every `before` must fit, nothing is guessed.

A failure here is the submitter's (`invalid`), never a conflict.
"""

from itertools import accumulate

from pygit2.enums import AttrCheck

from bot.merge.objects import Objects
from bot.merge.trees import FILE_MODES, Blob, Clash, lookup, names, rewrite, subtree
from bot.rules import globs, paths
from schemas.change_request import Add, ChangeRequest, Chmod, Delete, Edit, Modify, Rename

_ATTRIBUTES = AttrCheck.INDEX_ONLY | AttrCheck.INCLUDE_COMMIT | AttrCheck.NO_SYSTEM


class Invalid(Exception):
    """The request does not fit its own base; the message says where."""


def apply(objects: Objects, request: ChangeRequest, owns: tuple[str, ...] | None) -> dict[str, Blob | None]:
    """The files that the request changes, checked against its base. Raises Invalid."""
    try:
        base = objects.commit(request.base).tree
    except (KeyError, ValueError):
        raise Invalid(f"the base {request.base} is not a commit of this repository") from None
    changes: dict[str, Blob | None] = {}
    for edit in request.patch:
        for path, blob in _edit(objects, base, edit):
            changes[path] = blob or changes.get(path)  # one file may leave a path and another take it
    for path in changes:
        if owns is not None and not globs.matches(owns, path):
            raise Invalid(f"{path!r} is outside of what this request owns")
        if _in_lfs(objects, base, request.base, path):
            raise Invalid(f"{path!r} is kept in Git LFS, which is read-only here")
    new_paths = [e.path for e in request.patch if isinstance(e, Add | Rename) and lookup(objects, base, e.path) is None]
    if new_paths:
        _check_names(objects, base, changes, new_paths)
        try:
            rewrite(objects, base, changes)
        except Clash as clash:
            raise Invalid(str(clash)) from None
    return {path: blob for path, blob in changes.items() if blob != lookup(objects, base, path)}


def _check_names(objects: Objects, base: str, changes: dict[str, Blob | None], new_paths: list[str]) -> None:
    """Rules for paths that are not there yet. Raises Invalid."""
    spelt: dict[str, str] = {}
    for path in new_paths:
        if reason := paths.fault(path):
            raise Invalid(f"{path!r:.200}: {reason}")
        other = paths.twin(path, lambda directory: names(objects, base, directory))
        if other is not None and changes.get(other, other) is not None:
            raise Invalid(f"{path!r} differs from the existing {other!r} in case or composition only")
        for part in accumulate(path.split("/"), "{}/{}".format):
            if (other := spelt.setdefault(paths.folded(part), part)) != part:
                raise Invalid(f"{path!r} differs from {other!r}, new as well, in case or composition only")


def _edit(objects: Objects, base: str, edit: Edit) -> list[tuple[str, Blob | None]]:
    if isinstance(edit, Add):
        if lookup(objects, base, edit.path) is not None:
            raise Invalid(f"{edit.path!r} exists in the base: it cannot be added")
        return [(edit.path, Blob(_content(objects, edit, ""), FILE_MODES[edit.mode]))]
    source = edit.source if isinstance(edit, Rename) else edit.path
    known = lookup(objects, base, source)
    if known is None:
        what = "does not exist in the base" if subtree(objects, base, source) is None else "is a directory"
        raise Invalid(f"{source!r} {what}")
    if not known.regular:
        raise Invalid(f"{source!r} is a link or a submodule: those are not changed here")
    if known.oid != edit.before:
        raise Invalid(f"{source!r} is {known.oid} in the base, not {edit.before}")
    if isinstance(edit, Delete):
        return [(edit.path, None)]
    content = None if isinstance(edit, Chmod) or edit.content is None else _content(objects, edit, known.oid)
    after = Blob(content or known.oid, FILE_MODES[edit.mode] if edit.mode else known.mode)
    if not isinstance(edit, Rename):
        return [(edit.path, after)]
    if edit.path != edit.source and lookup(objects, base, edit.path) is not None:
        raise Invalid(f"{edit.path!r} exists in the base: nothing can be renamed to it")
    return [(edit.source, None), (edit.path, after)]


def _content(objects: Objects, edit: Add | Modify | Rename, before: str) -> str:
    return objects.add_blob(edit.data(), before, trusted=edit.encoding == "utf-8")


def _in_lfs(objects: Objects, base: str, commit: str, path: str) -> bool:
    """Whether the path's `filter` attribute is lfs. libgit2 is asked only if some file could say so."""
    directories = ["", *accumulate(path.split("/")[:-1], "{}/{}".format)]
    told = b"filter" in objects.attributes or any(_names_a_filter(objects, base, one) for one in directories)
    if not told:
        return False
    return objects.repository.get_attr(path, "filter", _ATTRIBUTES, commit) == "lfs"


def _names_a_filter(objects: Objects, base: str, directory: str) -> bool:
    entry = (subtree(objects, base, directory) or {}).get(b".gitattributes")
    return entry is not None and entry[0].startswith(b"100") and b"filter" in objects.blob(entry[1].hex())
