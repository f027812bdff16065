"""What a run left in its workspace, against the base commit: edits, or why they cannot be taken.

Everything in there may be hostile. Nothing is opened before it is known to be a plain file, no link is followed, and
the git dir of the workspace is never read. What counts as ignored is said by the base's ignore files alone, so that an
agent cannot hide or add files by changing them.
"""

import base64
import hashlib
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import accumulate
from pathlib import Path

import pygit2
from pydantic import ValidationError
from pygit2.enums import FileMode

from bot.runners.workspace import GIT_ENV, File, Workspace, text, write
from schemas.base import Mode, Sha
from schemas.change_request import MAX_FILE_BYTES, MAX_REQUEST_BYTES, Add, Chmod, Delete, Edit, Modify, Rename
from schemas.plan import Limits

MAX_ENTRIES, MAX_DEPTH = 300_000, 100
BY_PRODUCTS = "__pycache__/\n*.py[co]\n.pytest_cache/\n.mypy_cache/\n.ruff_cache/\nnode_modules/\n.DS_Store\n"


@dataclass(frozen=True)
class Collected:
    """`problems` are sentences about what can never be part of a change; with any of them nothing is submitted."""

    edits: tuple[Edit, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """The changed paths, sorted."""
        return tuple(edit.path for edit in self.edits)


@dataclass(frozen=True)
class _Found:
    """A file, or something odd. `refused` says why it can be no part of a change, should it differ from the base."""

    mode: int = 0
    oid: str = ""
    data: bytes = b""
    refused: str = ""


class _Entry(Enum):
    """What is no file: a directory, one that hides what the base had there, overlayfs's mark for what is gone."""

    FOLDER = auto()
    ANEW = auto()
    GONE = auto()


def collect(workspace: Workspace, limits: Limits) -> Collected:
    """Judge the workspace after every process of the run is dead. Never raises for what an agent left."""
    place = workspace.upper or workspace.folder
    theirs = workspace.files.keys() - workspace.odd
    changed: dict[bytes, _Found | None] = {}
    seen: set[bytes] = set()
    hidden: set[bytes] = set()
    root = _open_directory(os.fsencode(place), None, place.lstat())
    for count, (path, found) in enumerate(_walk(root, b"", workspace.odd, layer=workspace.upper is not None)):
        if count > MAX_ENTRIES or path.count(b"/") > MAX_DEPTH:
            much = f"the workspace holds over {MAX_ENTRIES} entries or is too deep: remove what is generated"
            return Collected(problems=(much,))
        base = workspace.files.get(path)
        if isinstance(found, _Found):
            seen.add(path)
            if base is None or (base.mode, base.oid) != (found.mode, found.oid):
                changed[path] = found
        if not (base and isinstance(found, _Found)) and not (base is None and found is _Entry.FOLDER):
            hidden.add(path)
    if workspace.upper is None:
        changed |= dict.fromkeys(theirs - seen)
    elif hidden:
        changed |= {path: None for path in theirs - seen if not hidden.isdisjoint(_upwards(path))}
    fresh = [path for path in changed if path not in workspace.files]
    for path in _ignored(workspace, fresh) if fresh else ():
        del changed[path]
    judged = [_judge(path, workspace.files.get(path), changed[path]) for path in sorted(changed)]
    edits = tuple(edit for edit in judged if not isinstance(edit, str))
    problems = [problem for problem in judged if isinstance(problem, str)]
    return Collected(edits, (*problems, *_over_limits(edits, limits))[:20])


def _upwards(path: bytes) -> Iterator[bytes]:
    """A path and all that it lies in."""
    return accumulate(path.split(b"/"), lambda one, other: one + b"/" + other)


def _walk(
    directory: int, prefix: bytes, odd: frozenset[bytes], *, layer: bool
) -> Iterator[tuple[bytes, _Found | _Entry]]:
    """Every entry below an open directory; by descriptors, so that no path is resolved again."""
    try:
        for name in map(os.fsencode, os.listdir(directory)):
            path = prefix + name
            if name.lower() == b".git" or path in odd:
                continue
            info = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if stat.S_ISDIR(info.st_mode):
                opened = _open_directory(name, directory, info)
                yield path, _Entry.ANEW if layer and _opaque(opened) else _Entry.FOLDER
                yield from _walk(opened, path + b"/", odd, layer=layer)
            elif layer and stat.S_ISCHR(info.st_mode) and info.st_rdev == 0:
                yield path, _Entry.GONE
            else:
                yield path, _look(name, directory, info)
    finally:
        os.close(directory)


def _opaque(directory: int) -> bool:
    """Whether overlayfs shows nothing of the lower layers in it (its xattr, as mounted by users)."""
    try:
        return os.getxattr(directory, "user.overlay.opaque") == b"y"
    except OSError:
        return False


def _open_directory(name: bytes, directory: int | None, info: os.stat_result) -> int:
    """By a handle that is no link; what an agent locked against reading is opened first."""
    handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
    try:
        os.chmod(f"/proc/self/fd/{handle}", info.st_mode | stat.S_IRWXU)
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=handle)
    finally:
        os.close(handle)


def _look(name: bytes, directory: int, info: os.stat_result) -> _Found:
    if stat.S_ISLNK(info.st_mode):
        return _Found(refused="is a link: links cannot be part of a change")
    if not stat.S_ISREG(info.st_mode) or info.st_nlink > 1:
        return _Found(refused="is not a plain file (a device, a pipe, or linked to another file)")
    mode = FileMode.BLOB_EXECUTABLE if info.st_mode & stat.S_IXUSR else FileMode.BLOB
    head = hashlib.sha1(b"blob %d\0" % info.st_size, usedforsecurity=False)
    try:
        opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    except PermissionError:
        return _Found(refused="cannot be read: give it back its permissions")
    with os.fdopen(opened, "rb") as file:
        oid = hashlib.file_digest(file, head.copy).hexdigest()
        if info.st_size > MAX_FILE_BYTES:
            return _Found(mode, oid, refused=f"is over {MAX_FILE_BYTES} bytes")
        file.seek(0)
        return _Found(mode, oid, file.read(info.st_size))


def _ignored(workspace: Workspace, fresh: Sequence[bytes]) -> set[bytes]:
    """Which new paths the base's own ignore rules (and the usual by-products of tools) leave out; asked of real git."""
    with tempfile.TemporaryDirectory(prefix="interlock-ignore-") as scratch:
        pygit2.init_repository(scratch)
        Path(scratch, ".git", "info", "exclude").write_text(BY_PRODUCTS)
        source = pygit2.Repository(str(workspace.git_dir))
        for path, file in workspace.files.items():
            if path.rsplit(b"/", 1)[-1] == b".gitignore" and file.regular:
                write(source, file, Path(scratch), path)
        answer = subprocess.run(
            ["git", "check-ignore", "--no-index", "-z", "--stdin"],
            input=b"\0".join(fresh) + b"\0", capture_output=True, env=GIT_ENV, cwd=scratch, check=False, timeout=120,
        )  # fmt: skip
        if answer.returncode not in (0, 1):
            raise OSError(f"git check-ignore failed: {answer.stderr.decode('utf-8', 'replace').strip()}")
        return set(filter(None, answer.stdout.split(b"\0")))


def _judge(path: bytes, base: File | None, found: _Found | None) -> Edit | str:
    """The edit that makes this of the base, or a sentence about why there can be none."""
    if (name := text(path)) is None:
        return f"{path!r} is not valid UTF-8: such a file cannot be part of a change"
    if found is not None and found.refused:
        return f"{name} {found.refused}"
    try:
        return _edit(name, base, found)
    except ValidationError as error:
        return f"{name}: {error.errors()[0]['msg']}"


def _edit(name: str, base: File | None, found: _Found | None) -> Edit:
    if found is None:
        assert base is not None
        return Delete(path=name, before=base.oid)
    mode: Mode = "100755" if found.mode == FileMode.BLOB_EXECUTABLE else "100644"
    if base is not None and base.oid == found.oid:
        return Chmod(path=name, before=base.oid, mode=mode)
    content, encoding = text(found.data), "utf-8"
    if content is None or "\0" in content:
        content, encoding = base64.b64encode(found.data).decode("ascii"), "base64"
    if base is None:
        return Add(path=name, content=content, encoding=encoding, mode=mode)
    changed = mode if base.mode != found.mode else None
    return Modify(path=name, before=base.oid, content=content, encoding=encoding, mode=changed)


def _over_limits(edits: Sequence[Edit], limits: Limits) -> list[str]:
    size = sum(len(edit.data()) for edit in edits if isinstance(edit, Add | Modify))
    lines = sum(edit.data().count(b"\n") for edit in edits if isinstance(edit, Add))
    counted = [
        (len(edits), limits.files, f"{len(edits)} files are changed"),
        (size, min(limits.bytes, MAX_REQUEST_BYTES), f"the changed files hold {size} bytes"),
        (lines, limits.lines, f"{lines} lines are new"),
    ]
    return [f"{sentence}, {allowed} are allowed" for number, allowed, sentence in counted if number > allowed]


def tree_of(space: Workspace, edits: Sequence[Edit]) -> Sha:
    """Base and edits as a tree in our own object store, by an index in memory (the queue builds its own, strictly)."""
    repo = pygit2.Repository(str(space.git_dir))
    index = pygit2.Index()
    index.read_tree(repo[space.tree].peel(pygit2.Tree))
    for edit in sorted(edits, key=lambda e: not isinstance(e, Delete)):  # a file may become a folder, or the reverse
        if isinstance(edit, Delete):
            index.remove(edit.path)
            continue
        assert not isinstance(edit, Rename), "collected edits hold no renames"
        mode = int(edit.mode, 8) if edit.mode else space.files[edit.path.encode("utf-8")].mode
        blob = pygit2.Oid(hex=edit.before) if isinstance(edit, Chmod) else repo.create_blob(edit.data())
        index.add(pygit2.IndexEntry(edit.path, blob, FileMode(mode)))
    return str(index.write_tree(repo))
