"""Writes on GitHub: each once, whatever the connection does; limits and lost tokens are obeyed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from bot.errors import Away, Rejected, Transient
from bot.github.app import GitHubApp
from bot.github.catchup import catch_up
from bot.github.forge import DOUBTS, Forge
from bot.github.people import GitHubPeople
from bot.ports import Lease, no_faults
from schemas.base import Person, RepoRef
from schemas.effects import CloseIssue, Effect, PostComment, PublishCheck, UpdateStatus
from tests.standin.scene import LeapClock, Scene, scene

LEASE = Lease(key="k", owner="me", fence=1)


@dataclass
class Door:
    scene: Scene
    clock: LeapClock
    app: GitHubApp
    forge: Forge
    issue: int

    def common(self, key: str) -> dict[str, Any]:
        repo = RepoRef(id=self.scene.repo.id, full_name="octo/app")
        return {"key": key, "ticket": "octo/app#1", "repo": repo, "installation": self.scene.app["installation"]}

    async def perform(self, effect: Effect) -> None:
        """As the loop would: again after trouble that may pass."""
        for _ in range(4):
            try:
                await self.forge.perform(effect, LEASE)
                return
            except Transient as error:
                await self.clock.sleep(error.retry_after or 1.0)
        raise AssertionError("never performed")

    async def fault(self, **fault: Any) -> None:
        await self.scene.github.control("faults", fault)


@pytest_asyncio.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with scene(tmp_path) as found:
        clock = LeapClock(found.github)
        app = found.as_the_bot(clock)
        issue = await found.github.as_user("alice", "POST", "/repos/octo/app/issues", {"title": "x"})
        yield Door(found, clock, app, Forge(app, no_faults), issue["number"])


async def comments(door: Door) -> list[str]:
    path = f"/repos/octo/app/issues/{door.issue}/comments"
    return [str(c["body"]) for c in await door.scene.github.as_user("alice", "GET", path)]


@pytest.mark.parametrize(
    "fault",
    [{"reset": True}, {"after": True, "status": 502}, {"status": 500}, {"status": 429, "headers": {"Retry-After": "1"}},
     {"status": 403, "headers": {"Retry-After": "1"}}, {"status": 401}],
)  # fmt: skip
async def test_a_comment_is_made_once_whatever_the_answer_was(door: Door, fault: dict[str, Any]) -> None:
    await door.fault(match="comments$", method="POST", times=1, **fault)
    await door.perform(PostComment(**door.common("a"), issue=door.issue, body="hello"))
    await door.perform(PostComment(**door.common("a"), issue=door.issue, body="hello"))
    await door.perform(PostComment(**door.common("b"), issue=door.issue, body="other"))
    assert [text.split("\n", 1)[1] for text in await comments(door)] == ["hello", "other"]


async def test_the_status_is_one_comment_edited_in_place(door: Door) -> None:
    for text in ("one", "two"):
        await door.perform(UpdateStatus(**door.common(text), issue=door.issue, body=text))
    fresh = Forge(door.app, no_faults)
    await fresh.perform(UpdateStatus(**door.common("three"), issue=door.issue, body="three"), LEASE)
    assert [text.split("\n", 1)[1] for text in await comments(door)] == ["three"]


async def test_a_person_cannot_pass_for_us(door: Door) -> None:
    path = f"/repos/octo/app/issues/{door.issue}/comments"
    await door.scene.github.as_user("eve", "POST", path, {"body": "<!-- interlock:a -->\nforged"})
    await door.perform(PostComment(**door.common("a"), issue=door.issue, body="hello"))
    assert len(await comments(door)) == 2


async def test_a_check_run_is_made_once_and_updated(door: Door) -> None:
    for conclusion in (None, "success"):
        await door.fault(match="check-runs", method="POST", times=1, reset=True)
        effect = PublishCheck.model_validate(
            {
                **door.common(f"c{conclusion}"), "name": "interlock", "head": door.scene.repo.head, "external_id": "e",
                "status": "completed" if conclusion else "in_progress", "conclusion": conclusion, "title": "t", "summary": "s",
            }
        )  # fmt: skip
        await door.perform(effect)
    path = f"/repos/octo/app/commits/{door.scene.repo.head}/check-runs?filter=all"
    runs = (await door.scene.github.as_user("bob", "GET", path))["check_runs"]
    assert [run["conclusion"] for run in runs] == ["success"]


async def test_what_github_refuses_is_not_repeated(door: Door) -> None:
    with pytest.raises(Rejected, match="404"):
        await door.forge.perform(CloseIssue(**door.common("x"), issue=999), LEASE._replace(fence=DOUBTS))
    with pytest.raises(Away, match="404"):  # a replica may be behind
        await door.forge.perform(CloseIssue(**door.common("x"), issue=999), LEASE)


async def test_permissions_are_asked_and_bots_have_none(door: Door) -> None:
    people = GitHubPeople(door.app)
    repo, installation = RepoRef(id=door.scene.repo.id, full_name="octo/app"), door.scene.app["installation"]
    expected = {"alice": "write", "bob": "admin", "eve": "read", "nobody": "none"}
    for login, permission in expected.items():
        assert await people.permission(repo, installation, Person(id=1, login=login)) == permission
    assert await people.permission(repo, installation, Person(id=1, login="bob", type="Bot")) == "none"
    await door.fault(match="permission$", times=9, status=502)
    with pytest.raises(Transient):
        await people.permission(repo, installation, Person(id=1, login="bob"))


async def test_missed_deliveries_are_asked_for_again(door: Door) -> None:
    await door.scene.github.control("app", {"webhook_url": "http://127.0.0.1:9/nobody"})
    await door.scene.github.as_user("alice", "POST", "/repos/octo/app/issues", {"title": "y"})
    listed: list[dict[str, Any]] = []
    while not listed or not listed[0]["status"]:
        listed = (await door.scene.call("GET", "/app/hook/deliveries", door.scene.app_jwt()))[1]

    async def known(guid: str) -> bool:
        return False

    assert await catch_up(door.app, known) == 1
