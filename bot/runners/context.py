"""What a prompt needs from the repository: the files that a task owns and reads, as they are at its base."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pygit2
from pygit2.enums import FileMode

from bot.rules import globs
from bot.rules.budgets import pack
from bot.runners.workspace import walk
from schemas.agent import Context
from schemas.effects import RunAgent

PROMPT_TOKENS = 40_000
MAX_TEXT_BYTES = 200_000


def paths(git_dir: Path, commit: str) -> frozenset[str]:
    """Every path of a commit that is valid UTF-8."""
    repo = pygit2.Repository(str(git_dir))
    names = (file.path for file in walk(repo, repo[commit].peel(pygit2.Tree)))
    return frozenset(name.decode("utf-8") for name in names if _is_text_name(name))


def read(git_dir: Path, effect: RunAgent) -> Context:
    """For a Developer: owned files first, then those it reads, as far as the budget goes. Nothing for the others."""
    if effect.task is None:
        return Context()
    return pack(_files(git_dir, effect), min(PROMPT_TOKENS, effect.limits.tokens // 4))


def _files(git_dir: Path, effect: RunAgent) -> Iterator[tuple[str, str | None]]:
    assert effect.task is not None
    repo = pygit2.Repository(str(git_dir))
    files = [f for f in walk(repo, repo[effect.base].peel(pygit2.Tree)) if _is_text_name(f.path)]
    seen: set[bytes] = set()
    for patterns in (effect.task.owns, effect.task.reads):
        for file in files:
            name = file.path.decode("utf-8")
            regular = file.mode in (FileMode.BLOB, FileMode.BLOB_EXECUTABLE)
            if file.path in seen or not regular or not globs.matches(patterns, name):
                continue
            seen.add(file.path)
            yield name, _text(repo[file.oid].peel(pygit2.Blob))


def _text(blob: pygit2.Blob) -> str | None:
    if blob.size > MAX_TEXT_BYTES or blob.is_binary:
        return None
    try:
        return blob.data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _is_text_name(path: bytes) -> bool:
    try:
        path.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
