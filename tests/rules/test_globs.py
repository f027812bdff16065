"""Path patterns against brute force: what matches, and whether two can meet."""

from __future__ import annotations

import time
from functools import lru_cache
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from bot.rules import globs

SEGMENT = st.sampled_from(["a", "b", "ab", "*", "?", "a*", "*b", "a?", "**", "*a*"])
GLOB = st.lists(SEGMENT, min_size=1, max_size=3).map("/".join)
NAMES = ["".join(letters) for size in (1, 2, 3) for letters in product("ab", repeat=size)]
PATHS = ["/".join(parts) for depth in (1, 2, 3) for parts in product(NAMES[:8], repeat=depth)]


@lru_cache
def _match(glob: tuple[str, ...], path: tuple[str, ...]) -> bool:
    """The definition, word by word (decisions: `**` is a whole segment, zero or more)."""
    if not glob:
        return not path
    if glob[0] == "**":
        return _match(glob[1:], path) or (bool(path) and _match(glob, path[1:]))
    return bool(path) and _name(glob[0], path[0]) and _match(glob[1:], path[1:])


@lru_cache
def _name(pattern: str, name: str) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "*":
        return _name(pattern[1:], name) or (bool(name) and _name(pattern, name[1:]))
    return bool(name) and pattern[0] in ("?", name[0]) and _name(pattern[1:], name[1:])


@given(GLOB, st.sampled_from(PATHS))
def test_a_pattern_matches_what_its_definition_says(glob: str, path: str) -> None:
    assert globs.match(glob, path) == _match(tuple(glob.split("/")), tuple(path.split("/")))


@given(GLOB, GLOB)
def test_disjoint_patterns_share_no_path_and_others_do(one: str, other: str) -> None:
    shared = [path for path in PATHS if globs.match(one, path) and globs.match(other, path)]
    if globs.disjoint(one, other):
        assert not shared
    elif len(one.split("/")) + one.count("**") <= 3 and len(other.split("/")) + other.count("**") <= 3:
        assert shared, "they can meet, in names of up to three letters and three segments at most"
    assert globs.disjoint(one, other) == globs.disjoint(other, one)


def test_what_is_no_pattern_is_said() -> None:
    for glob in ("/a", "a/", "a//b", "a/../b", "a**", "[a]", "{a,b}", "!a", "a\\b", "a\nb"):
        assert globs.check(glob), glob
    assert globs.check("src/**/*.py") is None


def test_a_repeated_pattern_costs_no_more_and_a_line_feed_is_a_character() -> None:
    assert not globs.match("**/" * 500 + "x", "/".join("abcdefghij"))
    assert globs.match("**/**/**", "a/b") and globs.match("a/**/**/b", "a/b")
    assert not globs.match("a/**", "a\n")


def test_hostile_patterns_are_quick_and_endless_ones_refused() -> None:
    began = time.perf_counter()
    assert not globs.match("*e" * 40 + "x", "e" * 200)
    assert not globs.match("**/a/" * 30 + "x", "/".join("a" * 60))
    assert globs.disjoint("/".join(["?" * 255] * 64), "/".join(["?" * 255] * 63 + ["a"]))
    assert time.perf_counter() - began < 1
    assert globs.check("a" * 256) and globs.check("/".join("a" * 65))
