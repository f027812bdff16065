"""Path patterns: `*` and `?` within a segment, `**` a whole segment (zero or more). No negation, braces or classes.

One compiler serves owns, protected and shared paths (decisions.md 15). Whether two patterns can match one path is
decided exactly, segment by segment, not by trying paths.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

from bot.rules.reasons import first

MAX_SEGMENTS, MAX_NAME = 64, 255


def check(glob: str) -> str | None:
    """What is wrong with a pattern, in a sentence; None if nothing."""
    segments = glob.split("/")
    too_long = len(segments) > MAX_SEGMENTS or max(map(len, segments)) > MAX_NAME
    bounds = f"{MAX_SEGMENTS} names of {MAX_NAME} characters are the most"
    return first(
        (glob.startswith("/"), f"{glob!r} starts with '/': patterns are relative to the repository's root"),
        (glob.endswith("/"), f"{glob!r} ends with '/': write {glob}** for everything below it"),
        (too_long, f"{glob[:50]!r}... is longer than any path: {bounds}"),
        (not {"", ".", ".."}.isdisjoint(segments), f"{glob!r} has an empty, '.' or '..' segment"),
        (any("**" in name and name != "**" for name in segments), f"{glob!r}: '**' must be a whole segment"),
        (not set("[]{}!").isdisjoint(glob), f"{glob!r}: classes, braces and negation are not patterns here"),
        (any(ord(char) < 32 or char == "\\" for char in glob), f"{glob!r} has a control character or a backslash"),
    )


def literal(glob: str) -> bool:
    """Whether the pattern names exactly one path."""
    return "*" not in glob and "?" not in glob


@lru_cache(maxsize=4096)
def _compiled(glob: str) -> re.Pattern[str]:
    """For a path with a slash behind it, so that every segment ends with one."""
    groups: list[list[str]] = [[]]
    for segment in glob.split("/"):
        if segment == "**":
            groups.append([])
        else:
            parts = [re.escape(part).replace(r"\?", "[^/]") for part in segment.split("*")]
            groups[-1].append(f"(?=[^/]){_chain(parts, '[^/]')}/")
    return re.compile(_chain(["".join(group) for group in groups], "(?:[^/]+/)") + r"\Z")


def _chain(parts: list[str], gap: str) -> str:
    """The parts in this order with any number of gaps between them. Whatever stands between the first and the last may
    be matched where it first fits: an atomic group keeps hostile patterns from being tried in every other way."""
    if len(parts) == 1:
        return parts[0]
    return parts[0] + "".join(f"(?>{gap}*?{part})" for part in parts[1:-1]) + f"{gap}*{parts[-1]}"


def match(glob: str, path: str) -> bool:
    """Whether one pattern matches one path, case-sensitively."""
    return _compiled(glob).match(f"{path}/") is not None


def matches(globs: Iterable[str], path: str) -> bool:
    """Whether any of the patterns matches."""
    return any(match(glob, path) for glob in globs)


@lru_cache(maxsize=4096)
def disjoint(one: str, other: str) -> bool:
    """Whether no path can match both."""
    return not _meet(tuple(one.split("/")), tuple(other.split("/")), "**")


@lru_cache(maxsize=65536)
def _meet(one: str | tuple[str, ...], other: str | tuple[str, ...], many: str) -> bool:
    """Whether something matches both: a path for segments and `**`, a name for characters and `*`."""
    if not one or not other:
        return {*one, *other} <= {many}
    left, right = one[0], other[0]
    if many in (left, right):
        return _meet(one[1:], other, many) or _meet(one, other[1:], many)
    alike = _meet(left, right, "*") if many == "**" else left == right or "?" in (left, right)
    return alike and _meet(one[1:], other[1:], many)
