"""From what source files say to which files of the same tree they depend on, language by language.

A statement that leads out of the tree (a library) is no edge. Where several files would do, the one nearest to the
importing file is taken. Languages whose packages see their own files without an import (Go, Java, Kotlin, PHP) are
followed by the names that a file mentions.
"""

import json
import posixpath
import re
import tomllib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from bot.rules.risk import is_test

_LANGUAGES: Final = {
    "python": "py pyi", "javascript": "js jsx mjs cjs", "typescript": "ts mts cts", "tsx": "tsx", "vue": "vue", "go": "go",
    "rust": "rs", "java": "java", "kotlin": "kt kts", "cpp": "c h cc cpp cxx hh hpp hxx", "ruby": "rb rake", "php": "php",
}  # fmt: skip
_BY_ENDING: Final = {ending: name for name, endings in _LANGUAGES.items() for ending in endings.split()}
_SCRIPTS: Final = ("javascript", "typescript", "tsx", "vue")
_FAMILIES: Final = ({*_SCRIPTS}, {"java", "kotlin"}, *({name} for name in _LANGUAGES))
_SCRIPT_ENDINGS: Final = ("", ".ts", ".tsx", ".d.ts", ".js", ".jsx", ".mjs", ".cjs", ".mts", ".cts", ".vue", ".json")
MAX_ALIASES, MAX_DEPTH = 200, 40
# Statements are strangers' text: no expression here goes over a text twice, however it is made.
_SPECIFIER = re.compile(r"""(?:from|import|require|resolve)\s*+\(?\s*+["'`]([^"'`\n]+)""")
_NOISE = re.compile(r"#[^\n]*|[()\\]")
_FROM = re.compile(r"from\s*+(\.*+)\s*+((?:(?!import\b)[\w.]++)?+)\s*+import\b(.*)", re.DOTALL)
_MODULE = re.compile(r"(?:pub(?:\([^)]*\))?\s+)?mod\s+(\w+)\s*;")
_JSON_EXTRAS = re.compile(r"""("(?:[^"\\\n]|\\.)*+"?)|//[^\n]*|/\*.*?(?:\*/|\Z)|,(?=\s*+[}\]])""", re.DOTALL)


class Source(NamedTuple):
    """What one file says: import and package statements as written, names declared at its top level, those of them
    that others may use, and identifiers mentioned (of languages where that matters).
    """

    statements: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    public: tuple[str, ...] = ()
    mentions: tuple[str, ...] = ()


def language(path: str) -> str | None:
    """By the file's ending; None for what is no source code that we can follow."""
    return _BY_ENDING.get(posixpath.splitext(path)[1][1:].lower())


def akin(one: str, other: str) -> bool:
    """Whether files of the one's language import files of the other's."""
    return any({language(one), language(other)} <= family for family in _FAMILIES)


def edges(
    sources: Mapping[str, Source], paths: Collection[str], documents: Mapping[str, str]
) -> dict[str, frozenset[str]]:
    """For each source file the files that it depends on directly; `documents` are manifests' and settings' texts."""
    ground = _Ground(sources, paths, documents)
    return {
        path: frozenset(_RESOLVERS[language(path) or ""](path, source, ground)) - {path}
        for path, source in sources.items()
    }


class _Ground:
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
            if (package := _package(path, source)) is not None:
                for name in source.names:
                    self.declared[package][name].append(path)
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
        return next((one for one in map(_plain, tries) if one in self.paths), None)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _plain(path: str) -> str:
    return posixpath.normpath(path).removeprefix("./")


def _python(path: str, source: Source, ground: _Ground) -> Iterator[str]:
    for statement in source.statements:
        dots, modules = _python_modules(statement)
        for module in modules:
            yield from _relative(path, dots, module, ground) if dots else _absolute(path, module, ground)


@lru_cache(maxsize=65536)
def _python_modules(statement: str) -> tuple[int, tuple[str, ...]]:
    """How many dots stand before the modules, and the modules, each with the name that is taken from it."""
    flat = _NOISE.sub(" ", statement)
    found = _FROM.match(flat)
    names = [part.split()[0] for part in (found[3] if found else flat[len("import") :]).split(",") if part.strip()]
    if not found:
        return 0, tuple(names)
    return len(found[1]), tuple(f"{found[2]}.{name}".strip(".*") for name in names)


def _absolute(path: str, module: str, ground: _Ground) -> Iterator[str]:
    """The longest known part of a dotted name: what follows is declared in there."""
    while module:
        if found := ground.modules.get(module):
            yield from ground.nearest(found, path)
            return
        module = module.rpartition(".")[0]


def _relative(path: str, dots: int, module: str, ground: _Ground) -> Iterator[str]:
    place = "/".join([*path.split("/")[:-dots], *filter(None, module.split("."))])
    for _ in range(module.count(".") + 2):
        for end in (".py", "/__init__.py", ".pyi", "/__init__.pyi"):
            if place + end in ground.paths:
                yield place + end
                return
        place = place.rpartition("/")[0]


def _script(path: str, source: Source, ground: _Ground) -> Iterator[str]:
    for statement in source.statements:
        if specifier := _SPECIFIER.search(statement):
            tries = list(_script_places(path, specifier[1], ground))
            if found := next(filter(None, (_script_file(place, ground) for place in tries)), None):
                yield found


def _script_places(path: str, specifier: str, ground: _Ground) -> Iterator[str]:
    if specifier.startswith("."):
        yield posixpath.join(posixpath.dirname(path), specifier)
        return
    for folder, alias, targets in ground.aliases:
        before, star, after = alias.partition("*")
        inside = not folder or path.startswith(f"{folder}/")
        fits = specifier.startswith(before) and specifier.endswith(after) if star else specifier == alias
        if inside and fits:
            middle = specifier[len(before) : len(specifier) - len(after)]
            yield from (target.replace("*", middle) for target in targets)
    parts = specifier.split("/")
    for end in (1, 2):
        if (home := ground.workspaces.get("/".join(parts[:end]))) is not None:
            yield posixpath.join(home, *parts[end:])


def _script_file(place: str, ground: _Ground) -> str | None:
    place = "" if (plain := _plain(place)) == "." else plain
    entry = ground.entries.get(place, {})
    mains = [posixpath.join(place, str(entry[key])) for key in ("source", "module", "main", "types") if key in entry]
    stem = re.sub(r"\.[mc]?jsx?$", "", place)
    folders = [posixpath.join(place, name) for name in ("index", "src/index", "lib/index")]
    return ground.first(
        *(f"{base}{end}" for base in (place, stem, *mains, *folders) for end in _SCRIPT_ENDINGS if base)
    )


def _package(path: str, source: Source) -> str | None:
    """The package whose files see each other, if the language has such: a folder, or what the file declares."""
    kind = language(path)
    if kind == "go":
        return f"go:{posixpath.dirname(path)}"
    if kind not in ("java", "kotlin", "php"):
        return None
    said = (re.match(r"(?:package|namespace)\s+([\w.\\]+)", statement) for statement in source.statements)
    return f"{'php' if kind == 'php' else 'jvm'}:{next((one[1] for one in said if one), '').replace(chr(92), '.')}"


def _packaged(path: str, source: Source, ground: _Ground) -> Iterator[str]:
    home = _package(path, source) or ""
    kind = home.split(":")[0]
    wanted: list[tuple[str, Iterable[str]]] = [(home, {*source.mentions} - {*source.names})]
    for statement in source.statements:
        if kind == "php" and re.match(r"(require|include)", statement):
            yield from _included(path, Source((statement,)), ground)
        wanted += _go_import(statement, source, ground) if kind == "go" else _named_import(kind, statement, source)
    for package, names in wanted:
        declared = ground.declared.get(package, {})
        for name in names:
            yield from (one for one in declared.get(name, ()) if is_test(path) or not is_test(one))


def _go_import(statement: str, source: Source, ground: _Ground) -> Iterator[tuple[str, Iterable[str]]]:
    wanted = statement.rpartition(" ")[2].strip("\"'`")
    for module, folder in ground.libraries.items():
        if f"{wanted}/".startswith(f"{module}/"):
            package = f"go:{posixpath.join(folder, wanted[len(module) + 1 :]).rstrip('/')}"
            yield package, ground.declared.get(package, {}) if statement.startswith("_ ") else source.mentions


def _named_import(kind: str, statement: str, source: Source) -> Iterator[tuple[str, Iterable[str]]]:
    """`import a.b.C`, `a.b.*`, `static a.b.C.f`, `use A\\B\\C as D`, `use A\\{B, C}`: every way to split package and name."""
    plain = re.sub(r"^(import|use) |\b(static|function|const) ", "", statement).rstrip(" ;}")
    head, _, group = plain.replace("\\", ".").partition("{")
    for each in group.split(",") if group else [""]:
        dotted = re.split(r"\s+as\s+", f"{head}{each.strip()}")[0].strip(" .").split(".")
        for split in range(1, min(len(dotted), MAX_DEPTH)):
            names = source.mentions if dotted[split] == "*" else (dotted[split],)
            yield f"{kind}:{'.'.join(dotted[:split])}", names


def _included(path: str, source: Source, ground: _Ground) -> Iterator[str]:
    """Files named by their path: C's include, Ruby's require, PHP's require."""
    for statement in source.statements:
        if quoted := re.match(r"""[^"'<]*["'<]([^"'>\n]+)["'>]""", statement):
            name = quoted[1].lstrip("/") + (".rb" if language(path) == "ruby" and not quoted[1].endswith(".rb") else "")
            beside = ground.first(posixpath.join(posixpath.dirname(path), name))
            yield from [beside] if beside else ground.ending(_plain(name).removeprefix("../"), path)


def _rust(path: str, source: Source, ground: _Ground) -> Iterator[str]:
    folder, stem = posixpath.dirname(path), posixpath.splitext(posixpath.basename(path))[0]
    own = folder if stem in ("mod", "lib", "main") else posixpath.join(folder, stem)
    root = folder
    while root and not ground.first(f"{root}/lib.rs", f"{root}/main.rs"):
        root = posixpath.dirname(root)
    starts = {"crate": root or folder, "self": own, "super": posixpath.dirname(own)}
    for statement in source.statements:
        if found := _MODULE.match(statement):
            yield from _rust_file(own, [found[1]], ground)
            continue
        used = re.sub(r"^(?:pub(?:\([^)]*\))? )?use | as \w+|\s|;$", "", statement)
        for names in (name.split("::") for name in _branches(used) if name != "super::*"):
            place = starts.get(names[0]) or ground.libraries.get(names[0])
            while place and len(names) > 1 and names[1] == "super":
                place, names = posixpath.dirname(place), names[1:]
            if place:
                yield from _rust_file(place, names[1:], ground)


def _rust_file(place: str, names: list[str], ground: _Ground) -> Iterator[str]:
    """The file of the innermost module that has one."""
    for end in range(len(names), -1, -1):
        at = posixpath.join(place, *names[:end])
        if found := ground.first(f"{at}.rs", f"{at}/mod.rs", *([] if end else [f"{at}/lib.rs", f"{at}/main.rs"])):
            yield found
            return


def _branches(used: str) -> Iterator[str]:
    """`a::{b,c::{d}}` as `a::b` and `a::c::d`, without what is renamed."""
    stack, word = [""], ""
    for char in used + ",":
        if char == "{":
            stack.append(stack[-1] + word)
            word = ""
        elif char in ",}":
            if word:
                yield stack[-1] + word
            word = ""
            if char == "}" and len(stack) > 1:
                stack.pop()
        else:
            word += char


_RESOLVERS: Final[dict[str, Callable[[str, Source, _Ground], Iterator[str]]]] = {
    "python": _python,
    **dict.fromkeys(_SCRIPTS, _script),
    **dict.fromkeys(("go", "java", "kotlin", "php"), _packaged),
    **dict.fromkeys(("cpp", "ruby"), _included),
    "rust": _rust,
}
