"""What a prompt needs from the repository: the files that a task owns and reads, as they are at its base."""

from collections.abc import Iterable, Iterator, Sequence

import pygit2

from bot.rules import globs
from bot.rules.budgets import pack
from bot.runners.workspace import File, Workspace, text
from schemas.agent import Context
from schemas.effects import RunAgent

PROMPT_TOKENS = 40_000
MAX_TEXT_BYTES = 200_000


def named(space: Workspace) -> dict[str, File]:
    """The files of the base whose path is valid UTF-8."""
    return {name: file for path, file in space.files.items() if (name := text(path)) is not None}


def read(space: Workspace, effect: RunAgent) -> Context:
    """For a Developer: owned files first, then those it reads, as far as the budget goes. Nothing for the others."""
    patterns = (effect.task.owns, effect.task.reads) if effect.task else ()
    return pack(_texts(space, patterns), min(PROMPT_TOKENS, effect.limits.tokens // 4))


def _texts(space: Workspace, wanted: Iterable[Sequence[str]]) -> Iterator[tuple[str, str | None]]:
    repo = pygit2.Repository(str(space.git_dir))
    left = {name: file for name, file in named(space).items() if file.regular}
    for patterns in wanted:
        for name in [name for name in left if globs.matches(patterns, name)]:
            blob = repo[left.pop(name).oid].peel(pygit2.Blob)
            yield name, None if blob.size > MAX_TEXT_BYTES or blob.is_binary else text(blob.data)
