"""push: to one of our branches, or to any other, which may be the base of open tickets."""

from __future__ import annotations

from collections.abc import Sequence

from handlers.origin import Origin, address_of_branch
from schemas.events import Address, Addressed, BaseMoved, BranchPushed
from schemas.payloads import Payload

_NOTHING = "0" * 40


def pushed(payload: Payload, origin: Origin) -> Sequence[Addressed]:
    """Tags are nobody's business here."""
    if not payload.ref.startswith("refs/heads/"):
        return ()
    branch = payload.ref.removeprefix("refs/heads/")
    after = None if payload.after == _NOTHING else payload.after
    to = address_of_branch(payload, branch)
    if to is not None:
        event = BranchPushed(
            before=None if payload.before == _NOTHING else payload.before,
            after=after,
            forced=payload.forced,
            ours=origin.ours(payload.sender),
            by=payload.sender.person(),
        )
        key = f"push:{payload.ref}:{payload.before}:{payload.after}"
        return (Addressed(key=key, to=to, event=event),)
    if after is None:
        return ()
    moved = BaseMoved(ref=payload.ref, head=after, forced=payload.forced, by=payload.sender.login)
    to = Address(repo_id=payload.repository.id, base_ref=branch)
    return (Addressed(key=f"push:{payload.ref}:{payload.before}:{after}", to=to, event=moved),)
