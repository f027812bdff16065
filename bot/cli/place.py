"""Which records a command is about: the bot's data directory, or the queue of one local repository."""

import functools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click

from bot.cli.configuration import read_settings
from bot.cli.options import FOLDER
from bot.clock import SystemClock
from bot.errors import Misconfigured
from bot.merge.local import find_git_dir
from bot.store.store import SqliteStore, open_store


class Place(NamedTuple):
    """`git_dir` is the local repository's; None for the bot, whose mirrors are beside its database."""

    database: Path
    git_dir: Path | None

    def git_dirs(self) -> list[Path]:
        """Of every repository that is recorded here."""
        return [self.git_dir] if self.git_dir else sorted((self.database.parent / "mirrors").glob("*.git"))

    def git_dir_of(self, lane: str) -> Path:
        """Of one lane's repository. Raises Misconfigured if the bot has no mirror of it."""
        found = self.git_dir or self.database.parent / "mirrors" / f"{lane.partition(':')[0]}.git"
        if not found.exists():
            raise Misconfigured(f"the mirror {found} is gone: restore it, or start the server to fetch it anew")
        return found


def at_place(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options --repo and --db, and `place` instead of them."""

    @click.option("--repo", type=FOLDER, help="a local repository's queue, instead of the bot's")
    @click.option("--db", type=click.Path(path_type=Path, dir_okay=False), help="with --repo [default: in the git dir]")
    @functools.wraps(command)
    def with_place(repo: Path | None, db: Path | None, **rest: Any) -> None:
        command(place=_place(repo, db), **rest)

    return with_place


def _place(repo: Path | None, db: Path | None) -> Place:
    if repo is None:
        if db is not None:
            raise Misconfigured("--db is for a local repository: name it with --repo")
        return Place(read_settings().data_dir / "interlock.db", None)
    git_dir = find_git_dir(repo)
    database = db or git_dir / "interlock" / "queue.db"
    if not database.exists():
        raise Misconfigured(f"there is no queue at {database}: run interlock merge first, or name its --db")
    return Place(database, git_dir)


@asynccontextmanager
async def opened(place: Place, *, exclusive: bool = False) -> AsyncIterator[SqliteStore]:
    """The store, for reading unless exclusive. Raises Misconfigured if there is none, or it is of another repository."""
    if exclusive and not place.database.exists():
        raise Misconfigured(f"there is no database at {place.database}: start the server once, or set DATA_DIR")
    async with open_store(place.database, SystemClock(), exclusive=exclusive) as store:
        known = await store.meta("repository")
        if place.git_dir and known != str(place.git_dir):
            raise Misconfigured(f"this database is the queue of {known or 'a bot'}: name another one with --db")
        yield store
