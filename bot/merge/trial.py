"""Trying a ticket's tip on its base's head without a push, and against tickets that asked for review before."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from bot.errors import Rejected, Transient
from bot.merge.commits import replay, who_changed
from bot.merge.objects import Objects
from bot.merge.threeway import merge_commits
from bot.merge.trees import tree_digest
from bot.ports import Lease, Performed, Remotes
from schemas.base import Evidence
from schemas.effects import Effect, TrialCompose
from schemas.events import TrialComposed
from schemas.ticket import Ticket, TicketState

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
    digest = tree_digest(objects, objects.tree_of(effect.fork), objects.tree_of(effect.tip))
    tried = replay(objects, effect.fork, effect.tip, onto)
    rival, evidence = ("", tried) if isinstance(tried, Evidence) else _rival(objects, tried.commit, onto, rivals)
    return TrialComposed(
        ticket=effect.ticket, trial=effect.trial, tip=effect.tip, onto=onto, digest=digest, clean=evidence is None,
        evidence=evidence, rival=rival,
    )  # fmt: skip


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
