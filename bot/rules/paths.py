"""Name rules for paths that a request creates; odd names that exist already may be edited (decisions.md 14).

The forms that no operation may name at all (.git, '..', control characters) are refused by schemas.change_request.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

MAX_PATH_BYTES = 1024
MAX_SEGMENT_BYTES = 255
MAX_DEPTH = 64
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(?:\..*)?\Z", re.IGNORECASE)
_FORBIDDEN_CATEGORIES = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def fault(path: str) -> str | None:
    """Why this path may not be created; None if it may."""
    try:
        if len(path.encode("utf-8")) > MAX_PATH_BYTES:
            return f"the path is over {MAX_PATH_BYTES} bytes"
    except UnicodeEncodeError:
        return "the path is not valid Unicode"
    if path.startswith("/"):
        return "the path is absolute"
    if "\\" in path:
        return "the path has a backslash"
    if unicodedata.normalize("NFC", path) != path:
        return "the path is not in Unicode's composed form (NFC)"
    if any(unicodedata.category(char) in _FORBIDDEN_CATEGORIES for char in path):
        return "the path has a control, format or unassigned character"
    segments = path.split("/")
    if len(segments) > MAX_DEPTH:
        return f"the path is over {MAX_DEPTH} directories deep"
    return next((reason for segment in segments if (reason := _segment(segment))), None)


def _segment(segment: str) -> str | None:
    if segment in ("", ".", ".."):
        return "the path has an empty, '.' or '..' segment"
    if len(segment.encode("utf-8")) > MAX_SEGMENT_BYTES:
        return f"a name is over {MAX_SEGMENT_BYTES} bytes"
    if segment.startswith("-"):
        return f"{segment!r} starts with '-', which commands read as an option"
    if segment != segment.strip() or segment.endswith("."):
        return f"{segment!r} starts or ends with a space, or ends with a dot"
    if any(char in segment for char in ':<>"|?*'):
        return f"{segment!r} has a character that some systems refuse"
    if any(char.isspace() and char != " " for char in segment):
        return f"{segment!r} has an odd space"
    if _DEVICES.match(segment):
        return f"{segment!r} is a device name on Windows"
    return None


def twin(path: str, listing: Callable[[str], list[str]]) -> str | None:
    """An existing path that differs from this one in case or composition only; `listing` gives a directory's names."""
    directory = ""
    for segment in path.split("/"):
        folded = unicodedata.normalize("NFC", segment).casefold()
        names = listing(directory)
        if segment not in names:
            other = next((n for n in names if unicodedata.normalize("NFC", n).casefold() == folded), None)
            return f"{directory}{other}" if other else None
        directory += segment + "/"
    return None
