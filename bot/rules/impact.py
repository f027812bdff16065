"""What depends on a file: other files, tests, manifests, and the people who own it.

All of it is read from one tree; nothing is run. What cannot be known from the text (names made at run time, programs that
are called as commands) is not known here either.
"""

import posixpath
import re
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from bot.rules import globs
from bot.rules.risk import is_test
from bot.rules.sources import akin, language

_MANIFEST = re.compile(
    r"(package\.json|[tj]sconfig[\w.-]*\.json|pyproject\.toml|setup\.(py|cfg)|MANIFEST\.in|tox\.ini|requirements[\w.-]*\.txt"
    r"|go\.mod|Cargo\.toml|pom\.xml|(build|settings)\.gradle(\.kts)?|composer\.json|Gemfile|[\w.-]+\.gemspec|CMakeLists\.txt"
    r"|meson\.build|[Mm]akefile|Dockerfile|mix\.exs|pubspec\.yaml|Package\.swift|[\w.-]+\.csproj)\Z"
)
_LOCK = re.compile(
    r"(package-lock\.json|npm-shrinkwrap\.json|yarn\.lock|pnpm-lock\.yaml|bun\.lockb?|deno\.lock|poetry\.lock|Pipfile\.lock"
    r"|uv\.lock|pdm\.lock|pixi\.lock|pylock\.toml|requirements\.lock|Cargo\.lock|go\.(work\.)?sum|Gemfile\.lock|composer\.lock"
    r"|gradle\.lockfile|mix\.lock|pubspec\.lock|Podfile\.lock|Package\.resolved|packages\.lock\.json|conan\.lock|flake\.lock)\Z"
)
CODEOWNERS: Final = (".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS")
"""The first of them that exists is the one that GitHub reads."""
_SUITE = re.compile(r"tests?[_.]|.*_tests?\.")
_TEST_WORDS = re.compile(r"^(test|spec)[._-]?|[._-]?(tests?|spec)$", re.IGNORECASE)


@dataclass(frozen=True)
class Graph:
    """One tree: sizes in bytes of all files, direct imports of source files, their public names, why some could not be
    read, and the texts of manifests and CODEOWNERS.
    """

    files: Mapping[str, int]
    imports: Mapping[str, Collection[str]] = field(default_factory=dict)
    public: Mapping[str, Collection[str]] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)
    documents: Mapping[str, str] = field(default_factory=dict)
    owned: dict[tuple[str, ...], Sequence[str]] = field(default_factory=dict, compare=False)
    """Files by the patterns that were asked for: a plan is judged many times while it is mended."""

    @cached_property
    def importers(self) -> Mapping[str, Collection[str]]:
        """The other way: who imports a file directly."""
        found: dict[str, list[str]] = defaultdict(list)
        for path, imported in self.imports.items():
            for one in imported:
                found[one].append(path)
        return found

    @cached_property
    def tests_of(self) -> Mapping[str, Collection[str]]:
        """The tests that by their names belong to a source file: the only one so named, or one that they import."""
        sources: dict[str, list[str]] = defaultdict(list)
        found: dict[str, list[str]] = defaultdict(list)
        for path in self.files:
            if language(path) and not is_test(path):
                sources[_subject(path)].append(path)
        for test in filter(is_suite, self.files):
            named = [path for path in sources.get(_subject(test), ()) if akin(path, test)]
            for path in named if len(named) == 1 else (path for path in named if path in self.imports.get(test, ())):
                found[path].append(test)
        return found


def document(path: str) -> bool:
    """Whether a file's text is wanted as it is: a manifest, or CODEOWNERS."""
    return _MANIFEST.match(posixpath.basename(path)) is not None or path in CODEOWNERS


def lock(path: str) -> bool:
    """Whether a package manager writes this file."""
    return _LOCK.match(posixpath.basename(path)) is not None


def is_suite(path: str) -> bool:
    """Whether a path looks like source code that holds tests: where a language has a rule for their names, by that."""
    strict = language(path) not in ("python", "go") or _SUITE.match(posixpath.basename(path)) is not None
    return strict and is_test(path) and language(path) is not None


def _subject(path: str) -> str:
    """What a file is about, by its name: `tests/test_a.py`, `a.spec.ts` and `a_test.go` are about `a`."""
    stem = posixpath.basename(path).split(".")[0]
    about = _TEST_WORDS.sub("", stem) if is_test(path) else stem
    return about.casefold() or posixpath.basename(posixpath.dirname(path))


def affected(graph: Graph, paths: Iterable[str]) -> dict[str, int]:
    """Every file that depends on one of these, directly (1) or through others; the paths themselves are not in it."""
    found = dict.fromkeys(paths, 0)
    queue = deque(found)
    while queue:
        path = queue.popleft()
        for one in graph.importers.get(path, ()):
            if one not in found:
                found[one] = found[path] + 1
                queue.append(one)
    return {path: steps for path, steps in found.items() if steps}


def tests(graph: Graph, paths: Collection[str]) -> dict[str, int]:
    """The tests worth running for these files, nearest first: 0 for those changed or named after one, else imports' steps."""
    found = {path: steps for path, steps in affected(graph, paths).items() if is_suite(path)}
    for path in paths:
        found |= dict.fromkeys(graph.tests_of.get(path, ()), 0)
        if is_suite(path):
            found[path] = 0
    return dict(sorted(found.items(), key=lambda item: (item[1], item[0])))


def manifests(graph: Graph, paths: Collection[str]) -> tuple[str, ...]:
    """Manifests that name one of these files, and lock files made from one that is a manifest."""
    found = {one for one in graph.files if lock(one) for path in paths if _MANIFEST.match(posixpath.basename(path))
             and posixpath.dirname(one) == posixpath.dirname(path)}  # fmt: skip
    for manifest, text in graph.documents.items():
        folder = posixpath.dirname(manifest)
        inside = [
            path[len(folder) + 1 if folder else 0 :] for path in paths if not folder or path.startswith(f"{folder}/")
        ]
        words = (
            {word.removeprefix("./") for word in re.findall(r"[\w@./-]+", text)}
            if manifest not in CODEOWNERS
            else set()
        )
        if any(name in words for path in inside for name in _spellings(path)):
            found.add(manifest)
    return tuple(sorted(found - set(paths)))


def _spellings(path: str) -> Iterable[str]:
    """How a manifest may write a path: whole, without its ending, or as a dotted name."""
    stem = posixpath.splitext(path)[0].removesuffix("/__init__")
    yield path
    if "/" in stem:
        yield stem
        yield stem.removeprefix("src/").replace("/", ".")


def owners(graph: Graph, path: str) -> tuple[str, ...]:
    """Whom CODEOWNERS names for a path, by GitHub's rules: the last line that matches decides, even if it names nobody."""
    text = next((graph.documents[name] for name in CODEOWNERS if name in graph.documents), "")
    found: tuple[str, ...] = ()
    for line in text.splitlines():
        pattern, *people = line.split("#")[0].split() or [""]
        if pattern and globs.matches(_owned(pattern), path):
            found = tuple(people)
    return found


def _owned(pattern: str) -> tuple[str, ...]:
    """A line's pattern as ours: relative to the root if it has a slash before its end, for a folder all that is below."""
    plain = pattern.strip("/")
    anchored = plain if "/" in pattern[:-1] else f"**/{plain}"
    below = () if anchored.endswith("/*") and "/" in pattern[:-1] else (f"{anchored}/**",)
    found = below if pattern.endswith("/") else (anchored, *below)
    return tuple(glob for glob in found if globs.check(glob) is None)


def removed(before: Graph, after: Graph, paths: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Public names that files had and do not have any more, by file."""
    gone = {path: set(before.public.get(path, ())) - set(after.public.get(path, ())) for path in paths}
    return {path: tuple(sorted(names)) for path, names in gone.items() if names and path not in after.unread}
