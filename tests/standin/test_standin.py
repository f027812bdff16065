"""The stand-in behaves as GitHub does where the bot relies on it."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio
from aiohttp import web

from tests.standin.scene import SECRET, Scene, scene

PATH = "/repos/octo/app"


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scene(tmp_path) as found:
        yield found


async def test_the_apps_tokens_are_checked_narrow_and_expire(world: Scene) -> None:
    assert (await world.call("GET", "/app", ""))[0] in (401, 404)
    assert (await world.call("GET", "/app", world.app_jwt(3600)))[0] == 401
    assert (await world.call("GET", "/app", world.app_jwt()))[1]["slug"] == "interlock"
    token = await world.token(repository_ids=[world.repo.id], permissions={"issues": "read"})
    assert (await world.call("GET", f"{PATH}/issues", token))[0] == 200
    status, found, _ = await world.call("POST", f"{PATH}/issues", token, {"title": "x"})
    assert (status, found["message"]) == (403, "Resource not accessible by integration")
    path = f"/app/installations/{world.app['installation']}/access_tokens"
    assert (await world.call("POST", path, world.app_jwt(), {"permissions": {"contents": "admin"}}))[0] == 422
    await world.github.control("clock", {"advance": 3601})
    assert (await world.call("GET", f"{PATH}/issues", token))[0] == 401


async def test_git_over_http_with_compare_and_swap(world: Scene) -> None:
    token = await world.token()
    (world.source / "a.txt").write_text("two\n")
    world.git("commit", "-q", "-a", "-m", "Two")
    old, new = world.git("rev-parse", "HEAD~1"), world.git("rev-parse", "HEAD")
    assert await world.push("wrong", "main") != 0
    assert await world.push(token, "main", f"--force-with-lease=main:{new}") != 0
    assert await world.push(token, "main", f"--force-with-lease=main:{old}") == 0
    assert (await world.call("GET", f"{PATH}/git/ref/heads/main", token))[1]["object"]["sha"] == new
    reader = await world.token(permissions={"contents": "read"})
    assert await world.push(reader, "main:other") != 0


async def pull(world: Scene) -> tuple[dict[str, Any], str]:
    token = await world.token()
    world.git("switch", "-q", "-c", "topic")
    (world.source / "a.txt").write_text("topic\n")
    world.git("commit", "-q", "-a", "-m", "Topic")
    assert await world.push(token, "topic") == 0
    body = {"title": "T", "head": "topic", "base": "main"}
    status, made, _ = await world.call("POST", f"{PATH}/pulls", token, body)
    assert status == 201
    assert (await world.call("POST", f"{PATH}/pulls", token, body))[0] == 422
    return made, token


async def test_a_pull_request_follows_its_head_and_is_merged_by_a_push(world: Scene) -> None:
    made, token = await pull(world)
    number = made["number"]
    (world.source / "a.txt").write_text("more\n")
    world.git("commit", "-q", "-a", "-m", "More")
    assert await world.push(token, "topic") == 0
    head = world.git("rev-parse", "HEAD")
    assert (await world.call("GET", f"{PATH}/pulls/{number}", token))[1]["head"]["sha"] == head
    assert await world.push(token, "topic:main") == 0
    found = (await world.call("GET", f"{PATH}/pulls/{number}", token))[1]
    assert found["merged"] and found["state"] == "closed"


async def test_reviews(world: Scene) -> None:
    made, token = await pull(world)
    path = f"{PATH}/pulls/{made['number']}/reviews"
    assert (await world.call("POST", path, token, {"event": "APPROVE"}))[0] == 422
    review = await world.github.as_user("bob", "POST", path, {"event": "APPROVE"})
    assert review["state"] == "APPROVED" and review["commit_id"] == made["head"]["sha"]


async def test_check_runs(world: Scene) -> None:
    token = await world.token()
    body: dict[str, Any] = {"name": "x", "head_sha": world.repo.head}
    person = world.github._tokens["bob"]
    assert (await world.call("POST", f"{PATH}/check-runs", person, body))[0] == 403
    assert (await world.call("POST", f"{PATH}/check-runs", token, {**body, "status": "completed"}))[0] == 422
    button = {"label": "L" * 21, "description": "d", "identifier": "i"}
    assert (await world.call("POST", f"{PATH}/check-runs", token, {**body, "actions": [button]}))[0] == 422
    button = {"label": "Go", "description": "d", "identifier": "go"}
    status, made, _ = await world.call("POST", f"{PATH}/check-runs", token, {**body, "actions": [button]})
    assert status == 201
    press = {"repository": world.repo.id, "check_run": made["id"], "identifier": "go", "login": "bob"}
    assert "message" in await world.github.control("press", press)
    done = {"status": "completed", "conclusion": "action_required"}
    assert (await world.call("PATCH", f"{PATH}/check-runs/{made['id']}", token, done))[0] == 200
    assert await world.github.control("press", press) == {}


async def test_deliveries_are_signed_kept_and_repeated_on_request_alone(world: Scene) -> None:
    got: list[tuple[str, bytes, str]] = []
    arrived = asyncio.Event()
    status = 500

    async def receive(request: web.Request) -> web.Response:
        got.append((request.headers["X-GitHub-Delivery"], await request.read(), request.headers["X-Hub-Signature-256"]))
        arrived.set()
        return web.Response(status=status)

    app = web.Application()
    app.router.add_post("/hook", receive)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    await world.github.control("app", {"webhook_url": f"http://127.0.0.1:{runner.addresses[0][1]}/hook"})
    await world.github.as_user("alice", "POST", f"{PATH}/issues", {"title": "<script>alert(1)</script>"})
    await asyncio.wait_for(arrived.wait(), 5)
    guid, body, signature = got[0]
    assert signature == "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    listed: list[dict[str, Any]] = []
    while not listed or listed[0]["status_code"] == 0:
        listed = (await world.call("GET", "/app/hook/deliveries", world.app_jwt()))[1]
    assert listed[0]["guid"] == guid and listed[0]["status"] != "OK"
    arrived.clear()
    status = 202
    path = f"/app/hook/deliveries/{listed[0]['id']}/attempts"
    assert (await world.call("POST", path, world.app_jwt()))[0] == 202
    await asyncio.wait_for(arrived.wait(), 5)
    assert got[1][:2] == (guid, body)
    await runner.cleanup()
    async with world.session.get(f"{world.github.url}/octo/app/issues/1") as page:
        text = await page.text()
        assert page.status == 200 and "<script>alert" not in text and "&lt;script&gt;" in text


async def test_renamed_archived_and_unseen_repositories(world: Scene) -> None:
    token = await world.token()
    await world.github.user("stranger")
    assert (await world.call("GET", PATH, world.github._tokens["stranger"]))[0] == 404
    change = {"archived": True}
    url = f"{world.github.url}/_standin/repositories/{world.repo.id}"
    async with world.session.patch(url, json=change):
        pass
    assert (await world.call("POST", f"{PATH}/issues", token, {"title": "x"}))[0] == 403
    async with world.session.patch(url, json={"name": "new", "archived": False}):
        pass
    assert (await world.call("GET", PATH, token))[0] == 301
    assert (await world.call("GET", "/repos/octo/new", token))[1]["full_name"] == "octo/new"
