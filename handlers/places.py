"""Deliveries about whole repositories and installations, which concern every open ticket there.

Their keys are left empty: nothing in such a body tells the second of two equal acts from the first, only the delivery does.
"""

from collections.abc import Sequence
from typing import Final

from schemas import events as e
from schemas.acts import How
from schemas.payloads import InstallationPayload, Payload

REPOSITORY: Final[dict[str, How]] = {
    "renamed": "renamed", "transferred": "transferred", "archived": "archived", "unarchived": "unarchived",
    "deleted": "deleted", "edited": "default_branch",
}  # fmt: skip
INSTALLATION: Final[dict[str, How]] = {
    "suspend": "suspended", "unsuspend": "unsuspended", "deleted": "uninstalled", "new_permissions_accepted": "permissions",
}  # fmt: skip
CONVERSATION: Final[dict[str, How]] = {"locked": "locked", "unlocked": "unlocked"}


def conversation(payload: Payload) -> Sequence[e.Addressed]:
    """issues: locked or unlocked."""
    if payload.issue is None or payload.issue.pull_request is not None:
        return ()
    event = e.PlaceChanged(how=CONVERSATION[payload.action], by=payload.sender)
    return (_to(e.Address(repo_id=payload.repository.id, issue=payload.issue.number), event),)


def repository(payload: Payload) -> Sequence[e.Addressed]:
    """repository: its name, owner, default branch, or end. Other edits say nothing."""
    how, old = REPOSITORY[payload.action], payload.default_branch_was
    if how == "default_branch" and not old:
        return ()
    event = e.PlaceChanged(
        how=how, by=payload.sender, repo=payload.repository, installation=payload.installation, old=old
    )
    return (_to(e.Address(repo_id=payload.repository.id), event),)


def installation(payload: InstallationPayload) -> Sequence[e.Addressed]:
    """installation: what the App may do changed."""
    event = e.PlaceChanged(how=INSTALLATION[payload.action], by=payload.sender)
    return (_to(e.Address(installation=payload.installation), event),)


def selection(payload: InstallationPayload) -> Sequence[e.Addressed]:
    """installation_repositories: which repositories the App may reach."""
    gone = e.PlaceChanged(how="removed", by=payload.sender)
    back = e.PlaceChanged(how="added", by=payload.sender, installation=payload.installation)
    return (
        *(_to(e.Address(repo_id=repo.id), gone) for repo in payload.repositories_removed),
        *(
            _to(e.Address(repo_id=repo.id), back.model_copy(update={"repo": repo}))
            for repo in payload.repositories_added
        ),
    )


def _to(to: e.Address, event: e.Event) -> e.Addressed:
    return e.Addressed(key="", to=to, event=event)
