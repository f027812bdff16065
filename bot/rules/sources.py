"""Source files as far as their imports go, and where in a tree names may lead."""

import json
import posixpath
import re
import tomllib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

_LANGUAGES: Final = {
    "python": "py pyi", "javascript": "js jsx mjs cjs", "typescript": "ts mts cts", "tsx": "tsx", "vue": "vue", "go": "go",
    "rust": "rs", "java": "java", "kotlin": "kt kts", "cpp": "c h cc cpp cxx hh hpp hxx", "ruby": "rb rake", "php": "php",
}  # fmt: skip
_BY_ENDING: Final = {ending: name for name, endings in _LANGUAGES.items() for ending in endings.split()}
SCRIPTS: Final = ("javascript", "typescript", "tsx", "vue")
_FAMILIES: Final = ({*SCRIPTS}, {"java", "kotlin"}, *({name} for name in _LANGUAGES))
MAX_ALIASES: Final = 200
# Settings are strangers' text: this does not go over a text twice, however it is made.
_JSON_EXTRAS = re.compile(r"""("(?:[^"\\\n]|\\.)*+"?)|//[^\n]*|/\*.*?(?:\*/|\Z)|,(?=\s*+[}\]])""", re.DOTALL)


class Source(NamedTuple):
    """What one file says: import and package statements as written, names declared at its top level, those of them
    that others may use, and identifiers mentioned (of languages where that matters).
    """

    statements: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    public: tuple[str, ...] = ()
    mentions: tuple[str, ...] = ()


@lru_cache(maxsize=2**17)
def language(path: str) -> str | None:
    """By the file's ending; None for what is no source code that we can follow."""
    return _BY_ENDING.get(posixpath.splitext(path)[1][1:].lower())


def akin(one: str, other: str) -> bool:
    """Whether files of the one's language import files of the other's."""
    return any({language(one), language(other)} <= family for family in _FAMILIES)


class Ground:
    """Where names may lead: the files of a tree, indexed once."""

    def __init__(self, sources: Mapping[str, Source], paths: Collection[str], documents: Mapping[str, str]) -> None:
        self.paths = frozenset(paths)
        self.named: dict[str, list[str]] = defaultdict(list)
        self.modules: dict[str, list[str]] = defaultdict(list)
        self.declared: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        self.aliases: list[tuple[str, str, list[str]]] = []
        self.entries: dict[str, dict[str, Any]] = {}
        self.workspaces: dict[str, str] = {}
        self.libraries: dict[str, str] = {}
        for path in paths:
            self.named[posixpath.basename(path)].append(path)
            if language(path) == "python":
                for name in self._module_names(path):
                    self.modules[name].append(path)
        for path, source in sources.items():
            if (home := package(path, source)) is not None:
                for name in source.names:
                    self.declared[home][name].append(path)
        for path, text in sorted(documents.items(), key=lambda item: -item[0].count("/")):
            self._document(posixpath.dirname(path), posixpath.basename(path), text)

    def _module_names(self, path: str) -> Iterator[str]:
        """A Python file's names: from the root of its packages, and from the folders that are usually on the path."""
        parts = posixpath.splitext(path)[0].removesuffix("/__init__").split("/")
        top = len(parts) - 1
        while top and "/".join((*parts[:top], "__init__.py")) in self.paths:
            top -= 1
        roots = {top, 0, 1 if parts[0] in ("src", "lib") else 0}
        yield from (".".join(parts[root:]) for root in roots)

    def _document(self, folder: str, name: str, text: str) -> None:
        try:
            if name == "go.mod" and (found := re.search(r"^module\s+(\S+)", text, re.MULTILINE)):
                self.libraries[found[1].strip('"')] = folder
            elif name == "Cargo.toml":
                crate = _object(tomllib.loads(text).get("package")).get("name", "")
                self.libraries[str(crate).replace("-", "_")] = posixpath.join(folder, "src")
            elif name == "package.json":
                entry = self.entries[folder] = _object(json.loads(text))
                self.workspaces[str(entry.get("name"))] = folder
            elif name.startswith(("tsconfig", "jsconfig")):
                options = _object(_object(json.loads(_JSON_EXTRAS.sub(r"\1", text))).get("compilerOptions"))
                base = posixpath.join(folder, str(options.get("baseUrl") or "."))
                for alias, targets in list(_object(options.get("paths")).items())[:MAX_ALIASES]:
                    self.aliases.append((folder, alias, [posixpath.join(base, str(one)) for one in targets]))
        except (ValueError, RecursionError, TypeError, AttributeError):
            pass  # a broken manifest is its owner's business: its names lead nowhere

    def nearest(self, found: Iterable[str], path: str) -> Iterator[str]:
        """The one other file that shares most of its folders with the path."""
        others = [other for other in found if other != path]
        if len(others) > 1:
            folders = path.split("/")[:-1]
            shared = [len(posixpath.commonprefix([folders, other.split("/")[:-1]])) for other in others]
            others = [min(zip((-count for count in shared), map(len, others), others, strict=True))[-1]]
        yield from others

    def ending(self, name: str, path: str) -> Iterator[str]:
        """The nearest file whose path ends with these segments."""
        same = self.named.get(posixpath.basename(name), ())
        yield from self.nearest([one for one in same if f"/{one}".endswith(f"/{name}")], path)

    def first(self, *tries: str) -> str | None:
        """The first that exists."""
        return next((one for one in map(plain, tries) if one in self.paths), None)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def plain(path: str) -> str:
    return posixpath.normpath(path).removeprefix("./")


def package(path: str, source: Source) -> str | None:
    """The package whose files see each other, if the language has such: a folder, or what the file declares."""
    kind = language(path)
    if kind == "go":
        return f"go:{posixpath.dirname(path)}"
    if kind not in ("java", "kotlin", "php"):
        return None
    said = (re.match(r"(?:package|namespace)\s+([\w.\\]+)", statement) for statement in source.statements)
    return f"{'php' if kind == 'php' else 'jvm'}:{next((one[1] for one in said if one), '').replace(chr(92), '.')}"
