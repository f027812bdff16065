"""A run's directory: the files of a commit as they are stored, and a throw-away git dir that is never read back.

Nothing is filtered on the way (no line endings, no LFS). Links that stay inside the tree become copies of what they
point to; other links and submodules are left out. Both are remembered, so that collecting does not mistake them.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pygit2
from pygit2.enums import FileMode

_GIT_ENV = {
    "PATH": "/usr/local/bin:/usr/bin:/bin", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "Interlock", "GIT_AUTHOR_EMAIL": "interlock@localhost",
    "GIT_COMMITTER_NAME": "Interlock", "GIT_COMMITTER_EMAIL": "interlock@localhost",
}  # fmt: skip
_QUICK = ("-c", "core.fsync=none", "-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0", "-c", "core.looseCompression=0")


@dataclass(frozen=True)
class File:
    """A file of a tree: its path as bytes (git's own), its blob and mode."""

    path: bytes
    oid: str
    mode: int


@dataclass(frozen=True)
class Workspace:
    """`odd` are the paths that stand for links and submodules: what happens below them is not collected."""

    folder: Path
    git_dir: Path
    tree: str
    files: dict[bytes, File]
    odd: frozenset[bytes]


def walk(repo: pygit2.Repository, tree: pygit2.Tree, prefix: bytes = b"") -> Iterator[File]:
    """Every entry of a tree that is not a directory."""
    for entry in tree:
        path = prefix + (entry.raw_name or b"")
        if isinstance(entry, pygit2.Tree):
            yield from walk(repo, entry, path + b"/")
        else:
            yield File(path, str(entry.id), int(entry.filemode))


def export(git_dir: Path, tree: str, folder: Path) -> Workspace:
    """Write a commit's or tree's files below `folder`, which must not exist. Raises KeyError for an unknown id."""
    repo = pygit2.Repository(str(git_dir))
    root = repo[tree].peel(pygit2.Tree)
    folder.mkdir(parents=True)
    files = {file.path: file for file in walk(repo, root) if _safe(file.path)}
    made: set[bytes] = set()
    odd: set[bytes] = set()
    for file in files.values():
        if file.mode in (FileMode.BLOB, FileMode.BLOB_EXECUTABLE):
            _write(repo, file, file.path, folder, made)
        else:
            odd.add(file.path)
            if file.mode == FileMode.LINK:
                _materialise(repo, file, files, folder, made)
    return Workspace(folder, git_dir, str(root.id), files, frozenset(odd))


def _safe(path: bytes) -> bool:
    """A hostile tree may hold what git itself would never check out."""
    return all(part not in (b"", b".", b"..") and part.lower() != b".git" for part in path.split(b"/"))


def _write(repo: pygit2.Repository, file: File, path: bytes, folder: Path, made: set[bytes]) -> None:
    place = os.path.join(os.fsencode(folder), path)
    parent = os.path.dirname(place)
    if parent not in made:
        os.makedirs(parent, exist_ok=True)
        made.add(parent)
    blob = repo[file.oid]
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    mode = 0o755 if file.mode == FileMode.BLOB_EXECUTABLE else 0o644
    with os.fdopen(os.open(place, flags, mode), "wb") as out:
        out.write(memoryview(blob) if isinstance(blob, pygit2.Blob) else b"")


def _materialise(repo: pygit2.Repository, link: File, files: dict[bytes, File], folder: Path, made: set[bytes]) -> None:
    target = repo[link.oid].peel(pygit2.Blob).data
    if target.startswith(b"/"):
        return
    path = posixpath.normpath(posixpath.join(posixpath.dirname(link.path), target))
    regular = (FileMode.BLOB, FileMode.BLOB_EXECUTABLE)
    if path in files and files[path].mode in regular:
        _write(repo, files[path], link.path, folder, made)
        return
    if path == b"." or path.startswith(b"..") or link.path.startswith(path + b"/"):
        return
    for file in list(files.values()):
        if file.path.startswith(path + b"/") and file.mode in regular:
            _write(repo, file, link.path + file.path[len(path) :], folder, made)


def prepare(git_dir: Path, commit: str, folder: Path) -> Workspace:
    """A workspace for an agent: the files, and a git dir with one commit so that `git diff` works in there."""
    remove(folder)
    made = export(git_dir, commit, folder)
    commands = (
        ["init", "-q", "--initial-branch=work"],
        ["add", "--all", "--force"],
        ["commit", "-q", "--allow-empty", "--no-verify", "--no-gpg-sign", "-m", "base"],
    )
    for command in commands:
        subprocess.run(
            ["git", *_QUICK, *command], cwd=folder, env=_GIT_ENV, check=True, capture_output=True, timeout=300
        )
    return made


def remove(folder: Path) -> None:
    """Take a workspace away, whatever an agent left in it (read-only directories included)."""
    if not folder.is_symlink() and not folder.exists():
        return
    for place, directories, _ in os.walk(folder):
        for name in directories:
            path = os.path.join(place, name)
            if not os.path.islink(path) and not os.access(path, os.W_OK | os.X_OK):
                os.chmod(path, stat.S_IRWXU)
    shutil.rmtree(folder, ignore_errors=True)
