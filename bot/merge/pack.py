"""Writing objects as one pack with its index (git's pack format, version 2), on disk before anybody relies on it.

An object that is a new version of another one in the same pack is written as what changed: the bytes in front and
behind are copied from the older version. See gitformat-pack(5).
"""

import hashlib
import os
import struct
import tempfile
import zlib
from collections.abc import Iterable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from isal import isal_zlib

from bot.disk import keep_names

LEVEL = 1
MAX_DEPTH = 48
"""How long a chain of versions may get before one is written whole; git's own packs allow 50."""
_OFS_DELTA = 6
_MAX_COPY = 0xFFFFFF
_MAX_INSERT = 0x7F


class Raw(NamedTuple):
    """An object: its kind as packs number it (1 commit, 2 tree, 3 blob), its content, and the older version's oid."""

    kind: int
    data: bytes
    before: str = ""


def common(one: bytes, other: bytes) -> tuple[int, int]:
    """How many bytes two strings share at their start, and how many of the rest at their end.

    By bisection: comparing long slices is what the machine is fastest at.
    """
    size, last = min(len(one), len(other)), max(len(one), len(other))
    if one[:size] == other[:size]:
        return size, 0
    head, high = 0, size
    while high - head > 1:
        middle = (head + high) // 2
        if one[head:middle] == other[head:middle]:
            head = middle
        else:
            high = middle
    short, long = (one, other) if len(one) == size else (other, one)
    tail, high, more = 0, size - head + 1, last - size
    while high - tail > 1:
        middle = (tail + high) // 2
        if short[size - middle : size - tail] == long[more + size - middle : more + size - tail]:
            tail = middle
        else:
            high = middle
    return head, tail


def write_pack(git_dir: Path, objects: Mapping[str, Raw], wanted: Iterable[str]) -> str:
    """Put these objects on disk, in an order in which older versions come first; the pack's name without its ending."""
    body: list[bytes] = []
    index: list[tuple[bytes, int, int]] = []
    places: dict[str, tuple[int, int]] = {}
    names = list(wanted)
    head = struct.pack(">4sII", b"PACK", 2, len(names))
    total = hashlib.sha1(head, usedforsecurity=False)
    at = len(head)
    for oid in names:
        entry, depth = _entry(objects, objects[oid], at, places)
        places[oid] = at, depth
        index.append((bytes.fromhex(oid), zlib.crc32(entry), at))
        body.append(entry)
        total.update(entry)
        at += len(entry)
    check = total.digest()
    folder = git_dir / "objects" / "pack"
    folder.mkdir(exist_ok=True)
    name = f"pack-{check.hex()}"
    _keep(folder, f"{name}.pack", [head, *body, check])
    _keep(folder, f"{name}.idx", [_index(sorted(index), check)])
    keep_names(folder)
    return name


def _entry(objects: Mapping[str, Raw], raw: Raw, at: int, places: Mapping[str, tuple[int, int]]) -> tuple[bytes, int]:
    """An object as it stands in the pack, and how many older versions must be read for it."""
    older = places.get(raw.before)
    if older is not None and older[1] < MAX_DEPTH:
        delta = _delta(objects[raw.before].data, raw.data)
        if delta:
            head = _size(_OFS_DELTA, len(delta)) + _offset(at - older[0])
            return head + isal_zlib.compress(delta, LEVEL), older[1] + 1
    return _size(raw.kind, len(raw.data)) + isal_zlib.compress(raw.data, LEVEL), 0


def _delta(old: bytes, new: bytes) -> bytes:
    """What makes the new version of the old one; empty if that is not worth it."""
    head, tail = common(old, new)
    if (head + tail) * 2 < len(new):
        return b""
    middle = new[head : len(new) - tail]
    parts = [_varint(len(old)), _varint(len(new)), *_copy(0, head)]
    for start in range(0, len(middle), _MAX_INSERT):
        piece = middle[start : start + _MAX_INSERT]
        parts += [bytes((len(piece),)), piece]
    return b"".join([*parts, *_copy(len(old) - tail, tail)])


def _copy(offset: int, size: int) -> Iterable[bytes]:
    while size:
        part = min(size, _MAX_COPY)
        fields = offset.to_bytes(4, "little") + part.to_bytes(3, "little")
        used = [(1 << bit, byte) for bit, byte in enumerate(fields) if byte]
        yield bytes([0x80 | sum(bit for bit, _ in used), *(byte for _, byte in used)])
        offset, size = offset + part, size - part


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _size(kind: int, size: int) -> bytes:
    first, size = kind << 4 | size & 15, size >> 4
    return bytes([first | 0x80]) + _varint(size) if size else bytes([first])


def _offset(distance: int) -> bytes:
    out = [distance & 0x7F]
    while distance := distance >> 7:
        distance -= 1
        out.append(distance & 0x7F | 0x80)
    return bytes(reversed(out))


def _index(rows: list[tuple[bytes, int, int]], check: bytes) -> bytes:
    """The index of a pack under 2 GiB, rows sorted by oid."""
    if rows and rows[-1][2] >= 1 << 31:
        raise OverflowError("a train of over 2 GiB")
    counts = [0] * 256
    for oid, _, _ in rows:
        counts[oid[0]] += 1
    oids, crcs, places = zip(*rows, strict=True)
    numbers = f">{len(rows)}I"
    tables = (
        struct.pack(">256I", *accumulate(counts)),
        b"".join(oids),
        struct.pack(numbers, *crcs),
        struct.pack(numbers, *places),
    )
    whole = b"".join((b"\377tOc\0\0\0\2", *tables, check))
    return whole + hashlib.sha1(whole, usedforsecurity=False).digest()


def _keep(folder: Path, name: str, parts: list[bytes]) -> None:
    """Write a file under another name (one that git's own cleaning knows), fsync it, and give it its own."""
    handle, place = tempfile.mkstemp(prefix="tmp_pack_", dir=folder)
    with open(handle, "wb") as file:
        file.writelines(parts)
        file.flush()
        os.fchmod(file.fileno(), 0o444)
        os.fsync(file.fileno())
    os.rename(place, folder / name)
