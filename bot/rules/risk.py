"""Reasons for which a person must look at a change before it lands, most important first."""

import re
import unicodedata
from collections.abc import Sequence

from bot.rules import globs
from schemas.change_request import Add, Delete, Edit, Modify, Rename

_SECRET = re.compile(rb"\b(gh[opsur]_[A-Za-z0-9]{36}|github_pat_\w{40})|-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----")
_TEST = re.compile(r"(^|/)(tests?|__tests__|spec)/|(^|/)test_[^/]*$|[._-](test|spec)\.[^/]+$|_test\.[^/]+$")


def is_test(path: str) -> bool:
    """Whether a path looks like a test, by the usual names of the usual languages."""
    return _TEST.search(path) is not None


def holds(patch: Sequence[Edit], *, protected: Sequence[str], tested: bool) -> tuple[str, ...]:
    """Why a person must release this change; empty if nobody needs to. `tested`: at least one check gates it."""
    gone = {edit.path for edit in patch if isinstance(edit, Delete)}
    gone |= {edit.source for edit in patch if isinstance(edit, Rename)}
    touched = gone | {edit.path for edit in patch}
    guarded = [glob.casefold() for glob in protected]  # on some systems agents.md is AGENTS.md
    filled = [edit for edit in patch if isinstance(edit, Add | Modify | Rename) and edit.content is not None]
    reasons = {
        "it touches protected files": [path for path in touched if globs.matches(guarded, path.casefold())],
        "it takes tests away": [path for path in gone if is_test(path)],
        "it adds characters that nobody can see": [edit.path for edit in filled if _hides(edit)],
        "it adds what looks like a token or a key": [edit.path for edit in filled if _SECRET.search(edit.data())],
    }
    found = [f"{reason}: {_list(sorted(names))}" for reason, names in reasons.items() if names]
    return tuple(found) if tested else (*found, "nothing was tested: there is no check for it")


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _hides(edit: Add | Modify | Rename) -> bool:
    """Bidirectional controls, zero-width and tag characters in text (a leading byte order mark is let be)."""
    return edit.encoding == "utf-8" and any(
        not char.isascii() and char != "\u200d" and unicodedata.category(char) in ("Cf", "Co")
        for char in (edit.content or "").removeprefix("\ufeff")
    )
