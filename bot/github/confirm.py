"""Reading reviews and permissions again, just before a landing on the base branch."""

from collections.abc import Awaitable, Callable

from bot.errors import Rejected, Transient
from bot.github.app import GitHubApp
from bot.github.people import GitHubPeople
from bot.ports import Confirmation
from bot.rules import approvals
from schemas.base import Permission, Person
from schemas.gates import Status
from schemas.lane import Carriage, Entry
from schemas.ticket import Ticket, TicketState


class GitHubConfirmer:
    """`bot.ports.Confirmer`: only an approved ticket's series needs people; unknown never passes."""

    def __init__(self, app: GitHubApp, people: GitHubPeople, ticket: Callable[[str], Awaitable[Ticket | None]]) -> None:
        self._app, self._people, self._ticket = app, people, ticket

    async def confirm(self, entry: Entry, carriage: Carriage) -> Confirmation:
        """See bot.ports.Confirmer."""
        if entry.series is None:
            return Confirmation("ok")
        ticket = await self._ticket(entry.ticket)
        if ticket is None or ticket.state is not TicketState.LANDING:
            return Confirmation("refused", "the ticket is not waiting to land")
        if ticket.pull_request is None:
            return Confirmation("refused", "there is no pull request")
        try:
            path = f"/pulls/{ticket.pull_request.number}/reviews"
            listed = await self._app.pages(ticket.repo, ticket.installation, path)
            reviews = [
                approvals.Review(id=r["id"], user_id=by["id"], login=by["login"], type=by["type"], state=r["state"])
                for r in listed
                if (by := r.get("user"))
            ]
            permissions: dict[int, Permission] = {}
            for r in approvals.last_words(reviews).values():
                person = Person(id=r.user_id, login=r.login, type=r.type)
                permissions[r.user_id] = await self._people.permission(ticket.repo, ticket.installation, person)
        except Transient as error:
            return Confirmation("unknown", str(error))
        except Rejected as error:
            return Confirmation("refused", str(error))
        verdict = approvals.verdict(ticket, reviews, permissions, carriage.digest)
        if verdict.status is Status.PASSED:
            return Confirmation("ok", verdict.reason)
        reasons = "; ".join(child.reason for child in verdict.children if child.status is not Status.PASSED)
        return Confirmation("refused", f"{verdict.reason}: {reasons}" if reasons else verdict.reason)
