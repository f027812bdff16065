"""Trying a ticket's tip on its base's head without a push, and against tickets that asked for review before."""

import asyncio
import difflib
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from pathlib import Path

from bot.errors import Rejected, Transient
from bot.merge.commits import replay, who_changed
from bot.merge.objects import Objects
from bot.merge.threeway import merge_commits
from bot.merge.trees import tree_digest, tree_patch
from bot.ports import Lease, Performed, Remotes
from schemas.base import Evidence
from schemas.effects import Effect, TrialCompose
from schemas.events import TrialComposed
from schemas.ticket import Ticket, TicketState

INTERDIFF_LINES = 60
_ASKED = (TicketState.REVIEWING, TicketState.LANDING)


class TrialPerformer:
    """Performs `trial_compose`; reads and writes objects of our own mirror only, so it may run any number of times."""

    kinds = frozenset({"trial_compose"})

    def __init__(self, remotes: Remotes, open_tickets: Callable[[int], Awaitable[Sequence[Ticket]]]) -> None:
        self._remotes, self._open_tickets = remotes, open_tickets

    async def perform(self, effect: Effect, lease: Lease) -> Performed:
        """See bot.ports.Performer."""
        assert isinstance(effect, TrialCompose)
        remote = await self._remotes(effect.repo, effect.installation)
        onto = await remote.head(f"refs/heads/{effect.base_ref}")
        if onto is None:
            raise Rejected(f"the branch {effect.base_ref} does not exist")
        if effect.tip not in Objects(remote.git_dir):  # a push of somebody else's
            await remote.head(f"refs/heads/{effect.branch}")
            if effect.tip not in Objects(remote.git_dir):
                raise Transient(f"{effect.branch} has moved on from {effect.tip}")
        rivals = _rivals(effect, await self._open_tickets(effect.repo.id))
        return Performed(await asyncio.to_thread(_try, remote.git_dir, effect, onto, rivals))


def _rivals(effect: TrialCompose, tickets: Sequence[Ticket]) -> list[Ticket]:
    """Tickets whose review was asked for before ours; of two that are being tried, the older one."""
    found: list[Ticket] = []
    before_us: tuple[TicketState, ...] = (*_ASKED, TicketState.TRIALING)
    for ticket in tickets:
        if ticket.id == effect.ticket:
            before_us = _ASKED
        elif ticket.state in before_us and ticket.base_ref == effect.base_ref and ticket.tip is not None:
            found.append(ticket)
    return found


def _try(git_dir: Path, effect: TrialCompose, onto: str, rivals: list[Ticket]) -> TrialComposed:
    objects = Objects(git_dir)
    ours = objects.tree_of(effect.fork), objects.tree_of(effect.tip)
    digest, shifted = tree_digest(objects, *ours), False
    tried = replay(objects, effect.fork, effect.tip, onto)
    rival, evidence = "", tried if isinstance(tried, Evidence) else None
    if not isinstance(tried, Evidence):
        rival, evidence = _rival(objects, tried.commit, onto, rivals)
        shifted = tried.commit != onto and tree_digest(objects, objects.tree_of(onto), tried.tree) != digest
    return TrialComposed(
        ticket=effect.ticket, trial=effect.trial, tip=effect.tip, onto=onto, digest=digest, clean=evidence is None,
        shifted=shifted, evidence=evidence, rival=rival, interdiff=_interdiff(objects, effect.approved, ours),
    )  # fmt: skip


def _interdiff(objects: Objects, approved: tuple[str, str] | None, ours: tuple[str, str]) -> str:
    """How our patch differs from the one that was approved; empty if it does not. Bounded, as people read it."""
    if approved is None or not all(commit in objects for commit in approved):
        return ""
    before, after = tree_patch(objects, *map(objects.tree_of, approved)), tree_patch(objects, *ours)
    lines: list[str] = []
    for path in sorted(before.keys() | after.keys()):
        old, new = (found.get(path, []) for found in (before, after))
        if old != new and len(lines) <= INTERDIFF_LINES:
            whole = len(old) + len(new) <= INTERDIFF_LINES * 40
            differ = difflib.unified_diff(old, new, n=2, lineterm="") if whole else ["", "", "(too long to compare)"]
            name = path.encode("utf-8", "replace").decode()
            lines += [f"# {name}", *islice(differ, 2, INTERDIFF_LINES + 3)]
    more = ["(and more)"] if len(lines) > INTERDIFF_LINES else []
    return "\n".join([line[:200] for line in lines[:INTERDIFF_LINES]] + more)


def _rival(objects: Objects, ours: str, onto: str, rivals: list[Ticket]) -> tuple[str, Evidence | None]:
    """The first ticket that ours conflicts with, and where; an empty name if there is none."""
    for rival in rivals:
        if rival.base is None or rival.tip is None or rival.tip not in objects:
            continue
        theirs = replay(objects, rival.base, rival.tip, onto)
        if isinstance(theirs, Evidence):
            continue  # that one does not fit itself and will be rebased
        merged = merge_commits(objects, onto, theirs.commit, ours)
        if isinstance(merged, Evidence):
            other = who_changed(objects, theirs.commit, onto, merged.path or "") or rival.id
            return rival.id, merged.model_copy(update={"other": other})
    return "", None
