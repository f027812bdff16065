"""`interlock why`: from a commit, a line or an issue to what was asked, agreed, approved, run, checked and landed."""

import asyncio
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import pygit2

from bot.cli.place import Place, at_place, opened
from bot.cli.story import Document, lines, local_story, ticket_story
from bot.cli.text import echo_json, plain
from bot.errors import Misconfigured, Rejected
from bot.merge.commits import trailers
from bot.merge.git import run_git
from bot.merge.objects import Objects
from bot.store.store import SqliteStore
from schemas.ticket import Ticket

_COMMIT = re.compile(r"[0-9a-f]{4,40}\Z", re.IGNORECASE)
_ISSUE = re.compile(r"([\w.-]+/[\w.-]+)?#(\d{1,18})(~\d+)?\Z")
_LINE = re.compile(r"(.+):(\d{1,9})\Z", re.DOTALL)


@click.command()
@click.argument("what", metavar="COMMIT|PATH:LINE|#ISSUE")
@click.option("--target", help="for a line: the branch, if the queue has several")
@click.option("--of", "name", help="for a line: OWNER/NAME, if several repositories have the path")
@at_place
@click.option("--json", "as_json", is_flag=True, help="one JSON document")
def why(place: Place, what: str, target: str | None, name: str | None, as_json: bool) -> None:
    """Say why a commit or a line is there, or what became of an issue. Exit 1 for what Interlock did not make."""
    found = asyncio.run(_answer(place, what, target, name))
    if as_json:
        echo_json(found)
    else:
        click.echo("\n".join(plain(line) for line in lines(found)))
    sys.exit(0 if found.get("ours", True) else 1)


async def _answer(place: Place, what: str, target: str | None, name: str | None) -> Document:
    async with opened(place) as store:
        if issue := _ISSUE.match(what):
            return await _of_issue(place, store, what, issue[1] or "", int(issue[2]), issue[3] or "")
        if _COMMIT.match(what):
            return await _of_commit(store, place, *_resolved(place, what.lower()))
        if line := _LINE.match(what):
            git_dir, oid = await _blamed(place, store, line[1], int(line[2]), target, name)
            return {"line": what, **await _of_commit(store, place, git_dir, oid)}
    raise Misconfigured(f"{what!a:.200} is no commit, PATH:LINE or #ISSUE")


async def _of_issue(place: Place, store: SqliteStore, what: str, name: str, number: int, generation: str) -> Document:
    if place.git_dir:
        raise Misconfigured("a local queue has no issues: name a commit or PATH:LINE")
    tickets = [one for one in await store.tickets_of(number, name) if not generation or one.id.endswith(generation)]
    if not tickets:
        raise Rejected(f"no ticket was opened for {what}")
    return {"issue": what, "tickets": [await ticket_story(store, ticket) for ticket in tickets]}


# --- commits ----------------------------------------------------------------------------------------------------------
def _resolved(place: Place, short: str) -> tuple[Path, str]:
    """The repository and the whole id. Raises Rejected if none has it, or the digits fit several commits."""
    found: dict[str, Path] = {}
    for git_dir in place.git_dirs():
        try:
            commit = Objects(git_dir).repository.revparse_single(short)
        except KeyError:
            continue
        except ValueError:
            raise Rejected(f"{short} is the beginning of several objects: give more digits") from None
        if isinstance(commit, pygit2.Commit):
            found[str(commit.id)] = git_dir
    if len(found) > 1:
        raise Rejected(f"{short} is the beginning of {' and '.join(found)}: give more digits")
    if not found:
        raise Rejected(f"no repository that is recorded here has a commit {short}")
    oid, git_dir = found.popitem()
    return git_dir, oid


async def _of_commit(store: SqliteStore, place: Place, git_dir: Path, oid: str) -> Document:
    """What led to a commit. The trailers only say where to look: whether it is ours, the records say."""
    commit = Objects(git_dir).repository[oid].peel(pygit2.Commit)
    said = trailers(commit.message)
    about: Document = {"commit": oid, "subject": commit.message.split("\n", 1)[0], "ours": True}
    changes = said.get("Change-Request", [])
    if place.git_dir:
        story = await local_story(store, oid)
        if story:
            return {**about, "changes": story}
        known = [entry for name in changes for entry, _ in await store.entries_like(name=name) if entry.commit]
        return _foreign(about, commit, [f"{entry.id} landed as {entry.commit}" for entry in known])
    owners = [*said.get("Ticket", []), *(entry.ticket for entry, _ in await store.entries_like(commit=oid))]
    for ticket in [found for name in dict.fromkeys(owners) if (found := await store.ticket(name))]:
        if git_dir.name == f"{ticket.repo.id}.git" and await _made(store, ticket, oid):
            story_of = await ticket_story(store, ticket)
            mine = [one for one in story_of["changes"] if one["id"] in changes or oid in one["commits"]]
            return {**about, **story_of, "changes": mine}
    return _foreign(
        about, commit, [f"it names {name}, whose records do not have it" for name in said.get("Ticket", [])]
    )


async def _made(store: SqliteStore, ticket: Ticket, oid: str) -> bool:
    """Whether the queue made this commit for this ticket: anybody can write our trailers."""
    known = {*ticket.landed, *(item.commit for item in ticket.tasks)}
    if oid in known or await store.entries_like(ticket=ticket.id, commit=oid):
        return True
    return await store.composed_once(ticket.lane, oid) or await store.composed_once(ticket.base_lane, oid)


def _foreign(about: Document, commit: pygit2.Commit, hints: Sequence[str]) -> Document:
    who = f"{commit.author.name} <{commit.author.email}>"
    return {**about, "ours": False, "author": who, "hints": list(hints)}


# --- lines ------------------------------------------------------------------------------------------------------------
async def _blamed(
    place: Place, store: SqliteStore, path: str, line: int, target: str | None, name: str | None
) -> tuple[Path, str]:
    """The commit that a line of the branch's newest head comes from. Raises Rejected with git's own sentence."""
    heads = await _heads(place, store, target, name)
    having = [(lane, git_dir, head) for lane, git_dir, head in heads if _has(git_dir, head, path)] or heads[:1]
    if not having:
        raise Rejected("nothing has landed here yet")
    if len(having) > 1:
        raise Rejected(f"{path} is in {', '.join(lane for lane, _, _ in having)}: name one with --target or --of")
    _, git_dir, head = having[0]
    done = await asyncio.to_thread(run_git, git_dir, "blame", "--porcelain", f"-L{line},{line}", head, "--", path)
    if done.returncode:
        raise Rejected(" ".join(done.stderr.rpartition("fatal: ")[2].split()))
    return git_dir, done.stdout.split(maxsplit=1)[0]


async def _heads(place: Place, store: SqliteStore, target: str | None, name: str | None) -> list[tuple[str, Path, str]]:
    """(lane, git dir, newest head known) of the branches that things land on."""
    lanes = await (store.lane_keys() if place.git_dir else store.base_lanes())
    ids = {ticket.repo.id for ticket in await store.tickets() if ticket.repo.full_name == name} if name else set()
    found = []
    for lane in lanes:
        repo_id, _, ref = lane.partition(":")
        if target not in (None, ref, ref.removeprefix("refs/heads/")) or (name and repo_id not in map(str, ids)):
            continue
        git_dir = place.git_dir_of(lane)
        repo = Objects(git_dir).repository
        ours = (await store.lane(lane)).head
        kept = ref if place.git_dir else f"refs/interlock/fetched/{ref.removeprefix('refs/')}"
        known = repo.references.get(kept)
        fetched = str(known.peel(pygit2.Commit).id) if known else None
        newer = fetched and (ours is None or ours not in repo or place.git_dir or repo.descendant_of(fetched, ours))
        if head := fetched if newer else ours:
            found.append((lane, git_dir, head))
    return found


def _has(git_dir: Path, head: str, path: str) -> bool:
    return path in Objects(git_dir).repository[head].peel(pygit2.Tree)
