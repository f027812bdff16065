"""Whose file is it: what a Developer may change, and which further file it may be given while it works."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bot.rules import globs, paths


def overreach(changed: Iterable[str], owns: Sequence[str]) -> tuple[str, ...]:
    """The changed paths that the task does not own."""
    return tuple(path for path in changed if not globs.matches(owns, path))


def refusal(path: str, *, siblings: Sequence[str], protected: Sequence[str], shared: Sequence[str]) -> str | None:
    """Why a Developer may not have this further file; None if nobody owns it and nothing protects it."""
    if reason := globs.check(path) or paths.fault(path):
        return reason
    if not globs.literal(path):
        return "name one file, not a pattern"
    if globs.matches(siblings, path):
        return "another task owns it; say in your summary what it should change"
    if globs.matches(protected, path):
        return "the repository protects it: only a person may change it"
    if globs.matches(shared, path):
        return "it is shared: only the last task of a plan may own it"
    return None
