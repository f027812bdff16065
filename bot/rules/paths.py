"""Which paths a Developer may touch: whose file it is, and name rules for new ones.

Odd names that exist already may be edited (decisions.md 14).

The forms that no operation may name at all (.git, '..', control characters) are refused by schemas.change_request.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence

from bot.rules import globs
from bot.rules.reasons import first

MAX_PATH_BYTES = 1024
MAX_SEGMENT_BYTES = 255
MAX_DEPTH = 64
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(?:\..*)?\Z", re.IGNORECASE)
_REFUSED = frozenset(':<>"|?*')
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Co", "Cn", "Zl", "Zp"})


def fault(path: str) -> str | None:
    """Why this path may not be created; None if it may."""
    segments = path.split("/")
    categories = {unicodedata.category(char) for char in path}
    whole = first(
        ("Cs" in categories, "the path is not valid Unicode"),
        (len(path.encode("utf-8", "surrogatepass")) > MAX_PATH_BYTES, f"the path is over {MAX_PATH_BYTES} bytes"),
        (path.startswith("/"), "the path is absolute"),
        ("\\" in path, "the path has a backslash"),
        (unicodedata.normalize("NFC", path) != path, "the path is not in Unicode's composed form (NFC)"),
        (bool(categories & _FORBIDDEN_CATEGORIES), "the path has a control, format or unassigned character"),
        (len(segments) > MAX_DEPTH, f"the path is over {MAX_DEPTH} directories deep"),
    )
    return whole or next(filter(None, map(_segment, segments)), None)


def _segment(segment: str) -> str | None:
    ragged = segment != segment.strip() or segment.endswith(".")
    return first(
        (segment in ("", ".", ".."), "the path has an empty, '.' or '..' segment"),
        (len(segment.encode("utf-8")) > MAX_SEGMENT_BYTES, f"a name is over {MAX_SEGMENT_BYTES} bytes"),
        (segment.startswith("-"), f"{segment!r} starts with '-', which commands read as an option"),
        (ragged, f"{segment!r} starts or ends with a space, or ends with a dot"),
        (not _REFUSED.isdisjoint(segment), f"{segment!r} has a character that some systems refuse"),
        (any(char.isspace() and char != " " for char in segment), f"{segment!r} has an odd space"),
        (_DEVICES.match(segment) is not None, f"{segment!r} is a device name on Windows"),
    )


def folded(path: str) -> str:
    """What a path is where neither case nor composition counts."""
    return unicodedata.normalize("NFC", path).casefold()


def twin(path: str, listing: Callable[[str], list[str]]) -> str | None:
    """An existing path that differs from this one in case or composition only; `listing` gives a directory's names."""
    directory = ""
    for segment in path.split("/"):
        names, mine = listing(directory), folded(segment)
        if segment not in names:
            other = next((n for n in names if folded(n) == mine), None)
            return f"{directory}{other}" if other else None
        directory += segment + "/"
    return None


def overreach(changed: Iterable[str], owns: Sequence[str]) -> tuple[str, ...]:
    """The changed paths that the task does not own."""
    return tuple(path for path in changed if not globs.matches(owns, path))


def refusal(path: str, *, siblings: Sequence[str], protected: Sequence[str], shared: Sequence[str]) -> str | None:
    """Why a Developer may not have this further file; None if nobody owns it and nothing protects it."""
    return (
        globs.check(path)
        or fault(path)
        or first(
            (not globs.literal(path), "name one file, not a pattern"),
            (globs.matches(siblings, path), "another task owns it; say in your summary what it should change"),
            (globs.matches(protected, path), "the repository protects it: only a person may change it"),
            (globs.matches(shared, path), "it is shared: only the last task of a plan may own it"),
        )
    )
