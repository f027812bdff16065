"""Whose file is it: what a Developer may change, and which further file it may be given while it works."""

from collections.abc import Iterable, Sequence

from bot.rules import globs, paths
from bot.rules.reasons import first


def overreach(changed: Iterable[str], owns: Sequence[str]) -> tuple[str, ...]:
    """The changed paths that the task does not own."""
    return tuple(path for path in changed if not globs.matches(owns, path))


def refusal(path: str, *, siblings: Sequence[str], protected: Sequence[str], shared: Sequence[str]) -> str | None:
    """Why a Developer may not have this further file; None if nobody owns it and nothing protects it."""
    return (
        globs.check(path)
        or paths.fault(path)
        or first(
            (not globs.literal(path), "name one file, not a pattern"),
            (globs.matches(siblings, path), "another task owns it; say in your summary what it should change"),
            (globs.matches(protected, path), "the repository protects it: only a person may change it"),
            (globs.matches(shared, path), "it is shared: only the last task of a plan may own it"),
        )
    )
