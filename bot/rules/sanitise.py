"""Cleaning of people's text before an agent reads it, and of agents' text before people read it.

Linear in the text's length: every pattern is bounded or a plain scan, since filters are attack surface themselves.
"""

import re
import unicodedata

_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)  # GitHub hides everything behind an unclosed comment
_TAG = re.compile(r"<(/?)([a-zA-Z][^<>]{0,2000})>")
_HIDDEN_TAGS = {"picture", "source", "img", "svg", "video", "audio", "iframe", "object", "embed", "script", "style"}
_MARKUP = (
    (re.compile(r"!\[([^\[\]]{0,500})\]\([^()\s]{0,2000}(?:\s[^()]{0,500})?\)"), "[image]"),
    (re.compile(r"(\]\([^()\s\"']{0,2000})\s+[\"'][^\"'\n]{0,1000}[\"']\s{0,5}\)"), r"\1)"),  # a link's title
    (re.compile(r"^ {0,3}\[[^\[\]\n]{1,200}\]:[^\n]{0,2000}$", re.MULTILINE), ""),  # a link's reference
)
_ZWJ, _VARIATION = "\u200d", "\ufe0f"
# England's, Scotland's and Wales's flags: a black flag, two to six tag characters and the end tag
_FLAG = re.compile("\U0001f3f4[\U000e0021-\U000e007e]{2,6}\U000e007f")
_TOKEN = r"gh[a-z]_[A-Za-z0-9_.\-]{8,}|github_pat_\w{8,}|sk-[A-Za-z0-9_\-]{16,}"
_HEADER = r"(?:basic|bearer|token) [A-Za-z0-9+/=._\-]{12,}"
_SECRET = re.compile(rf"\b({_TOKEN}|{_HEADER})", re.IGNORECASE)
_MENTION = re.compile(r"(?<![\w`/])@(?=[A-Za-z0-9])")
_NUMBERED = r"(?:\S{0,100}(?:#|/issues/|/pull/)|gh-)\d"
_CLOSING = re.compile(
    rf"\b(c|f|r)(lose[sd]?|ix(?:e[sd])?|esolve[sd]?)(?=\s{{0,5}}:?\s{{0,5}}{_NUMBERED})", re.IGNORECASE
)
_LINKED = re.compile(r"\](?=[(:\[])|<(?=[A-Za-z/!?])")
"""Where a link that says one address and leads to another, an image or an element would begin."""


def clean(text: str) -> tuple[str, int]:
    """The text as a person sees it rendered, and how many hidden characters or elements were left out."""
    text, removed = _COMMENT.subn("", text.replace("\r\n", "\n").replace("\r", "\n"))
    removed += sum(_plain(tag) != tag[0] for tag in _TAG.finditer(text))
    text = _TAG.sub(_plain, text)
    for pattern, replacement in _MARKUP:
        text, count = pattern.subn(replacement, text)
        removed += count
    visible = _visible(text)
    return visible, removed + len(text) - len(visible)


def _plain(tag: re.Match[str]) -> str:
    """A tag without its attributes; nothing for one that shows no text."""
    name = re.split(r"[\s/]", tag[2], maxsplit=1)[0]
    if name.lower() in _HIDDEN_TAGS:
        return ""
    return tag[0] if name == tag[2] else f"<{tag[1]}{name.lower()}>"


def _visible(text: str) -> str:
    """Only what people see; tag characters are kept in flags alone."""
    flags = {index for flag in _FLAG.finditer(text) for index in range(*flag.span())}
    return "".join(char for index, char in enumerate(text) if index in flags or _shows(text, index))


def _shows(text: str, index: int) -> bool:
    char = text[index]
    if char in (_ZWJ, _VARIATION):
        before = text[index - 1] if index else " "
        return unicodedata.category(before) in ("So", "Sk") or before in (_VARIATION, "#", "*")
    return char in "\n\t" or (
        unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Cn")
        and not "\ufe00" <= char <= "\ufe0e"
        and char not in "\u115f\u1160\u3164\uffa0"
    )


def quote_safe(text: str) -> str:
    """Text of an agent or a stranger that mentions nobody, closes, links and hides nothing when we post it, and tells no
    token."""
    visible = _MENTION.sub("@\u200b", redacted(_visible(text)))
    return _LINKED.sub("\\g<0>\u200b", _CLOSING.sub("\\1\u200b\\2", visible))


def redacted(text: str) -> str:
    """A text without anything that looks like a token of GitHub's or of a model provider's."""
    return _SECRET.sub("[redacted]", text)
