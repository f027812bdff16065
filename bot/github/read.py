"""Reading a repository before work starts: may it be worked on, what is its policy, what does it look like."""

import asyncio
from itertools import islice
from pathlib import Path
from urllib.parse import quote

import pygit2

from bot.errors import Rejected
from bot.github.app import GitHubApp
from bot.github.people import GitHubPeople
from bot.ports import Lease, Performed, Remotes
from bot.rules import policy
from bot.rules.budgets import outline
from schemas.effects import Effect, ReadRepository
from schemas.events import RepositoryRead, RepositoryRefused
from schemas.policy import POLICY_PATH, ServerPolicy

MAX_OUTLINE_FILES = 200_000
MAX_POLICIES = 500
"""How many commits back a policy that can be read is looked for."""


class RepositoryReader:
    """Performs `read_repository`."""

    kinds = frozenset({"read_repository"})

    def __init__(self, app: GitHubApp, people: GitHubPeople, remotes: Remotes, server: ServerPolicy) -> None:
        self._app, self._people, self._remotes, self._server = app, people, remotes, server

    async def perform(self, effect: Effect, lease: Lease) -> Performed:
        """See bot.ports.Performer."""
        read = await self._read(effect)
        return Performed(RepositoryRefused(ticket=effect.ticket, reason=read) if isinstance(read, str) else read)

    async def _read(self, effect: Effect) -> RepositoryRead | str:
        """What is there, or why it cannot be worked on."""
        try:
            found = await self._app.call(effect.repo, effect.installation, "GET", "")
        except Rejected as error:
            return f"The repository cannot be read: {error}"
        if found.get("archived"):
            return "The repository is archived; unarchive it, then label the issue again."
        branch = found["default_branch"]
        if isinstance(effect, ReadRepository) and effect.base_ref:
            try:  # GitHub leads from a branch's old name to its new one
                path = f"/branches/{quote(effect.base_ref, safe='')}"
                branch = (await self._app.call(effect.repo, effect.installation, "GET", path))["name"]
            except Rejected as error:
                return f"The branch `{effect.base_ref}` is not there any more ({error})."
        remote = await self._remotes(effect.repo, effect.installation)
        head = await remote.head(f"refs/heads/{branch}")
        if head is None:
            return f"The repository has no commit on {branch}; push one, then label the issue again."
        if await remote.head("refs/heads/interlock") is not None:
            return "A branch named `interlock` is in the way of ours (interlock/...); rename it, then label again."
        single = await self._people.single_writer(effect.repo, effect.installation)
        read = await asyncio.to_thread(_look, remote.git_dir, effect.ticket, branch, head, self._server)
        return read.model_copy(update={"single_writer": single})


def _look(git_dir: Path, ticket: str, branch: str, head: str, server: ServerPolicy) -> RepositoryRead:
    repository = pygit2.Repository(str(git_dir))
    tree = repository[head].peel(pygit2.Tree)
    data, wrong = _policy(repository, head)
    held = policy.effective(data, server)
    text = outline(paths(tree)).encode("utf-8", "replace").decode()  # names in a tree need not be UTF-8
    return RepositoryRead(
        ticket=ticket,
        base_ref=branch,
        base=head,
        policy=held.policy,
        policy_note=" ".join(filter(None, (wrong, held.note))),
        outline=text,
    )


def _policy(repository: pygit2.Repository, head: str) -> tuple[bytes, str]:
    """The policy file at a commit; if it cannot be read, the last one before that could, and a sentence on why."""
    wrong, seen = "", ""
    walk = repository.walk(head)
    walk.simplify_first_parent()
    for commit in islice(walk, MAX_POLICIES):
        tree = commit.tree
        blob = tree[POLICY_PATH] if POLICY_PATH in tree else None  # noqa: SIM401 (a tree has no get)
        if blob is not None and str(blob.id) == seen:
            continue
        data = blob.data if isinstance(blob, pygit2.Blob) else b""
        found = policy.read(data)
        if not isinstance(found, str):
            used = f"That of {commit.short_id} applies" if blob else "The defaults apply"
            return data, wrong and f"{POLICY_PATH} is not used: {wrong}. {used}."
        wrong, seen = wrong or found, str(blob.id) if blob else ""
    return b"", f"{POLICY_PATH} is not used: {wrong}. The defaults apply."


def paths(tree: pygit2.Tree) -> list[str]:
    """All file paths of a tree, up to a bound."""
    found: list[str] = []
    stack = [("", tree)]
    while stack and len(found) < MAX_OUTLINE_FILES:
        prefix, current = stack.pop()
        for entry in current:
            if isinstance(entry, pygit2.Tree):
                stack.append((f"{prefix}{entry.name}/", entry))
            else:
                found.append(f"{prefix}{entry.name}")
    return sorted(found)
