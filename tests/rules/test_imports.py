"""Imports from statements: no text, however it is made, takes long; what leads out of the tree is no edge."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.rules.imports import edges
from bot.rules.sources import Source, akin, language

N = 4000
HOSTILE = {
    "a.py": [
        "from " + "." * N,
        "from " + "x." * 2000,
        "from x import " + "a," * 2000,
        "from" + " " * N,
        "import " * 600,
    ],
    "a.ts": ["import'" * 600, "from " * 800, "require(" * 500, "import" + " " * N, f"import 'a/{'b/' * 1900}'"],
    "a.php": [
        "use " + "}" * N,
        "use a\\{" + "b," * 1990,
        "use " + "a\\" * 1990,
        "require " + "<" * N,
        "use " + ";} " * 1300,
    ],
    "src/a.rs": ["use " + "a::{" * 900, "use " + "super::" * 570, "pub(" * 1000, "use " + " as " * 900],
    "a.java": ["import " + "a." * 1990, "import a." + "*." * 1900, "package " + "." * N],
    "a.go": ['"' * N, "_ " * 2000, "/" * N],
    "a.c": ["#include " + "<" * N, '#include "' + "../" * 1300 + '"'],
}
SETTINGS = ["/* " * 150_000, '"' * 400_000, ",  " * 150_000, '{"a": "' + "\\" * 400_000, '{"compilerOptions": ' * 1000]


@pytest.mark.parametrize("path", HOSTILE)
def test_a_statement_made_to_be_slow_is_not(path: str) -> None:
    for statement in HOSTILE[path]:
        began = time.process_time()
        edges({path: Source((statement[:N],) * 20)}, [path], {})
        assert time.process_time() - began < 0.5, statement[:20]


@pytest.mark.parametrize("text", SETTINGS)
def test_settings_made_to_be_slow_are_not(text: str) -> None:
    began = time.process_time()
    assert edges({"a.ts": Source()}, ["a.ts"], {"tsconfig.json": text, "x/package.json": text}) == {"a.ts": frozenset()}
    assert time.process_time() - began < 1


PATHS = [
    "a.py",
    "a/__init__.py",
    "a/b.py",
    "src/lib.rs",
    "src/a/mod.rs",
    "a/index.ts",
    "a.go",
    "x/A.java",
    "k.php",
    "u.h",
    "u.rb",
]
WORDS = st.sampled_from(
    [
        "from",
        "import",
        ".",
        "..",
        "a",
        "b",
        "*",
        "(",
        ")",
        ",",
        "as",
        "use",
        "::",
        "{",
        "}",
        "'",
        '"',
        "./a",
        "../",
        "\\",
        ";",
        "\0",
    ]
)


@given(st.sampled_from(PATHS), st.lists(WORDS, max_size=12), st.sampled_from(["", " "]))
def test_edges_stay_within_the_tree_whatever_is_said(path: str, words: list[str], gap: str) -> None:
    found = edges({path: Source((gap.join(words),), ("a",), (), ("a", "b"))}, PATHS, {"go.mod": "module a\n"})
    assert set(found) == {path} and found[path] <= set(PATHS) - {path}


def test_languages_are_told_by_the_ending() -> None:
    assert [language(path) for path in ("a.PY", "a.d.ts", "Makefile", "py", "a.tar.gz")] == [
        "python",
        "typescript",
        *[None] * 3,
    ]
    assert akin("a.ts", "b.vue") and akin("A.java", "B.kt") and not akin("a.go", "A.java") and not akin("a.md", "b.md")
