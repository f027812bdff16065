"""A run's directory: the files of a commit as they are stored, and a throw-away git dir that is never read back.

Nothing is filtered on the way (no line endings, no LFS). Links that stay inside the tree become copies of what they
point to; other links and submodules are left out. Both are remembered, so that collecting does not mistake them.
Where the sandbox can, a run sees them through layers of its own instead of a copy (bot.runners.layers).
"""

import os
import posixpath
import shutil
import stat
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pygit2
from pygit2.enums import FileMode

from bot.rules import globs

MAX_TEXT_BYTES = 200_000
GIT_ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}
_QUICK = ["-c", "core.fsync=none", "-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0", "-c", "core.looseCompression=0"]
GIT = ["git", *_QUICK, "-c", "user.name=Interlock", "-c", "user.email=interlock@localhost"]


@dataclass(frozen=True)
class File:
    """A file of a tree: its path as bytes (git's own), its blob and mode."""

    path: bytes
    oid: str
    mode: int

    @property
    def regular(self) -> bool:
        """Neither a link nor a submodule."""
        return self.mode in (FileMode.BLOB, FileMode.BLOB_EXECUTABLE)


@dataclass(frozen=True)
class Workspace:
    """`odd` are the paths that stand for links and submodules: what happens below them is not collected. `upper` holds
    what the run has written, and nothing else, if it works through layers."""

    folder: Path
    git_dir: Path
    tree: str
    files: dict[bytes, File]
    odd: frozenset[bytes]
    upper: Path | None = None

    @property
    def named(self) -> dict[str, File]:
        """The files of the base whose path is valid UTF-8."""
        return {name: file for path, file in self.files.items() if (name := text(path)) is not None}

    def texts(self, wanted: Iterable[Sequence[str]]) -> Iterator[tuple[str, str | None]]:
        """Files as they are at the base, those of the first patterns first; None for what is binary or too large."""
        repo = pygit2.Repository(str(self.git_dir))
        left = {name: file for name, file in self.named.items() if file.regular}
        for patterns in wanted:
            for name in [name for name in left if globs.matches(patterns, name)]:
                blob = repo[left.pop(name).oid].peel(pygit2.Blob)
                yield name, None if blob.size > MAX_TEXT_BYTES or blob.is_binary else text(blob.data)


def read(git_dir: Path, tree: str, folder: Path) -> Workspace:
    """What the workspace of a commit's or tree's files will hold; nothing is written. Raises KeyError for an unknown id."""
    root = pygit2.Repository(str(git_dir))[tree].peel(pygit2.Tree)
    files = {file.path: file for file in walk(root) if _safe(file.path)}
    odd = frozenset(file.path for file in files.values() if not file.regular)
    return Workspace(folder, git_dir, str(root.id), files, odd)


def placed(space: Workspace) -> dict[bytes, File]:
    """Which file stands at which path: the tree's own, and copies in place of its links."""
    repo, files = pygit2.Repository(str(space.git_dir)), space.files
    found = {path: file for path, file in files.items() if file.regular}
    for file in files.values():
        if file.mode == FileMode.LINK:
            found |= _behind(repo, file, files)
    return found


def export(git_dir: Path, tree: str, folder: Path) -> Workspace:
    """Write a commit's or tree's files below `folder`, which must not exist. Raises KeyError for an unknown id."""
    space = read(git_dir, tree, folder)
    folder.mkdir(parents=True)
    write_all(space, placed(space), folder)
    return space


def write_all(space: Workspace, files: Mapping[bytes, File], folder: Path) -> None:
    """Write these files, at these paths, below a folder."""
    repo = pygit2.Repository(str(space.git_dir))
    for path, file in files.items():
        write(repo, file, folder, path)


def walk(tree: pygit2.Tree, prefix: bytes = b"") -> Iterator[File]:
    """Every entry of a tree that is not a directory."""
    for entry in tree:
        path = prefix + (entry.raw_name or b"")
        if isinstance(entry, pygit2.Tree):
            yield from walk(entry, path + b"/")
        else:
            yield File(path, str(entry.id), int(entry.filemode))


def _safe(path: bytes) -> bool:
    """A hostile tree may hold what git itself would never check out."""
    return all(part not in (b"", b".", b"..") and part.lower() != b".git" for part in path.split(b"/"))


def write(repo: pygit2.Repository, file: File, folder: Path, path: bytes) -> None:
    """Write a file of the tree to a new place below `folder`."""
    place = os.path.join(os.fsencode(folder), path)
    os.makedirs(os.path.dirname(place), exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    mode = 0o755 if file.mode == FileMode.BLOB_EXECUTABLE else 0o644
    blob = repo[file.oid]
    with os.fdopen(os.open(place, flags, mode), "wb") as out:
        out.write(blob.data if isinstance(blob, pygit2.Blob) else b"")


def _behind(repo: pygit2.Repository, link: File, files: dict[bytes, File]) -> dict[bytes, File]:
    """Copies in place of a link: of files of this tree alone, so that a link to anywhere else becomes nothing."""
    target = posixpath.join(posixpath.dirname(link.path), repo[link.oid].peel(pygit2.Blob).data)
    path = posixpath.normpath(target)
    if link.path.startswith(path + b"/"):
        return {}
    below = [files[path]] if path in files else [file for file in files.values() if file.path.startswith(path + b"/")]
    return {link.path + file.path[len(path) :]: file for file in below if file.regular}


def text(data: bytes) -> str | None:
    """The bytes as text; None if they are not UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def prepare(git_dir: Path, commit: str, folder: Path) -> Workspace:
    """A workspace for an agent: the files, and a git dir with one commit so that `git diff` works in there."""
    remove(folder)
    made = export(git_dir, commit, folder)
    commit_all = ["commit", "-q", "--allow-empty", "--no-verify", "--no-gpg-sign", "-m", "base"]
    for command in (["init", "-q", "--initial-branch=work"], ["add", "--all", "--force"], commit_all):
        subprocess.run([*GIT, *command], cwd=folder, env=GIT_ENV, check=True, capture_output=True, timeout=300)
    return made


def remove(folder: Path) -> None:
    """Take a workspace away, whatever an agent left in it (read-only directories included)."""
    if folder.is_dir() and not folder.is_symlink():
        folder.chmod(stat.S_IRWXU)
    for place, directories, _ in os.walk(folder):
        for name in directories:
            path = os.path.join(place, name)
            if not os.path.islink(path) and not os.access(path, os.R_OK | os.W_OK | os.X_OK):
                os.chmod(path, stat.S_IRWXU)
    shutil.rmtree(folder, ignore_errors=True)
