"""How fast the import graph of a tree is made, and how many of the tests that people changed with their code it names.

For each commit of a history that changes both source files and tests which were there before, the graph of its parent is
asked for the tests of those source files. A test that it does not name is a miss, with a cause. Naming every test would miss
none: so the share of all tests that it names is measured too, and how near the named ones are.
"""

import resource
import statistics
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import pygit2
from pygit2.enums import DeltaStatus, FileMode, SortMode

from bot.bench.laps import Watch
from bot.rules.impact import Graph, affected, is_suite, tests
from bot.rules.risk import is_test
from bot.rules.sources import akin, language
from bot.runners.impact import survey

FILES: Final = 2000
ROUNDS: Final = 5
MASS_EDIT: Final = 100
"""Files in a commit: with more it is a sweep over the repository, which says nothing on what depends on what."""
NEAR: Final = (0, 1, 2, 3)
EXAMPLES: Final = 3


class Pair(NamedTuple):
    """One commit: source files and tests, all of which its parent had."""

    commit: str
    parent: str
    sources: tuple[str, ...]
    tests: tuple[str, ...]


def borrowed(repo: Path, folder: Path) -> Path:
    """A git dir of our own that sees the objects of another, which is not written to."""
    source = Path(pygit2.discover_repository(str(repo)) or repo)
    subprocess.run(
        ["git", "clone", "-q", "--bare", "--shared", str(source), str(folder)], check=True, capture_output=True
    )
    return folder


def synthetic(folder: Path) -> Path:
    """A git dir with one commit of Python packages of fifty modules, each of which imports five others."""
    repo = pygit2.init_repository(str(folder), bare=True)
    index = pygit2.Index()
    for number in range(FILES):
        others = [(number * 7 + step * 13) % FILES for step in range(1, 6)]
        lines = [f"from pack{other // 50}.mod{other} import work{other}" for other in others]
        body = [f"def work{number}_{part}(value: int) -> int:\n    return value * {part}\n" for part in range(80)]
        data = "\n".join([*lines, *body]).encode()
        index.add(pygit2.IndexEntry(f"pack{number // 50}/mod{number}.py", repo.create_blob(data), FileMode.BLOB))
        index.add(pygit2.IndexEntry(f"pack{number // 50}/__init__.py", repo.create_blob(b""), FileMode.BLOB))
    who = pygit2.Signature("Bench", "bench@example.org", 1_700_000_000, 0)
    repo.create_commit("HEAD", who, who, "synthetic", index.write_tree(repo), [])
    return folder


def speed(git_dir: Path, scratch: Path) -> dict[str, Any]:
    """Seconds for the head's graph with nothing remembered, and after one file changed (the median of some)."""
    repo = pygit2.Repository(str(git_dir))
    head = repo.revparse_single("HEAD").peel(pygit2.Commit)
    cold, warm, memory = Watch(), Watch(), scratch / "speed.jsonl"
    with cold:
        graph = survey(git_dir, str(head.id), memory)
    sources = sorted(graph.imports)
    readers = _children()
    for path in sources[:: max(1, len(sources) // ROUNDS)][:ROUNDS]:
        index = pygit2.Index()
        index.read_tree(head.tree)
        data = repo[index[path].id].peel(pygit2.Blob).data + b"\n"
        index.add(pygit2.IndexEntry(path, repo.create_blob(data), index[path].mode))
        tree = str(index.write_tree(repo))
        with warm:
            survey(git_dir, tree, memory)
    return {
        "files": len(graph.files),
        "sources": len(sources),
        "bytes": sum(graph.files[path] for path in sources),
        "unread": len(graph.unread),
        "cold_seconds": round(cold.walls[0], 3),
        "warm_seconds": round(statistics.median(warm.walls), 3),
        "warm_cpu_seconds": round((warm.cpu + _children() - readers) / len(warm.walls), 3),
    }


def _children() -> float:
    """CPU seconds of processes that ended: the readers."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def pairs(git_dir: Path) -> Iterator[Pair]:
    """The history's commits that fit, newest first."""
    repo = pygit2.Repository(str(git_dir))
    for commit in repo.walk(repo.revparse_single("HEAD").id, SortMode.TOPOLOGICAL):
        if len(commit.parents) != 1:
            continue
        deltas = list(repo.diff(commit.parents[0], commit).deltas)
        if len(deltas) > MASS_EDIT:
            continue
        changed = sorted(delta.new_file.path for delta in deltas if delta.status == DeltaStatus.MODIFIED)
        sources = tuple(path for path in changed if language(path) and not is_test(path))
        beside = tuple(filter(is_suite, changed))
        if sources and beside:
            yield Pair(str(commit.id), str(commit.parents[0].id), sources, beside)


def cochange(git_dir: Path, scratch: Path, commits: int, say: Callable[[str], None]) -> dict[str, Any]:
    """The share of the tests changed with their code that impact named, how near, among how many, and the misses."""
    near: Counter[int] = Counter()
    causes: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    shares: list[float] = []
    asked = 0
    for done, pair in enumerate(islice(pairs(git_dir), commits), 1):
        graph = survey(git_dir, pair.parent, scratch / "history.jsonl")
        named = tests(graph, pair.sources)
        shares.append(len(named) / max(1, sum(map(is_suite, graph.files))))
        asked += len(pair.tests)
        for test in pair.tests:
            if test in named:
                near[named[test]] += 1
                continue
            cause = _cause(graph, pair, test)
            causes[cause] += 1
            examples.setdefault(cause, []).append(f"{pair.commit[:10]} {test} with {', '.join(pair.sources[:3])}")
        if done % 100 == 0:
            say(f"{done} commits")
    found = sum(near.values())
    return {
        "commits": len(shares),
        "tests": asked,
        "named": found,
        "share": round(found / asked, 4) if asked else None,
        "share_within_steps": {
            step: round(sum(near[n] for n in near if n <= step) / asked, 4) for step in NEAR if asked
        },
        "median_share_of_all_tests_named": round(statistics.median(shares), 4) if shares else None,
        "misses": {
            cause: {"count": count, "examples": examples[cause][:EXAMPLES]} for cause, count in causes.most_common()
        },
    }


def _cause(graph: Graph, pair: Pair, test: str) -> str:
    """Why a test was not named."""
    if test in graph.unread or any(path in graph.unread for path in pair.sources):
        return "one of the files could not be read"
    if not any(akin(test, path) for path in pair.sources):
        return "the test is written in another language"
    if not graph.imports.get(test):
        return "the test imports nothing of the repository: it runs a command, or uses what its runner provides"
    if set(affected(graph, [test])) & set(pair.sources):
        return "the changed code imports the test"
    return "the test imports other code of the repository, but nothing that leads to what was changed"


def text(found: dict[str, Any]) -> str:
    """For people."""
    fast = found["speed"]
    lines = [
        f"{fast['sources']} source files ({fast['bytes'] / 1e6:.1f} MB) of {fast['files']}, {fast['unread']} not read",
        f"  cold {fast['cold_seconds']} s; one file changed {fast['warm_seconds']} s ({fast['warm_cpu_seconds']} s CPU)",
    ]
    if (pairs := found.get("cochange")) and pairs["tests"]:
        steps = ", ".join(f"{share:.1%} within {step}" for step, share in pairs["share_within_steps"].items())
        lines += [
            f"{pairs['commits']} commits changed {pairs['tests']} tests with their code; {pairs['share']:.1%} were named",
            f"  by steps of imports (0: by name): {steps}",
            f"  half of the commits named at most {pairs['median_share_of_all_tests_named']:.1%} of all tests",
        ]
        for cause, missed in pairs["misses"].items():
            lines += [f"  {missed['count']} missed: {cause}", *(f"    {example}" for example in missed["examples"])]
    return "\n".join(lines)
