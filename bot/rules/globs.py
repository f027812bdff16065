"""Path patterns: `*` and `?` within a segment, `**` a whole segment (zero or more). No negation, braces or classes.

One compiler serves owns, protected and shared paths (decisions.md 15). Whether two patterns can match one path is
decided exactly, segment by segment, not by trying paths.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache


def check(glob: str) -> str | None:
    """What is wrong with a pattern, in a sentence; None if nothing."""
    if glob.startswith("/"):
        return f"{glob!r} starts with '/': patterns are relative to the repository's root"
    if glob.endswith("/"):
        return f"{glob!r} ends with '/': write {glob}** for everything below it"
    for segment in glob.split("/"):
        if segment in ("", ".", ".."):
            return f"{glob!r} has an empty, '.' or '..' segment"
        if "**" in segment and segment != "**":
            return f"{glob!r}: '**' must be a whole segment"
        if any(char in segment for char in "[]{}!"):
            return f"{glob!r}: classes, braces and negation are not patterns here"
        if any(ord(char) < 32 or char == "\\" for char in segment):
            return f"{glob!r} has a control character or a backslash"
    return None


def literal(glob: str) -> bool:
    """Whether the pattern names exactly one path."""
    return "*" not in glob and "?" not in glob


@lru_cache(maxsize=4096)
def _compiled(glob: str) -> re.Pattern[str]:
    parts: list[str] = []
    segments = glob.split("/")
    for index, segment in enumerate(segments):
        last = index == len(segments) - 1
        if segment == "**":
            parts.append("(?:[^/]+(?:/[^/]+)*)?" if last else "(?:[^/]+/)*")
            continue
        body = "".join({"*": "[^/]*", "?": "[^/]"}.get(char, re.escape(char)) for char in segment)
        parts.append(f"(?=[^/]){body}")
        if not last:
            rest_is_optional = all(other == "**" for other in segments[index + 1 :])
            parts.append("(?:/|$)" if rest_is_optional else "/")
    return re.compile("".join(parts) + r"\Z")


def match(glob: str, path: str) -> bool:
    """Whether one pattern matches one path, case-sensitively."""
    if path.endswith("/"):
        return False
    return _compiled(glob).match(path) is not None


def matches(globs: Iterable[str], path: str) -> bool:
    """Whether any of the patterns matches."""
    return any(match(glob, path) for glob in globs)


@lru_cache(maxsize=4096)
def disjoint(one: str, other: str) -> bool:
    """Whether no path can match both."""
    return not _meet(tuple(one.split("/")), tuple(other.split("/")))


@lru_cache(maxsize=65536)
def _meet(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    if not one and not other:
        return True
    if one and one[0] == "**":
        return _meet(one[1:], other) or (bool(other) and _meet(one, other[1:]))
    if other and other[0] == "**":
        return _meet(other, one)
    if not one or not other:
        return False
    return _segments_meet(one[0], other[0]) and _meet(one[1:], other[1:])


@lru_cache(maxsize=65536)
def _segments_meet(one: str, other: str) -> bool:
    """Both hold only literals, `?` and `*`; whether some non-empty name matches both."""
    if not one or not other:
        return not (one + other).strip("*")
    if one[0] == "*":
        return _segments_meet(one[1:], other) or _segments_meet(one, other[1:])
    if other[0] == "*":
        return _segments_meet(other, one)
    return (one[0] == other[0] or "?" in (one[0], other[0])) and _segments_meet(one[1:], other[1:])
