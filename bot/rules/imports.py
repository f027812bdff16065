"""From what source files say to which files of the same tree they depend on, language by language.

A statement that leads out of the tree (a library) is no edge. Where several files would do, the one nearest to the
importing file is taken. Languages whose packages see their own files without an import (Go, Java, Kotlin, PHP) are
followed by the names that a file mentions.
"""

import posixpath
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Final

from bot.rules.risk import is_test
from bot.rules.sources import SCRIPTS, Ground, Source, language, package, plain

_SCRIPT_ENDINGS: Final = ("", ".ts", ".tsx", ".d.ts", ".js", ".jsx", ".mjs", ".cjs", ".mts", ".cts", ".vue", ".json")
# Statements are strangers' text: no expression here goes over a text twice, however it is made.
_SPECIFIER = re.compile(r"""(?:from|import|require|resolve)\s*+\(?\s*+["'`]([^"'`\n]+)""")
_NOISE = re.compile(r"#[^\n]*|[()\\]")
_FROM = re.compile(r"from\s*+(\.*+)\s*+((?:(?!import\b)[\w.]++)?+)\s*+import\b(.*)", re.DOTALL)
_MODULE = re.compile(r"(?:pub(?:\([^)]*\))?\s+)?mod\s+(\w+)\s*;")
MAX_DEPTH: Final = 40


def edges(
    sources: Mapping[str, Source], paths: Collection[str], documents: Mapping[str, str]
) -> dict[str, frozenset[str]]:
    """For each source file the files that it depends on directly; `documents` are manifests' and settings' texts."""
    ground = Ground(sources, paths, documents)
    return {
        path: frozenset(_RESOLVERS[language(path) or ""](path, source, ground)) - {path}
        for path, source in sources.items()
    }


def _python(path: str, source: Source, ground: Ground) -> Iterator[str]:
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


def _absolute(path: str, module: str, ground: Ground) -> Iterator[str]:
    """The longest known part of a dotted name: what follows is declared in there."""
    while module:
        if found := ground.modules.get(module):
            yield from ground.nearest(found, path)
            return
        module = module.rpartition(".")[0]


def _relative(path: str, dots: int, module: str, ground: Ground) -> Iterator[str]:
    place = "/".join([*path.split("/")[:-dots], *filter(None, module.split("."))])
    for _ in range(module.count(".") + 2):
        for end in (".py", "/__init__.py", ".pyi", "/__init__.pyi"):
            if place + end in ground.paths:
                yield place + end
                return
        place = place.rpartition("/")[0]


def _script(path: str, source: Source, ground: Ground) -> Iterator[str]:
    for statement in source.statements:
        if specifier := _SPECIFIER.search(statement):
            tries = list(_script_places(path, specifier[1], ground))
            if found := next(filter(None, (_script_file(place, ground) for place in tries)), None):
                yield found


def _script_places(path: str, specifier: str, ground: Ground) -> Iterator[str]:
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


def _script_file(place: str, ground: Ground) -> str | None:
    place = "" if (short := plain(place)) == "." else short
    entry = ground.entries.get(place, {})
    mains = [posixpath.join(place, str(entry[key])) for key in ("source", "module", "main", "types") if key in entry]
    stem = re.sub(r"\.[mc]?jsx?$", "", place)
    folders = [posixpath.join(place, name) for name in ("index", "src/index", "lib/index")]
    return ground.first(
        *(f"{base}{end}" for base in (place, stem, *mains, *folders) for end in _SCRIPT_ENDINGS if base)
    )


def _packaged(path: str, source: Source, ground: Ground) -> Iterator[str]:
    home = package(path, source) or ""
    kind = home.split(":")[0]
    wanted: list[tuple[str, Iterable[str]]] = [(home, {*source.mentions} - {*source.names})]
    for statement in source.statements:
        if kind == "php" and re.match(r"(require|include)", statement):
            yield from _included(path, Source((statement,)), ground)
        wanted += _go_import(statement, source, ground) if kind == "go" else _named_import(kind, statement, source)
    for where, names in wanted:
        declared = ground.declared.get(where, {})
        for name in names:
            yield from (one for one in declared.get(name, ()) if is_test(path) or not is_test(one))


def _go_import(statement: str, source: Source, ground: Ground) -> Iterator[tuple[str, Iterable[str]]]:
    wanted = statement.rpartition(" ")[2].strip("\"'`")
    for module, folder in ground.libraries.items():
        if f"{wanted}/".startswith(f"{module}/"):
            where = f"go:{posixpath.join(folder, wanted[len(module) + 1 :]).rstrip('/')}"
            yield where, ground.declared.get(where, {}) if statement.startswith("_ ") else source.mentions


def _named_import(kind: str, statement: str, source: Source) -> Iterator[tuple[str, Iterable[str]]]:
    """`import a.b.C`, `a.b.*`, `static a.b.C.f`, `use A\\B\\C as D`, `use A\\{B, C}`: every way to split package and name."""
    plain = re.sub(r"^(import|use) |\b(static|function|const) ", "", statement).rstrip(" ;}")
    head, _, group = plain.replace("\\", ".").partition("{")
    for each in group.split(",") if group else [""]:
        dotted = re.split(r"\s+as\s+", f"{head}{each.strip()}")[0].strip(" .").split(".")
        for split in range(1, min(len(dotted), MAX_DEPTH)):
            names = source.mentions if dotted[split] == "*" else (dotted[split],)
            yield f"{kind}:{'.'.join(dotted[:split])}", names


def _included(path: str, source: Source, ground: Ground) -> Iterator[str]:
    """Files named by their path: C's include, Ruby's require, PHP's require."""
    for statement in source.statements:
        if quoted := re.match(r"""[^"'<]*["'<]([^"'>\n]+)["'>]""", statement):
            name = quoted[1].lstrip("/") + (".rb" if language(path) == "ruby" and not quoted[1].endswith(".rb") else "")
            beside = ground.first(posixpath.join(posixpath.dirname(path), name))
            yield from [beside] if beside else ground.ending(plain(name).removeprefix("../"), path)


def _rust(path: str, source: Source, ground: Ground) -> Iterator[str]:
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


def _rust_file(place: str, names: list[str], ground: Ground) -> Iterator[str]:
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


_RESOLVERS: Final[dict[str, Callable[[str, Source, Ground], Iterator[str]]]] = {
    "python": _python,
    **dict.fromkeys(SCRIPTS, _script),
    **dict.fromkeys(("go", "java", "kotlin", "php"), _packaged),
    **dict.fromkeys(("cpp", "ruby"), _included),
    "rust": _rust,
}
