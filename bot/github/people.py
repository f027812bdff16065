"""Who may do what, asked from GitHub's API when it matters: never read from a payload's author_association."""

from collections.abc import Awaitable, Callable

from bot.errors import Rejected, Transient
from bot.github.app import GitHubApp
from bot.ports import Confirmation, Lease, Performed
from bot.rules import gating
from schemas.base import Permission, Person, RepoRef
from schemas.effects import Effect, ReadReview
from schemas.events import ReviewRead
from schemas.gates import Status
from schemas.lane import Carriage, Entry
from schemas.ticket import Ticket, TicketState

MOST_COMMENTS = 100
_KNOWN: dict[str, Permission] = {"admin": "admin", "write": "write", "read": "read", "none": "none"}


class GitHubPeople:
    """`bot.ports.People`: asked each time."""

    def __init__(self, app: GitHubApp) -> None:
        self._app = app

    async def permission(self, repo: RepoRef, installation: int, person: Person) -> Permission:
        """admin, write, read or none; a bot has none. Raises Transient when GitHub cannot say."""
        if person.type != "User":
            return "none"
        try:
            found = await self._app.call(repo, installation, "GET", f"/collaborators/{person.login}/permission")
        except Rejected:
            return "none"
        return _KNOWN.get(str(found.get("permission")), "none")

    async def single_writer(self, repo: RepoRef, installation: int) -> bool:
        """Whether exactly one person may write; False when GitHub does not tell us."""
        try:
            found = await self._app.pages(repo, installation, "/collaborators?permission=push")
        except Rejected:
            return False
        return len([item for item in found if item.get("type") == "User"]) == 1


class ReviewReader:
    """Performs `read_review`."""

    kinds = frozenset({"read_review"})

    def __init__(self, app: GitHubApp) -> None:
        self._app = app

    async def perform(self, effect: Effect, lease: Lease) -> Performed:
        """See bot.ports.Performer."""
        assert isinstance(effect, ReadReview)
        path = f"/pulls/{effect.number}/reviews/{effect.review}/comments"
        found = await self._app.pages(effect.repo, effect.installation, path)
        comments = tuple(
            f"{one['path']}:{one.get('line') or one.get('original_line') or '?'}: {one['body']}\n{one['diff_hunk'][-500:]}"
            for one in found[:MOST_COMMENTS]
        )
        return Performed(ReviewRead(ticket=effect.ticket, review=effect.review, comments=comments))


class GitHubConfirmer:
    """`bot.ports.Confirmer`: reviews and permissions are read again just before a landing on the base branch.

    Only an approved ticket's series needs people; unknown never passes.
    """

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
        repo, installation = ticket.repo, ticket.installation
        try:
            listed = await self._app.pages(repo, installation, f"/pulls/{ticket.pull_request.number}/reviews")
            reviews = [
                gating.Review(id=r["id"], by=Person(id=by["id"], login=by["login"], type=by["type"]), state=r["state"])
                for r in listed
                if (by := r.get("user"))
            ]
            if ticket.single_writer:  # it may have got another one since it was opened
                alone = await self._people.single_writer(repo, installation)
                ticket = ticket.model_copy(update={"single_writer": alone})
            asked = [
                (review, await self._people.permission(repo, installation, review.by))
                for review in gating.last_words(reviews)
            ]
            requester = await self._people.permission(repo, installation, ticket.requester)
        except Transient as error:
            return Confirmation("unknown", str(error))
        except Rejected as error:
            return Confirmation("refused", str(error))
        if not gating.may_steer(ticket, ticket.requester.model_copy(update={"permission": requester})):
            return Confirmation("refused", f"{ticket.requester.login}, who asked for this, may not write here any more")
        verdict = gating.confirmed(ticket, asked, carriage.digest)
        if verdict.status is Status.PASSED:
            return Confirmation("ok", verdict.reason)
        reasons = "; ".join(child.reason for child in verdict.children if child.status is not Status.PASSED)
        return Confirmation("refused", f"{verdict.reason}: {reasons}" if reasons else verdict.reason)
