"""A process of its own that reads source texts by their syntax trees and says what each imports and declares.

Each text comes on stdin as a line `language bytes` with the bytes behind it, and is answered by one line of JSON. Texts are
strangers' and grammars are native code: a text that takes more CPU seconds than the first argument says, or more than MEMORY,
ends this process, and whoever started it leaves that text out. Nothing that is read here is ever run.
"""

import json
import os
import re
import resource
import signal
import sys
from collections.abc import Iterator
from typing import Any, Final

from ast_grep_py import SgNode, SgRoot

MEMORY: Final = 2 * 2**30
MAX_NAMES, MAX_TEXT = 5000, 4000
_KINDS: Final = {
    "python": "import_statement import_from_statement", "go": "import_spec", "rust": "use_declaration", "cpp": "preproc_include",
    "java": "import_declaration package_declaration", "kotlin": "import_header package_header", "ruby": "",
    "php": "namespace_definition namespace_use_declaration require_expression require_once_expression include_expression "
    "include_once_expression", **dict.fromkeys(("javascript", "typescript", "tsx"), "import_statement"),
}  # fmt: skip
_CALLS: Final[list[Any]] = [{"pattern": text} for text in ("require($A)", "require.resolve($A)", "import($A)")]
_SCRIPT: Final = [{"kind": "export_statement", "has": {"field": "source", "kind": "string"}}, *_CALLS]
_FURTHER: Final[dict[str, list[Any]]] = {
    "rust": [{"kind": "mod_item", "not": {"has": {"field": "body", "kind": "declaration_list"}}}],
    "ruby": [{"pattern": "require $A"}, {"pattern": "require_relative $A"}],
    **dict.fromkeys(("javascript", "typescript", "tsx"), _SCRIPT),
}
_MENTIONS: Final = {
    "go": "identifier type_identifier field_identifier", "java": "identifier type_identifier",
    "kotlin": "simple_identifier type_identifier", "php": "name",
}  # fmt: skip
"""Identifiers of languages in which the files of a package see each other without an import."""
_DECLARES = re.compile(
    r"(?!import|use_|package|extern)(.*_(definition|declaration|item|spec|def)|class|module|method)$"
)
_INSIDE = re.compile(r".*(_definition|_declaration|_list|_statement|_specifier|_clause|_def|assignment|_declarator)$")
_VARIABLES = ("assignment", "variable_declarator", "assignment_expression", "class_specifier", "struct_specifier")
_EXPORTS = re.compile(r"(?:module\.)?exports\.(\w+)$")


def facts(language: str, text: str) -> dict[str, list[str]]:
    """Import statements as they are written, the names declared at the top level, those of them that other files may
    use, and the identifiers that are mentioned.
    """
    root = SgRoot(text, language).root()
    found = _all(root, [*_of(_KINDS[language]), *_FURTHER.get(language, [])])
    texts = [node.text()[:MAX_TEXT] for node in found[:MAX_NAMES]]
    mentioned = _all(root, _of(_MENTIONS.get(language, "")))
    named = [pair for pair in _declared(root, language, 4, False) if re.fullmatch(r"\w{1,200}", pair[0])]
    return {
        "statements": [text if language == "python" else " ".join(text.split()) for text in texts],
        "names": list(dict.fromkeys(name for name, _ in named))[:MAX_NAMES],
        "public": list(dict.fromkeys(name for name, public in named if public))[:MAX_NAMES],
        "mentions": list(dict.fromkeys(node.text()[:200] for node in mentioned))[:MAX_NAMES],
    }


def _of(kinds: str) -> list[Any]:
    return [{"kind": kind} for kind in kinds.split()]


def _all(root: SgNode, rules: list[Any]) -> list[SgNode]:
    return root.find_all({"rule": {"any": rules}}) if rules else []


def _declared(node: SgNode, language: str, depth: int, exported: bool) -> Iterator[tuple[str, bool]]:
    """Each name with whether it is public, from the top level and what merely wraps it."""
    for child in node.children():
        kind = child.kind()
        outside = exported or kind == "export_statement"
        if kind == "export_specifier":
            yield child.children()[-1].text(), True
        elif (_DECLARES.match(kind) or kind in _VARIABLES) and (name := _name(child)):
            yield name, _public(language, name, child, outside)
        elif depth and _INSIDE.match(kind):
            yield from _declared(child, language, depth - 1, outside)


def _name(node: SgNode) -> str:
    """What a declaration declares; empty if it only wraps others."""
    inner: SgNode | None = node
    while inner and (deeper := inner.field("declarator")):
        inner = deeper
    if inner is not node:
        return inner.text() if inner else ""
    found = node.field("name") or node.field("left")
    found = found or next((child for child in node.children() if child.kind().endswith("identifier")), None)
    text = found.text() if found else ""
    return match[1] if (match := _EXPORTS.match(text)) else text


def _public(language: str, name: str, node: SgNode, exported: bool) -> bool:
    head = node.text()[:60]
    match language:
        case "python":
            return not name.startswith("_")
        case "go":
            return name[0].isupper()
        case "javascript" | "typescript" | "tsx":
            return exported or _EXPORTS.match(head.split("=")[0].strip()) is not None
        case "rust":
            return head.startswith("pub")
    return re.match(r"(private|static)\b", head) is None


def main() -> None:
    """Until stdin ends."""
    seconds = float(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while header := sys.stdin.buffer.readline():
        language, size = header.decode("ascii").split()
        text = sys.stdin.buffer.read(int(size)).decode("utf-8", "replace")
        signal.setitimer(signal.ITIMER_PROF, seconds)  # nobody handles it: it ends the process, wherever that is
        if language == "vue":
            language, text = "typescript", "\n".join(re.findall(r"<script\b[^>]*>(.*?)</script>", text, re.DOTALL))
        try:
            said = json.dumps(facts(language, text))
        except (MemoryError, RecursionError):
            os.kill(os.getpid(), signal.SIGKILL)  # as the grammar's own code would end; an exit code is a fault of ours
        sys.stdout.write(said + "\n")
        sys.stdout.flush()
        signal.setitimer(signal.ITIMER_PROF, 0)


if __name__ == "__main__":
    main()
