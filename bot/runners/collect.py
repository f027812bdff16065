"""What a run left in its workspace, against the base commit: edits, or why they cannot be taken.

Everything in there may be hostile. Nothing is opened before it is known to be a plain file, no link is followed, and
the git dir of the workspace is never read. What counts as ignored is said by the base's ignore files alone, so that an
agent cannot hide or add files by changing them.
"""

from __future__ import annotations

import base64
import hashlib
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pygit2
from pydantic import ValidationError

from bot.runners.workspace import File, Workspace
from schemas.change_request import MAX_FILE_BYTES, Add, Chmod, Delete, Edit, Modify
from schemas.plan import Limits

MAX_ENTRIES = 300_000
MAX_DEPTH = 100
BY_PRODUCTS = (
    "__pycache__/",
    "*.py[co]",
    ".pytest_cache/",
    ".mypy_cache/",
    ".ruff_cache/",
    "node_modules/",
    ".DS_Store",
)
_ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}


class TooMuch(Exception):
    """The workspace holds more than anybody would review."""


@dataclass(frozen=True)
class Collected:
    """`problems` are sentences about what can never be part of a change; with any of them nothing is submitted."""

    edits: tuple[Edit, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """The changed paths, sorted."""
        return tuple(sorted(edit.path for edit in self.edits))


@dataclass(frozen=True)
class _Found:
    path: bytes
    kind: Literal["file", "link", "other"]
    mode: int = 0
    oid: str = ""
    data: bytes | None = None
    """None for a file over the limit."""


def collect(workspace: Workspace, limits: Limits) -> Collected:
    """Judge the workspace after every process of the run is dead. Never raises for what an agent left."""
    try:
        found = {item.path: item for item in _scan(workspace)}
    except TooMuch as error:
        return Collected(problems=(str(error),))
    changed = [item for path, item in found.items() if _differs(workspace.files.get(path), item)]
    fresh = [item.path for item in changed if item.path not in workspace.files]
    ignored = _ignored(workspace, fresh)
    edits: list[Edit] = []
    problems: list[str] = []
    for item in sorted(changed, key=lambda i: i.path):
        if item.path not in ignored:
            _judge(workspace.files.get(item.path), item, edits, problems)
    for path, file in workspace.files.items():
        if path not in found and path not in workspace.odd:
            name = _text(path)
            if name is not None:
                edits.append(Delete(path=name, before=file.oid))
    problems += _over_limits(edits, limits)
    return Collected(tuple(sorted(edits, key=lambda e: e.path)), tuple(problems[:20]))


def _scan(workspace: Workspace) -> Iterator[_Found]:
    """Depth first by directory descriptors; a path can be swapped under us no more than the processes are dead."""
    root = os.open(workspace.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    count = 0
    stack: list[tuple[int, bytes]] = [(root, b"")]
    try:
        while stack:
            directory, prefix = stack.pop()
            try:
                names = [os.fsencode(name) for name in os.listdir(directory)]
                count += len(names)
                if count > MAX_ENTRIES or prefix.count(b"/") > MAX_DEPTH:
                    raise TooMuch(
                        f"the workspace holds over {MAX_ENTRIES} entries or is too deep: remove what is generated"
                    )
                for name in names:
                    path = prefix + name
                    if name.lower() == b".git" or path in workspace.odd:
                        continue
                    info = os.stat(name, dir_fd=directory, follow_symlinks=False)
                    if stat.S_ISDIR(info.st_mode):
                        child = _open_directory(name, directory, info)
                        if child is not None:
                            stack.append((child, path + b"/"))
                        continue
                    yield _found(path, name, directory, info)
            finally:
                os.close(directory)
    finally:
        for left, _ in stack:
            os.close(left)


def _open_directory(name: bytes, directory: int, info: os.stat_result) -> int | None:
    try:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
    except PermissionError:
        os.chmod(name, info.st_mode | stat.S_IRWXU, dir_fd=directory)
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)


def _found(path: bytes, name: bytes, directory: int, info: os.stat_result) -> _Found:
    if stat.S_ISLNK(info.st_mode):
        return _Found(path, "link")
    if not stat.S_ISREG(info.st_mode) or info.st_nlink > 1:
        return _Found(path, "other")
    mode = 0o100755 if info.st_mode & stat.S_IXUSR else 0o100644
    digest = hashlib.sha1(b"blob %d\0" % info.st_size, usedforsecurity=False)
    kept: list[bytes] = []
    with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory), "rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
            if info.st_size <= MAX_FILE_BYTES:
                kept.append(chunk)
    data = b"".join(kept) if info.st_size <= MAX_FILE_BYTES else None
    return _Found(path, "file", mode, digest.hexdigest(), data)


def _differs(base: File | None, item: _Found) -> bool:
    return base is None or item.kind != "file" or base.mode != item.mode or base.oid != item.oid


def _ignored(workspace: Workspace, fresh: list[bytes]) -> set[bytes]:
    """Which new paths the base's own ignore rules (and the usual by-products of tools) leave out; asked of real git."""
    if not fresh:
        return set()
    with tempfile.TemporaryDirectory(prefix="interlock-ignore-") as scratch:
        tree, git_dir = Path(scratch) / "tree", Path(scratch) / "git"
        tree.mkdir()
        repo = pygit2.init_repository(str(git_dir), bare=True)
        del repo
        (git_dir / "info").mkdir(exist_ok=True)
        (git_dir / "info" / "exclude").write_text("\n".join(BY_PRODUCTS) + "\n")
        source = pygit2.Repository(str(workspace.git_dir))
        for path, file in workspace.files.items():
            if path.rsplit(b"/", 1)[-1] == b".gitignore" and file.mode in (0o100644, 0o100755):
                place = os.path.join(os.fsencode(tree), path)
                os.makedirs(os.path.dirname(place), exist_ok=True)
                Path(os.fsdecode(place)).write_bytes(source[file.oid].peel(pygit2.Blob).data)
        answer = subprocess.run(
            ["git", "-c", "core.bare=false", f"--git-dir={git_dir}", f"--work-tree={tree}",
             "check-ignore", "--no-index", "-z", "--stdin"],
            input=b"\0".join(fresh) + b"\0", capture_output=True, env=_ENV, cwd=tree, check=False, timeout=120,
        )  # fmt: skip
        if answer.returncode not in (0, 1):
            raise OSError(f"git check-ignore failed: {answer.stderr.decode('utf-8', 'replace').strip()}")
        return set(filter(None, answer.stdout.split(b"\0")))


def _text(path: bytes) -> str | None:
    try:
        return path.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _judge(base: File | None, item: _Found, edits: list[Edit], problems: list[str]) -> None:
    name = _text(item.path)
    if name is None:
        problems.append(f"{item.path!r} is not valid UTF-8: such a file cannot be part of a change")
    elif item.kind == "link":
        problems.append(f"{name} is a link: links cannot be part of a change")
    elif item.kind == "other":
        problems.append(f"{name} is not a plain file (a device, a pipe, or linked to another file)")
    elif item.data is None:
        problems.append(f"{name} is over {MAX_FILE_BYTES} bytes")
    else:
        try:
            edits.append(_edit(base, name, item.mode, item.oid, item.data))
        except ValidationError as error:
            problems.append(f"{name}: {error.errors()[0]['msg']}")


def _edit(base: File | None, name: str, mode: int, oid: str, data: bytes) -> Edit:
    text: dict[str, str]
    try:
        if b"\0" in data:
            raise UnicodeDecodeError("utf-8", data, 0, 1, "binary")
        text = {"content": data.decode("utf-8"), "encoding": "utf-8"}
    except UnicodeDecodeError:
        text = {"content": base64.b64encode(data).decode("ascii"), "encoding": "base64"}
    executable = "100755" if mode == 0o100755 else "100644"
    if base is None:
        return Add.model_validate({"path": name, "mode": executable, **text})
    if base.oid == oid:
        return Chmod.model_validate({"path": name, "before": base.oid, "mode": executable})
    new_mode = {"mode": executable} if base.mode != mode else {}
    return Modify.model_validate({"path": name, "before": base.oid, **new_mode, **text})


def _over_limits(edits: list[Edit], limits: Limits) -> list[str]:
    size = sum(len(edit.data()) for edit in edits if isinstance(edit, Add | Modify))
    lines = sum(edit.data().count(b"\n") for edit in edits if isinstance(edit, Add))
    found = []
    if len(edits) > limits.files:
        found.append(f"{len(edits)} files are changed, {limits.files} are allowed")
    if size > limits.bytes:
        found.append(f"the changed files hold {size} bytes, {limits.bytes} are allowed")
    if lines > limits.lines:
        found.append(f"{lines} lines are new, {limits.lines} are allowed")
    return found
