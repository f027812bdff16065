"""Who may do what, asked from GitHub's API: never read from a payload's author_association."""

from bot.errors import Rejected
from bot.github.app import GitHubApp
from schemas.base import Permission, Person, RepoRef

_KNOWN: dict[str, Permission] = {"admin": "admin", "write": "write", "read": "read", "none": "none"}


class GitHubPeople:
    """`bot.ports.People`: asked each time, since it is asked when it matters."""

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
