"""Trying a ticket's tip on its base's head without a push, and against tickets that asked for review before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from bot.errors import Transient
from bot.merge.digest import tree_digest
from bot.merge.replay import Replayed, replay, who_changed
from bot.merge.threeway import Conflicted, merge_commits
from bot.merge.trees import open_repository, tree_of
from bot.ports import Performed, Remote
from schemas.base import Evidence, RepoRef
from schemas.effects import Effect, TrialCompose
from schemas.events import TrialComposed
from schemas.lease import Lease
from schemas.ticket import Ticket, TicketState

_ASKED = (TicketState.REVIEWING, TicketState.LANDING)


class TrialPerformer:
    """Performs `trial_compose`; reads and writes objects of our own mirror only, so it may run any number of times."""

    kinds = frozenset({"trial_compose"})

    def __init__(
        self,
        remotes: Callable[[RepoRef, int], Awaitable[Remote]],
        open_tickets: Callable[[int], Awaitable[Sequence[Ticket]]],
    ) -> None:
        self._remotes, self._open_tickets = remotes, open_tickets

    async def perform(self, effect: Effect, lease: Lease) -> Performed:
        """See bot.ports.Performer."""
        assert isinstance(effect, TrialCompose)
        remote = await self._remotes(effect.repo, effect.installation)
        onto = await remote.head(f"refs/heads/{effect.base_ref}")
        if onto is None:
            raise Transient(f"the branch {effect.base_ref} does not exist")
        rivals = _rivals(effect, await self._open_tickets(effect.repo.id))
        return Performed(await asyncio.to_thread(_try, remote, effect, onto, rivals))


def _rivals(effect: TrialCompose, tickets: Sequence[Ticket]) -> list[Ticket]:
    """Tickets whose review was asked for before ours; of two that are being tried, the older one."""
    found = []
    older = True
    for ticket in tickets:
        if ticket.id == effect.ticket:
            older = False
            continue
        before_us = ticket.state in _ASKED or (older and ticket.state is TicketState.TRIALING)
        if before_us and ticket.base_ref == effect.base_ref and ticket.tip is not None:
            found.append(ticket)
    return found


def _try(remote: Remote, effect: TrialCompose, onto: str, rivals: list[Ticket]) -> TrialComposed:
    repo = open_repository(remote.git_dir)
    digest = tree_digest(tree_of(repo, effect.fork), tree_of(repo, effect.tip))
    clean = TrialComposed(
        ticket=effect.ticket, trial=effect.trial, tip=effect.tip, onto=onto, digest=digest, clean=True
    )
    tried = replay(repo, effect.fork, effect.tip, onto)
    if isinstance(tried, Evidence):
        return clean.model_copy(update={"clean": False, "evidence": tried})
    for rival in rivals:
        conflict = _against(remote, tried, onto, rival)
        if conflict is not None:
            return clean.model_copy(update={"clean": False, "rival": rival.id, "evidence": conflict})
    return clean


def _against(remote: Remote, ours: Replayed, onto: str, rival: Ticket) -> Evidence | None:
    repo = open_repository(remote.git_dir)
    if rival.base is None or rival.tip is None or rival.tip not in repo:
        return None
    theirs = replay(repo, rival.base, rival.tip, onto)
    if isinstance(theirs, Evidence):
        return None  # that one does not fit itself and will be rebased
    merged = merge_commits(remote.git_dir, onto, theirs.tip, ours.tip)
    if not isinstance(merged, Conflicted):
        return None
    other = who_changed(repo, theirs.tip, onto, merged.evidence.path or "") or rival.id
    return merged.evidence.model_copy(update={"other": other})
