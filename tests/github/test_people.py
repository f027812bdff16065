"""What is read from GitHub about people just before a landing, and of what they said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bot.github.people import GitHubConfirmer, GitHubPeople, ReviewReader
from bot.ports import Lease
from schemas.base import Person, RepoRef
from schemas.effects import ReadReview
from schemas.events import ReviewRead
from schemas.lane import Carriage, Entry, Series
from schemas.ticket import Approval, PullRequest, Ticket, TicketState
from tests.standin.scene import Scene, scene
from tests.standin.test_standin import pull
from tests.store.parts import T0, ticket


async def reviewed(world: Scene, who: str, **body: Any) -> tuple[int, int]:
    """A pull request, and a review of it."""
    made, _ = await pull(world)
    path = f"/repos/octo/app/pulls/{made['number']}/reviews"
    found = await world.github.as_user(who, "POST", path, {"event": "APPROVE", "body": "x", **body})
    return made["number"], found["id"]


async def test_a_sole_writer_s_own_approval_ends_with_a_second_writer(tmp_path: Path) -> None:
    async with scene(tmp_path) as world:
        number, review = await reviewed(world, "alice")
        found = (await world.github.as_user("bob", "GET", "/repos/octo/app/collaborators/alice/permission"))["user"]
        alice = Person(id=found["id"], login=found["login"])
        given = Approval(by=alice, review=review, digest="d", head="a" * 40, at=T0)
        known = ticket(
            repo=RepoRef(id=world.repo.id, full_name="octo/app"), installation=world.app["installation"], requester=alice,
            state=TicketState.LANDING, pull_request=PullRequest(number=number, head="a" * 40), approvals=(given,), digest="d",
            single_writer=True,
        )  # fmt: skip

        async def stored(name: str) -> Ticket:
            return known

        app = world.as_the_bot()
        series = Series(fork="a" * 40, tip="b" * 40, digest="d", branch="interlock/12")
        entry = Entry(id="e", lane="7:refs/heads/main", ticket=known.id, series=series, seq=1, accepted=T0)
        carriage = Carriage(entry="e", commit="a" * 40, tree="b" * 40, digest="d")
        confirmer = GitHubConfirmer(app, GitHubPeople(app), stored)
        refused = await confirmer.confirm(entry, carriage)
        assert refused.status == "refused" and "alice has a part in the work" in refused.reason
        await world.github.control("roles", {"repository": world.repo.id, "roles": {"bob": "read", "octo": "none"}})

        class Alone(GitHubPeople):
            """Where GitHub lists alice alone."""

            async def single_writer(self, repo: RepoRef, installation: int) -> bool:
                return True

        assert (await GitHubConfirmer(app, Alone(app), stored).confirm(entry, carriage)).status == "ok"


async def test_the_line_comments_of_a_review_are_read_with_their_places(tmp_path: Path) -> None:
    async with scene(tmp_path) as world:
        said = [{"path": "a.txt", "line": 1, "body": "Why?"}, {"path": "b\u00e9.txt", "line": 3, "body": "x" * 9}]
        number, review = await reviewed(world, "bob", event="REQUEST_CHANGES", comments=said)
        effect = ReadReview(key="k", ticket="octo/app#1", repo=RepoRef(id=world.repo.id, full_name="octo/app"),
                            installation=world.app["installation"], number=number, review=review)  # fmt: skip
        found = (await ReviewReader(world.as_the_bot()).perform(effect, Lease("k", "me", 1))).outcome
        assert isinstance(found, ReviewRead)
        assert [one.split("\n")[0] for one in found.comments] == ["a.txt:1: Why?", "b\u00e9.txt:3: xxxxxxxxx"]
