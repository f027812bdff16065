"""Text for people's eyes: Markdown without anybody's HTML, and diffs as rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import islice
from typing import Any

import pygit2
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

LINES, FILES = 3000, 300
"""So many lines of a file's changes, and so many files, are shown."""
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.S)
_HARMLESS = re.compile(r"&lt;(/?(?:details|summary|br|sub|sup|kbd)\s*/?)&gt;")
_TODO = re.compile(r"(<li>(?:\s*<p>)?)\[([ xX])\] ")
_STATUS = {"A": "added", "D": "deleted", "M": "changed", "R": "renamed"}


def _html(self: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    """Comments are not seen, a few tags without attributes pass, all else is text."""
    return _HARMLESS.sub(r"<\1>", escape(_COMMENT.sub("", tokens[index].content), quote=False))


def _link(self: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    tokens[index].attrSet("rel", "noopener noreferrer nofollow")
    return str(self.renderToken(tokens, index, options, env))


def _reader(*, breaks: bool) -> MarkdownIt:
    made = (
        MarkdownIt("commonmark", {"html": True, "breaks": breaks}).enable(["table", "strikethrough"]).disable("image")
    )
    for rule in ("html_block", "html_inline"):
        made.add_render_rule(rule, _html)
    made.add_render_rule("link_open", _link)
    return made


_SPOKEN, _WRITTEN = _reader(breaks=True), _reader(breaks=False)


def markdown(text: str, *, breaks: bool = True) -> Markup:
    """As HTML that runs nothing and loads nothing; in what people say (not in files) a line's end is one."""
    html = str((_SPOKEN if breaks else _WRITTEN).render(text))
    return Markup(_TODO.sub(lambda found: f"{found[1]}{'☐' if found[2] == ' ' else '☑'} ", html))


@dataclass(frozen=True)
class Line:
    """A row of a diff. `key` names it for a comment: its new number, or the old one with a minus."""

    kind: str
    text: str
    old: int = 0
    new: int = 0
    key: str = ""


@dataclass
class Changed:
    """One file of a diff."""

    path: str
    old: str
    status: str
    added: int
    removed: int
    binary: bool
    lines: list[Line] = field(default_factory=list)
    cut: bool = False


def diff(git: pygit2.Repository, old: str | None, new: str) -> list[Changed]:
    """What `new` changes since it left `old`; everything, if there is no `old`."""
    tip = git[new].peel(pygit2.Commit)
    if old is None:
        found = tip.tree.diff_to_tree(swap=True)
    else:
        fork = git.merge_base(old, new)
        found = git.diff(git[fork if fork is not None else old].peel(pygit2.Commit), tip)
    if len(found) <= FILES:
        found.find_similar()
    return [_changed(patch) for patch in islice(found, FILES) if patch is not None]


def _changed(patch: pygit2.Patch) -> Changed:
    delta = patch.delta
    _, added, removed = patch.line_stats
    made = Changed(
        path=_text(delta.new_file.raw_path), old=_text(delta.old_file.raw_path),
        status=_STATUS.get(delta.status_char(), "changed"), added=added, removed=removed, binary=bool(delta.is_binary),
    )  # fmt: skip
    for hunk in patch.hunks:
        if len(made.lines) > LINES:
            made.cut = True
            break
        made.lines.append(Line("hunk", hunk.header.strip()))
        for line in hunk.lines[:LINES]:
            kind = {"+": "add", "-": "del", " ": "same"}.get(line.origin)
            text = _text(line.raw_content).rstrip("\n")
            old, new = max(line.old_lineno, 0), max(line.new_lineno, 0)
            if kind:
                made.lines.append(Line(kind, text, old, new, str(new) if kind != "del" else f"-{old}"))
            else:
                made.lines.append(Line("hunk", "no newline at the end of the file"))
        made.cut = made.cut or len(hunk.lines) > LINES
    return made


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
