"""What a prompt needs from the repository: the files that a task owns and reads, as they are at its base."""

from __future__ import annotations

from collections.abc import Iterator

import pygit2

from bot.rules import globs
from bot.rules.budgets import pack
from bot.runners.workspace import File, Workspace, text
from schemas.agent import Context
from schemas.plan import Task

PROMPT_TOKENS = 40_000
MAX_TEXT_BYTES = 200_000


def named(space: Workspace) -> dict[str, File]:
    """The files of the base whose path is valid UTF-8."""
    return {name: file for path, file in space.files.items() if (name := text(path)) is not None}


def read(space: Workspace, task: Task, limit: int) -> Context:
    """The owned files first, then those that are read, as far as the budget goes."""
    return pack(_files(space, task), min(PROMPT_TOKENS, limit // 4))


def _files(space: Workspace, task: Task) -> Iterator[tuple[str, str | None]]:
    repo = pygit2.Repository(str(space.git_dir))
    left = {name: file for name, file in named(space).items() if file.regular}
    for patterns in (task.owns, task.reads):
        for name in [name for name in left if globs.matches(patterns, name)]:
            blob = repo[left.pop(name).oid].peel(pygit2.Blob)
            yield name, None if blob.size > MAX_TEXT_BYTES or blob.is_binary else text(blob.data)
