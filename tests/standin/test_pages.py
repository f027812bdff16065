"""What the stand-in's pages refuse; what they do is in tests/browser."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from tests.standin.scene import Scene, scene


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scene(tmp_path) as found:
        await found.github.as_user("alice", "POST", "/repos/octo/app/issues", {"title": "x"})
        yield found


async def post(world: Scene, path: str, form: dict[str, str], **headers: str) -> aiohttp.ClientResponse:
    return await world.session.post(f"{world.github.url}{path}", data=form, headers=headers, allow_redirects=False)


async def comments(world: Scene) -> list[str]:
    found = await world.github.as_user("alice", "GET", "/repos/octo/app/issues/1/comments")
    return [comment["body"] for comment in found]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "{url}", "Cookie": "who=alice"}, 303),
        ({"Origin": "http://evil.example", "Cookie": "who=alice"}, 403),
        ({"Origin": "null", "Cookie": "who=alice"}, 403),
        ({"Cookie": "who=alice"}, 403),
        ({"Origin": "{url}"}, 403),
        ({"Origin": "{url}", "Cookie": "who=mallory"}, 403),
        ({"Origin": "{url}", "Cookie": "who=interlock[bot]"}, 403),
        ({"Origin": "http://evil.example", "Host": "evil.example", "Cookie": "who=alice"}, 403),
    ],
)
async def test_a_form_counts_only_from_our_own_pages(world: Scene, headers: dict[str, str], status: int) -> None:
    sent = {name: value.replace("{url}", world.github.url) for name, value in headers.items()}
    answer = await post(world, "/octo/app/issues/1/comments", {"body": "hello"}, **sent)
    assert answer.status == status
    assert await comments(world) == (["hello"] if status == 303 else [])


async def test_a_reader_cannot_do_on_a_page_what_the_api_refuses(world: Scene) -> None:
    url = f"{world.github.url}/_standin/repositories/{world.repo.id}"
    async with world.session.patch(url, json={"roles": {"eve": "none"}}):
        pass
    sent = {"Origin": world.github.url, "Cookie": "who=eve"}
    for path, form in (("comments", {"body": "x"}), ("labels", {"label": "interlock"}), ("state", {"state": "closed"})):
        assert (await post(world, f"/octo/app/issues/1/{path}", form, **sent)).status == 404
    issue = await world.github.as_user("alice", "GET", "/repos/octo/app/issues/1")
    assert (issue["state"], issue["labels"], issue["comments"]) == ("open", [], 0)


@pytest.mark.parametrize("back", ["//evil.example", "/\\evil.example", "http://evil.example", ""])
async def test_picking_somebody_leads_nowhere_else(world: Scene, back: str) -> None:
    answer = await post(world, "/-/who", {"login": "alice", "back": back}, Origin=world.github.url)
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    cookie = answer.headers["Set-Cookie"]
    assert "who=alice" in cookie and "HttpOnly" in cookie and "SameSite=Strict" in cookie


async def test_pages_run_only_our_own_script_and_are_not_served_under_another_name(world: Scene) -> None:
    async with world.session.get(f"{world.github.url}/octo/app/issues/1") as page:
        assert page.status == 200
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    async with world.session.get(f"{world.github.url}/octo/app/issues/1", headers={"Host": "evil.example"}) as page:
        assert page.status == 403
    async with world.session.get(f"{world.github.url}/octo/nothing") as page:
        assert page.status == 404
