"""Three-way merge of one file's lines: regions that only one side changed are taken, the rest are conflicts.

The rule is xdiff's (xdl_do_merge), so that the verdict is git's: two regions conflict when they overlap or touch, unless
both sides made the same of them. No diff is made where a line stands between both sides' changes that is there only once:
nothing slides over it, wherever a diff might place the changes.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import pygit2

from bot.merge.pack import common

_MARGIN = 64
"""Equal lines that are kept around the changes for a diff, which may slide a change over lines that repeat."""


class Region(NamedTuple):
    """Lines [start, end) of the base, replaced by `lines`."""

    start: int
    end: int
    lines: list[bytes]


class Conflict(NamedTuple):
    """Lines of the base that both sides changed, each side's regions in it, and what each makes of it."""

    base: list[bytes]
    ours: list[bytes]
    theirs: list[bytes]
    joined: list[bytes] | None
    """Both sides' regions one behind the other, where they only touch; None if they overlap."""


Part = bytes | Conflict


def merge_lines(base: bytes, ours: bytes, theirs: bytes) -> list[Part] | None:
    """The merged file in order: settled text and conflicts. None for binary files."""
    if any(b"\0" in data[:8000] for data in (base, ours, theirs)):
        return None
    size = len(base)
    (head, tail), (head2, tail2) = common(base, ours), common(base, theirs)
    for first, second, end, start in ((ours, theirs, size - tail, head2), (theirs, ours, size - tail2, head)):
        if end < start and _parted(base[end:start], base, ours, theirs):
            return [first[: len(first) - (size - end)] + base[end:start] + second[start:]]
    cut = _line_start(base, min(head, head2))
    keep = size - _line_end(base, size - min(tail, tail2))
    parts = _merged(*(data[cut : len(data) - keep] for data in (base, ours, theirs)))
    return [base[:cut], *parts, base[size - keep :]]


def _parted(gap: bytes, *texts: bytes) -> bool:
    """Whether one of the longest whole lines of the gap stands only once in every text."""
    inner = sorted(gap.split(b"\n")[1:-1], key=len)[-3:]
    return any(all(text.count(line + b"\n") == 1 for text in texts) for line in inner)


def _line_start(data: bytes, at: int) -> int:
    for _ in range(_MARGIN + 1):
        at = data.rfind(b"\n", 0, at)
        if at < 0:
            return 0
    return at + 1


def _line_end(data: bytes, at: int) -> int:
    for _ in range(_MARGIN + 1):
        at = data.find(b"\n", at) + 1
        if at == 0:
            return len(data)
    return at


def _lines(data: bytes) -> list[bytes]:
    """Only a line feed ends a line."""
    if b"\r" not in data:
        return data.splitlines(keepends=True)
    lines = [line + b"\n" for line in data.split(b"\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


def _regions(base: bytes, side: bytes) -> list[Region]:
    hunks = pygit2.Patch.create_from(base, side, context_lines=0, interhunk_lines=0).hunks
    lines = _lines(side)
    found = []
    for hunk in hunks:
        # A hunk without lines on one side names the line in front of it.
        start = hunk.old_start - (hunk.old_lines > 0)
        new = hunk.new_start - (hunk.new_lines > 0)
        found.append(Region(start, start + hunk.old_lines, lines[new : new + hunk.new_lines]))
    return found


def _merged(old: bytes, ours: bytes, theirs: bytes) -> list[Part]:
    base = _lines(old)
    changes = [(region, side) for side, data in enumerate((ours, theirs)) for region in _regions(old, data)]
    changes.sort(key=lambda change: (change[0].start, change[0].end))
    parts: list[Part] = []
    done = 0
    at = 0
    while at < len(changes):
        start, end = changes[at][0].start, changes[at][0].end
        group: tuple[list[Region], list[Region]] = ([], [])
        while at < len(changes) and (changes[at][0].start <= end or not any(group)):
            region, side = changes[at]
            group[side].append(region)
            end = max(end, region.end)
            at += 1
        parts.append(b"".join(base[done:start]))
        parts.append(_settled(base, start, end, *group))
        done = end
    return [*parts, b"".join(base[done:])]


def _settled(base: list[bytes], start: int, end: int, ours: list[Region], theirs: list[Region]) -> Part:
    one, two = (_applied(base, start, end, side) for side in (ours, theirs))
    if not theirs or one == two:
        return b"".join(one)
    if not ours:
        return b"".join(two)
    every = sorted([*ours, *theirs], key=lambda region: region[:2])
    apart = all(left.end <= right.start and left[:2] != right[:2] for left, right in pairwise(every))
    joined = _applied(base, start, end, every) if apart else None
    return Conflict(base[start:end], one, two, joined)


def _applied(base: list[bytes], start: int, end: int, regions: Sequence[Region]) -> list[bytes]:
    out: list[bytes] = []
    for region in regions:
        out += [*base[start : region.start], *region.lines]
        start = region.end
    return out + base[start:end]
