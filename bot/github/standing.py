"""What stands on GitHub after a silence of which no delivery tells any more.

Labelled issues without a ticket, and of each open ticket: its issue, comments, pull request and reviews. What is found
goes into the inbox as the delivery that would have told of it, under an id of its own; events have keys, so that one that
was heard in time is nothing new.
"""

import json
import logging
from collections.abc import Sequence, Set
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, Protocol

from bot.errors import Rejected
from bot.github.app import GitHubApp
from bot.ports import Clock
from schemas.base import RepoRef
from schemas.ticket import Ticket

log = logging.getLogger("interlock.standing")

SLACK: Final = timedelta(minutes=1)
"""How far our clock may be from GitHub's."""


class Records(Protocol):
    """What is kept here, as bot.store has it."""

    async def keep_delivery(self, guid: str, event: str, body: bytes, now: datetime) -> bool: ...
    async def known_deliveries(self, guids: Sequence[str]) -> Set[str]: ...
    async def tickets(self) -> Sequence[Ticket]: ...
    async def meta(self, key: str) -> str | None: ...
    async def set_meta(self, key: str, value: str) -> None: ...


class Place(NamedTuple):
    """A repository, seen by an installation."""

    repo: RepoRef
    installation: int


class Standing(NamedTuple):
    """One look at everything."""

    app: GitHubApp
    records: Records
    clock: Clock
    label: str

    async def read(self, *, since: datetime) -> None:
        """Of all installations; comments since then. Raises Transient; what GitHub refuses to show is left out."""
        known = await self.records.tickets()
        for ticket in known:
            if ticket.open:
                try:
                    await self._ticket(Place(ticket.repo, ticket.installation), ticket, since)
                except Rejected as error:
                    log.warning("standing.unread", extra={"ticket": ticket.id, "error": str(error)})
        for installation in await self.app.installations():
            for repo in await self.app.repositories(installation):
                try:
                    await self._labelled(Place(repo, installation), [one for one in known if one.repo.id == repo.id])
                except Rejected as error:
                    log.warning("standing.unread", extra={"repository": repo.full_name, "error": str(error)})

    async def _labelled(self, place: Place, known: Sequence[Ticket]) -> None:
        """A label asks for a ticket if none of the issue's was opened since it was put there."""
        for issue in await self.app.pages(*place, f"/issues?labels={self.label}&state=open"):
            tickets = [one for one in known if one.issue == issue["number"]]
            if "pull_request" in issue or any(one.open for one in tickets):
                continue
            put = await self._last(place, issue["number"], "labeled")
            if put is None or any(one.opened_at > _at(put) - SLACK for one in tickets):
                continue
            if await self._vouched(place, issue, put):
                dated = {
                    **issue,
                    "updated_at": put["created_at"],
                }  # as the delivery said, whose event has it in its key
                await self._keep(place, "issues", put, issue=dated)
            else:
                log.warning("standing.changed", extra={"repository": place.repo.full_name, "issue": issue["number"]})

    async def _vouched(self, place: Place, issue: dict[str, Any], put: dict[str, Any]) -> bool:
        """Whether who put the label saw this text: a stranger may have changed it since, and GitHub does not say when."""
        author = issue["user"]
        if author["id"] == put["actor"]["id"] or _at(issue["updated_at"]) <= _at(put) + timedelta(seconds=2):
            return True
        found = await self.app.call(*place, "GET", f"/collaborators/{author['login']}/permission")
        return found["permission"] in ("admin", "write")

    async def _ticket(self, place: Place, ticket: Ticket, since: datetime) -> None:
        """What people did to an open ticket's issue and pull request."""
        issue = await self.app.call(*place, "GET", f"/issues/{ticket.issue}")
        start = max(since, ticket.opened_at - SLACK).strftime("%Y-%m-%dT%H:%M:%SZ")
        for comment in await self.app.pages(*place, f"/issues/{ticket.issue}/comments?since={start}"):
            # An edited comment may say what nobody said when it was new.
            if start <= comment["created_at"] == comment["updated_at"]:
                told = _told("created", comment["id"], comment["user"])
                await self._keep(place, "issue_comment", told, issue=issue, comment=comment)
        if ticket.pull_request is not None:
            await self._pull(place, ticket.pull_request.number)
        if issue["state"] == "closed":
            await self._keep(place, "issues", _closed(issue), issue=issue)
        elif self.label not in [label["name"] for label in issue["labels"]]:
            taken = await self._last(place, ticket.issue, "unlabeled")
            if taken is not None:
                await self._keep(place, "issues", taken, issue=issue)

    async def _pull(self, place: Place, number: int) -> None:
        pull = await self.app.call(*place, "GET", f"/pulls/{number}")
        for review in await self.app.pages(*place, f"/pulls/{number}/reviews"):
            action = "dismissed" if review["state"] == "DISMISSED" else "submitted"
            told = _told(action, f"{review['id']}-{review['state']}", review["user"])
            await self._keep(place, "pull_request_review", told, pull_request=pull, review=review)
        if pull["state"] == "closed":
            told = _closed(await self.app.call(*place, "GET", f"/issues/{number}"))
            await self._keep(place, "pull_request", told, pull_request=pull)

    async def _last(self, place: Place, issue: int, event: str) -> dict[str, Any] | None:
        """When our label was last put on an issue, or taken off, and by whom."""
        found = await self.app.pages(*place, f"/issues/{issue}/events")
        of_ours = (one for one in found if one["event"] == event and one["actor"])
        fitting = [one for one in of_ours if one["label"]["name"] == self.label]
        return fitting[-1] if fitting else None

    async def _keep(self, place: Place, event: str, told: dict[str, Any], **parts: Any) -> None:
        body = {
            "action": told["event"], "sender": told["actor"], "label": told.get("label"), **parts,
            "repository": place.repo.model_dump(), "installation": {"id": place.installation},
        }  # fmt: skip
        guid = f"standing-{event}-{told['id']}"
        await self.records.keep_delivery(guid, event, json.dumps(body).encode(), self.clock.wall())


def _told(action: str, name: object, by: dict[str, Any]) -> dict[str, Any]:
    """As the list of an issue's events has it."""
    return {"event": action, "id": name, "actor": by}


def _closed(issue: dict[str, Any]) -> dict[str, Any]:
    return _told("closed", f"{issue['id']}-{issue['closed_at']}", issue["closed_by"] or issue["user"])


def _at(event: dict[str, Any] | str) -> datetime:
    return datetime.fromisoformat(event if isinstance(event, str) else event["created_at"])
