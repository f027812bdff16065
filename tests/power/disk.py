"""What a disk may hold after the power went: images made from a recorded run of a real process.

`record` runs a command under recorder.c, which is compiled for it, and gives the log of all that it and its children
did below one directory. A `Disk` is that directory at a point of the log, kept by the strict rules of POSIX:

- fsync of a file makes its content durable, not its name; fsync of a directory makes the names in it durable;
- every other write, truncation, new name, rename and removal is on the disk or not, each for itself; a write may be
  there in some of its blocks of 512 bytes only. A rename is one step within a directory; across directories the new
  name may be durable before the old one is gone.

Real file systems keep more than that (most write names in order), so what survives here survives on any of them.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_name("recorder.c")
BLOCK = 512
CREATE, WRITE, TRUNCATE, SYNC, RENAME, LINK, UNLINK, MKDIR, SAY = range(1, 10)
FLEETING = "-shm"
"""The end of names that nobody looks for after a crash: SQLite builds its shared index anew, and writes it by mmap."""


class Record(NamedTuple):
    """One operation. `offset` is a size for TRUNCATE, and whether the file was emptied for CREATE."""

    op: int
    path: str
    to: str
    offset: int
    data: bytes


Image = dict[str, bytes | None]
"""Every path below a directory with its content; None for a folder."""

Ignored = Callable[[Record], bool]
"""Which fsyncs a disk that lies does not do."""


def build(place: Path) -> Path:
    """The recorder, as a library to preload. Without a C compiler there is no proof, so the test fails."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "the power-loss tests need a C compiler to record a process with: apt install gcc libc6-dev"
    library = place / "recorder.so"
    command = [compiler, "-O1", "-Wall", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl", "-lpthread"]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return library


def record(library: Path, root: Path, command: Sequence[str], cwd: Path) -> tuple[Disk, list[Record]]:
    """Run a command to its end; the disk as it was before, and what the command did below `root`.

    Fails unless the log, applied to the disk before, gives every byte that is in the directory now.
    """
    before = Disk.load(root)
    log = root.parent / f"{root.name}.log"
    preload = {"LD_PRELOAD": str(library), "POWER_ROOT": str(root), "POWER_LOG": str(log)}
    done = subprocess.run(command, env={**os.environ, **preload}, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    records = list(_read(log.read_bytes(), root))
    after = Disk.load(root)
    replayed = Disk.load_from(before)
    for one in records:
        replayed.do(one)
    missed = replayed.current().items() ^ after.current().items()
    assert not missed, f"the recorder missed something of {sorted({name for name, _ in missed})}"
    assert any(one.op == SYNC for one in records) and any(one.op == SAY for one in records)
    return before, records


def _read(log: bytes, root: Path) -> Iterator[Record]:
    at, top = 0, str(root.resolve())
    head = struct.Struct("=IIIIQ")
    while at < len(log):
        op, first, second, size, offset = head.unpack_from(log, at)
        at += head.size
        edges = (at, at + first, at + first + second, at + first + second + size)
        path, to, data = (log[start:stop] for start, stop in pairwise(edges))
        at = edges[-1]
        names = [os.fsdecode(name).removeprefix(top).lstrip("/") for name in (path, to)]
        yield Record(op, names[0], names[1], offset, data)


@dataclass(eq=False)
class File:
    """`kept` is durable; `waiting` are writes (offset, data) and truncations (size, None) since then."""

    now: bytearray = field(default_factory=bytearray)
    kept: bytearray = field(default_factory=bytearray)
    waiting: list[tuple[int, bytes | None]] = field(default_factory=list)

    def change(self, offset: int, data: bytes | None) -> None:
        _change(self.now, offset, data)
        self.waiting.append((offset, data))

    def sync(self) -> None:
        for offset, data in self.waiting:
            _change(self.kept, offset, data)
        self.waiting.clear()

    def after(self, chance: float, dice: random.Random) -> bytes:
        """The durable content, and of what waits each part or not."""
        content = bytearray(self.kept)
        for offset, data in self.waiting:
            if data is None:
                if dice.random() < chance:
                    _change(content, offset, None)
                continue
            whole = dice.random() < 0.5
            there = dice.random() < chance
            end = offset + len(data)
            edges = sorted({offset, end, *range(offset - offset % BLOCK + BLOCK, end, BLOCK)})
            for start, stop in pairwise(edges):
                if there if whole else dice.random() < chance:
                    _change(content, start, data[start - offset : stop - offset])
        return bytes(content)


def _change(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
    content.extend(bytes(max(0, offset - len(content))))
    if data is not None:
        content[offset : offset + len(data)] = data


@dataclass(eq=False)
class Folder:
    """The names in a directory, as a running process sees them."""

    now: dict[str, File | Folder] = field(default_factory=dict)


@dataclass
class _Naming:
    """A name given to a file or folder, or taken away (None). `needs` is the other half of a rename."""

    folder: Folder
    name: str
    node: File | Folder | None
    kept: bool = False
    needs: _Naming | None = None
    together: bool = False
    """Whether it happens exactly when `needs` does, not only after it."""


class Disk:
    """One directory tree on a disk."""

    def __init__(self, root: Folder, ignores: Ignored = lambda _: False) -> None:
        self._root, self._ignores = root, ignores
        self._began: dict[Folder, dict[str, File | Folder]] = {}
        self._namings: list[_Naming] = []
        self._remember(root)

    def _remember(self, folder: Folder) -> None:
        self._began[folder] = dict(folder.now)
        for node in folder.now.values():
            if isinstance(node, Folder):
                self._remember(node)

    @staticmethod
    def load(root: Path) -> Disk:
        """What is there is durable."""

        def folder(place: Path) -> Folder:
            found = Folder()
            for child in place.iterdir():
                assert not child.is_symlink()
                if child.is_dir():
                    found.now[child.name] = folder(child)
                else:
                    content = child.read_bytes()
                    found.now[child.name] = File(bytearray(content), bytearray(content))
            return found

        return Disk(folder(root))

    @staticmethod
    def load_from(other: Disk, ignores: Ignored = lambda _: False) -> Disk:
        """Another disk as it is now, all of it durable, to be changed on its own."""

        def copy(folder: Folder) -> Folder:
            return Folder(
                {
                    name: copy(node) if isinstance(node, Folder) else File(bytearray(node.now), bytearray(node.now))
                    for name, node in folder.now.items()
                }
            )

        return Disk(copy(other._root), ignores)

    # --- a process at work ------------------------------------------------------------------------------------------
    def do(self, record: Record) -> None:
        """The next operation. Raises if it does not fit what was recorded before."""
        if record.op == SAY or record.path.endswith((FLEETING, " (deleted)")):
            return
        if record.op == SYNC:
            if not self._ignores(record):
                self._sync(self._node(record.path))
            return
        folder, name = self._parent(record.path)
        known = folder.now.get(name)
        match record.op:
            case 1:  # CREATE
                if known is None:
                    self._name(_Naming(folder, name, File()))
                elif record.offset:
                    self._file(record.path).change(0, None)
            case 2:  # WRITE
                self._file(record.path).change(record.offset, record.data)
            case 3:  # TRUNCATE
                self._file(record.path).change(record.offset, None)
            case 7:  # UNLINK
                self._name(_Naming(folder, name, None))
            case 8:  # MKDIR
                made = Folder()
                self._began[made] = {}
                self._name(_Naming(folder, name, made))
            case op:  # RENAME, LINK
                target, new = self._parent(record.to)
                given = _Naming(target, new, self._node(record.path))
                self._name(given)
                if op == RENAME:
                    self._name(_Naming(folder, name, None, needs=given, together=folder is target))

    def _name(self, naming: _Naming) -> None:
        if naming.node is None:
            del naming.folder.now[naming.name]
        else:
            naming.folder.now[naming.name] = naming.node
        self._namings.append(naming)

    def _sync(self, node: File | Folder) -> None:
        if isinstance(node, File):
            node.sync()
            return
        for naming in self._namings:
            if naming.folder is node:
                naming.kept = True
                if naming.needs is not None:
                    naming.needs.kept = True

    def _node(self, path: str) -> File | Folder:
        node: File | Folder = self._root
        for part in path.split("/") if path else ():
            assert isinstance(node, Folder), path
            node = node.now[part]
        return node

    def _parent(self, path: str) -> tuple[Folder, str]:
        above, _, name = path.rpartition("/")
        folder = self._node(above)
        assert isinstance(folder, Folder) and name, path
        return folder, name

    def _file(self, path: str) -> File:
        node = self._node(path)
        assert isinstance(node, File), path
        return node

    # --- what is there ----------------------------------------------------------------------------------------------
    def current(self) -> Image:
        """As processes see it now."""
        return dict(_walk(self._root, lambda folder: folder.now, lambda file: bytes(file.now)))

    def after(self, dice: random.Random) -> Image:
        """After a loss of power at this moment, as the dice will have it."""
        chance = dice.choice((0.0, 0.2, 0.5, 0.8, 1.0))
        names = {folder: dict(entries) for folder, entries in self._began.items()}
        done: dict[int, bool] = {}
        for naming in self._namings:
            happens = naming.kept or dice.random() < chance
            if naming.needs is not None and not naming.kept:
                needed = done[id(naming.needs)]
                happens = needed and (naming.together or happens)
            done[id(naming)] = happens
            if not happens:
                continue
            if naming.node is not None:
                names[naming.folder][naming.name] = naming.node
            else:
                names[naming.folder].pop(naming.name, None)
        return dict(_walk(self._root, names.__getitem__, lambda file: file.after(chance, dice)))


def _walk(
    root: Folder, names: Callable[[Folder], dict[str, File | Folder]], content: Callable[[File], bytes], at: str = ""
) -> Iterator[tuple[str, bytes | None]]:
    for name, node in names(root).items():
        if name.endswith(FLEETING):
            continue
        if isinstance(node, File):
            yield at + name, content(node)
        else:
            yield at + name, None
            yield from _walk(node, names, content, f"{at}{name}/")


def write(image: Image, place: Path, there: Image) -> None:
    """An image as files in a directory, in which `there` is already."""
    for name in sorted(there.keys() - image.keys(), reverse=True):
        if there[name] is None:
            (place / name).rmdir()
        else:
            (place / name).unlink()
    for name, content in image.items():
        if content is None:
            (place / name).mkdir(exist_ok=True)
        elif there.get(name) != content:
            (place / name).write_bytes(content)
