"""What depends on a file, by hand-made graphs and against brute force."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.rules import impact
from bot.rules.impact import Graph

FILES = [f"m{n}.py" for n in range(6)]


@given(st.dictionaries(st.sampled_from(FILES), st.sets(st.sampled_from(FILES))), st.sets(st.sampled_from(FILES)))
def test_affected_is_every_path_backwards_with_the_shortest_distance(
    edges: dict[str, set[str]], start: set[str]
) -> None:
    found = impact.affected(Graph(dict.fromkeys(FILES, 1), edges), start)
    reached, layer, steps = set(start), set(start), 0
    expected: dict[str, int] = {}
    while layer:
        steps += 1
        layer = {one for one, imported in edges.items() if imported & layer} - reached
        reached |= layer
        expected |= dict.fromkeys(layer, steps)
    assert found == expected


@pytest.mark.parametrize(
    ("source", "test", "belongs"),
    [
        ("src/a.py", "tests/test_a.py", True),
        ("src/a.py", "tests/unit/a_test.py", True),
        ("src/a.ts", "src/a.spec.ts", True),
        ("src/a.js", "src/__tests__/a.tsx", True),
        ("pkg/a.go", "pkg/a_test.go", True),
        ("src/main/java/x/Alpha.java", "src/test/java/x/AlphaTest.java", True),
        ("src/main/java/x/Alpha.java", "src/test/kotlin/x/AlphaTests.kt", True),
        ("app/models/user.rb", "spec/models/user_spec.rb", True),
        ("src/A.php", "tests/ATest.php", True),
        ("src/a.py", "tests/a.spec.ts", False),
        ("src/a.py", "tests/test_b.py", False),
        ("src/contest.py", "tests/con.py", False),
        ("src/latest.py", "tests/test_la.py", False),
        ("a.md", "tests/test_a.py", False),
        ("tests/__init__.py", "tests/test_a.py", False),
    ],
)
def test_tests_are_known_by_their_names(source: str, test: str, belongs: bool) -> None:
    graph = Graph({source: 1, test: 1})
    assert (test in impact.tests(graph, [source])) is belongs


def test_of_several_files_with_one_name_a_test_belongs_to_those_that_it_imports() -> None:
    files = dict.fromkeys(["a/use.py", "b/use.py", "tests/test_use.py"], 1)
    assert not impact.tests(Graph(files), ["a/use.py"])
    graph = Graph(files, {"tests/test_use.py": {"b/use.py"}})
    assert not impact.tests(graph, ["a/use.py"]) and impact.tests(graph, ["b/use.py"]) == {"tests/test_use.py": 0}
    assert impact.tests(graph, ["tests/test_use.py"]) == {"tests/test_use.py": 0}


CODEOWNERS = """
# a comment
*                 @all
*.js              @js # and more
/build/logs/      @doctocat
docs/*            docs@example.com
apps/             @octocat
/docs/            @writers
/scripts/         @doctocat @octocat
**/logs           @logger
/apps/github
src/[ab].py       @classes
!x.py             @negated
"""


@pytest.mark.parametrize(
    ("path", "people"),
    [
        ("a.py", ["@all"]),
        ("deep/er/a.js", ["@js"]),
        ("build/logs/x.txt", ["@logger"]),
        ("x/build/log/y.txt", ["@all"]),
        ("docs/getting-started.md", ["@writers"]),
        ("x/docs/a.md", ["@all"]),
        ("x/apps/y/z", ["@octocat"]),
        ("apps/github", []),
        ("apps/github/deep/x", []),
        ("apps/githubs", ["@octocat"]),
        ("scripts/a", ["@doctocat", "@octocat"]),
        ("deploy/logs/x", ["@logger"]),
        ("src/a.py", ["@all"]),
        ("x.py", ["@all"]),
    ],
)
def test_owners_are_those_of_github_s_rules(path: str, people: list[str]) -> None:
    graph = Graph({path: 1}, documents={"CODEOWNERS": CODEOWNERS, "docs/CODEOWNERS": "* @third"})
    assert list(impact.owners(graph, path)) == people
    first = Graph({path: 1}, documents={"CODEOWNERS": CODEOWNERS, ".github/CODEOWNERS": "docs/* @direct"})
    assert impact.owners(first, "docs/a.md") == ("@direct",) and not impact.owners(first, "docs/deep/a.md")


def test_manifests_that_name_a_file_or_are_locked() -> None:
    documents = {
        "pyproject.toml": '[project.scripts]\nx = "pack.cli.main:main"\n[tool]\nfiles = ["./src/pack/data.py"]\n',
        "web/package.json": '{"main": "lib/index.js", "bin": "./bin/run.js"}',
        "CODEOWNERS": "src/pack/other.py @me",
    }
    files = ["src/pack/cli/main.py", "src/pack/data.py", "src/pack/other.py", "web/lib/index.js", "web/bin/run.js",
             "lib/index.js", "poetry.lock", "web/package-lock.json", *documents]  # fmt: skip
    graph = Graph(dict.fromkeys(files, 1), documents=documents)
    named = {path: impact.manifests(graph, [path]) for path in files}
    assert {path: found for path, found in named.items() if found} == {
        "src/pack/cli/main.py": ("pyproject.toml",),
        "src/pack/data.py": ("pyproject.toml",),
        "web/lib/index.js": ("web/package.json",),
        "web/bin/run.js": ("web/package.json",),
        "pyproject.toml": ("poetry.lock",),
        "web/package.json": ("web/package-lock.json",),
    }
