"""Cleaning of people's text before an agent reads it, and of agents' text before people read it.

Linear in the text's length: every pattern is bounded or a plain scan, since filters are attack surface themselves.
"""

from __future__ import annotations

import re
import unicodedata

_KEEP_CONTROLS = {"\n", "\t"}
_ZWJ, _VARIATION = "\u200d", "\ufe0f"
_TAG_BASE = "\U0001f3f4"  # the black flag that starts England's, Scotland's and Wales's tag sequences
_TAG_END = "\U000e007f"
_TAGS = re.compile(r"<(/?[a-zA-Z][^<>]{0,2000})>")
_IMAGE = re.compile(r"!\[([^\[\]]{0,500})\]\([^()\s]{0,2000}(?:\s[^()]{0,500})?\)")
_TITLE = re.compile(r"(\]\([^()\s\"']{0,2000})\s+[\"'][^\"'\n]{0,1000}[\"']\s{0,5}\)")
_REFERENCE = re.compile(r"^ {0,3}\[[^\[\]\n]{1,200}\]:[^\n]{0,2000}$", re.MULTILINE)
_HIDDEN_TAGS = {"picture", "source", "img", "svg", "video", "audio", "iframe", "object", "embed", "script", "style"}
SECRET = re.compile(
    r"\b(gh[a-z]_[A-Za-z0-9_.\-]{8,}|github_pat_\w{8,}|sk-[A-Za-z0-9_\-]{16,}|(?:basic|bearer|token) [A-Za-z0-9+/=._\-]{12,})",
    re.IGNORECASE,
)
_MENTION = re.compile(r"(?<![\w`/])@(?=[A-Za-z0-9])")
_CLOSING = re.compile(r"\b(close[sd]?|fix(?:e[sd])?|resolve[sd]?)(\s{0,5}:?\s{0,5})#(?=\d)", re.IGNORECASE)


def clean(text: str) -> tuple[str, int]:
    """The text as a person sees it rendered, and how many hidden characters or elements were left out."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text, comments = _without_comments(text)
    text, markup = _without_markup(text)
    text, hidden = _without_hidden(text)
    return text, comments + markup + hidden


def _without_comments(text: str) -> tuple[str, int]:
    parts: list[str] = []
    removed, position = 0, 0
    while (start := text.find("<!--", position)) >= 0:
        parts.append(text[position:start])
        removed += 1
        end = text.find("-->", start + 4)
        if end < 0:  # GitHub hides everything behind an unclosed comment
            return "".join(parts), removed
        position = end + 3
    parts.append(text[position:])
    return "".join(parts), removed


def _without_markup(text: str) -> tuple[str, int]:
    removed = 0

    def tag(found: re.Match[str]) -> str:
        nonlocal removed
        inside = found[1].lstrip("/")
        name = re.split(r"[\s/]", inside, maxsplit=1)[0].lower()
        if name in _HIDDEN_TAGS or len(inside) > len(name):
            removed += 1
            return "" if name in _HIDDEN_TAGS else f"<{'/' if found[1].startswith('/') else ''}{name}>"
        return found[0]

    def counted(pattern: re.Pattern[str], replacement: str, source: str) -> str:
        nonlocal removed
        result, count = pattern.subn(replacement, source)
        removed += count
        return result

    text = _TAGS.sub(tag, text)
    text = counted(_IMAGE, r"[image]", text)
    text = counted(_TITLE, r"\1)", text)
    return counted(_REFERENCE, "", text), removed


def _without_hidden(text: str) -> tuple[str, int]:
    kept: list[str] = []
    removed = 0
    in_flag = False
    for index, char in enumerate(text):
        code = ord(char)
        if 0xE0000 <= code <= 0xE007F:
            if in_flag:
                kept.append(char)
                in_flag = char != _TAG_END
            else:
                removed += 1
            continue
        in_flag = char == _TAG_BASE and _is_flag(text, index)
        if char in _KEEP_CONTROLS or _visible(text, index, char):
            kept.append(char)
        else:
            removed += 1
    return "".join(kept), removed


def _is_flag(text: str, index: int) -> bool:
    """A flag's tag sequence: two to six tag letters or digits, then the end tag."""
    end = text.find(_TAG_END, index, index + 8)
    return end > index + 2 and all(0xE0020 < ord(c) < 0xE007F for c in text[index + 1 : end])


def _visible(text: str, index: int, char: str) -> bool:
    category = unicodedata.category(char)
    if char in (_ZWJ, _VARIATION):
        before = text[index - 1] if index else ""
        return bool(before) and (unicodedata.category(before) in ("So", "Sk") or before in (_VARIATION, "#", "*"))
    return (
        category not in ("Cc", "Cf", "Cs", "Co", "Cn")
        and not 0xFE00 <= ord(char) <= 0xFE0E
        and char not in "\u115f\u1160\u3164\uffa0"
    )


def quote_safe(text: str) -> str:
    """Text of an agent or a stranger that mentions nobody, closes nothing and hides nothing when we post it."""
    visible, _ = _without_hidden(text.replace("<!--", "&lt;!--"))
    return _CLOSING.sub(r"\1\2#\u200b".replace(r"\u200b", "\u200b"), _MENTION.sub("@\u200b", visible))


def redacted(text: str) -> str:
    """A text without anything that looks like a token of GitHub's or of a model provider's."""
    return SECRET.sub("[redacted]", text)
