"""What is not GitHub's: setting the scene, pressing buttons as a person, faults on demand, and watching (/_standin/)."""

from __future__ import annotations

import asyncio
import re
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiohttp import web

from bot.standin import hooks, shapes, verdicts
from bot.standin.state import ApiError, App, Json, Repository, State, User

PERMISSIONS = {
    "metadata": "read", "issues": "write", "pull_requests": "write", "contents": "write", "checks": "write",
    "statuses": "read",
}  # fmt: skip


def routes(state: State) -> list[web.RouteDef]:
    """All under /_standin/."""

    async def users(request: web.Request) -> web.Response:
        body = await request.json()
        return web.json_response({"login": body["login"], "token": state.user_token(body["login"])})

    async def app(request: web.Request) -> web.Response:
        body = await request.json()
        if state.app is None:
            slug = body.get("slug", "interlock")
            bot = User(state.next_id(), f"{slug}[bot]", "Bot")
            state.app = App(
                id=state.next_id(), slug=slug, public_key=body["public_key"], webhook_url="", secret="",
                installation=state.next_id(), bot=bot, permissions=body.get("permissions", PERMISSIONS),
            )  # fmt: skip
        state.app.webhook_url = body.get("webhook_url", state.app.webhook_url)
        state.app.secret = body.get("secret", state.app.secret)
        state.app.public_key = body.get("public_key", state.app.public_key)
        return web.json_response(
            {"app_id": state.app.id, "installation": state.app.installation, "slug": state.app.slug}
        )

    async def repositories(request: web.Request) -> web.Response:
        body = await request.json()
        owner, name = body["full_name"].split("/")
        path = state.data / f"{owner}+{name}.git"
        branch = body.get("default_branch", "main")
        await asyncio.to_thread(_make, path, branch)
        state.user(owner)
        repo = Repository(
            id=state.next_id(), owner=owner, name=name, path=path, default_branch=branch, created=state.now(),
            roles=body.get("roles", {}),
        )  # fmt: skip
        for login in repo.roles:
            state.user(login)
        state.repositories[repo.id] = repo
        state.renamed.pop(repo.full_name.lower(), None)  # a name that is used again leads nowhere else
        state.touch()
        return web.json_response({"id": repo.id, "full_name": repo.full_name})

    async def change_repository(request: web.Request) -> web.Response:
        body = await request.json()
        repo = state.repositories[int(request.match_info["id"])]
        repo.roles.update(body.get("roles", {}))
        repo.archived = body.get("archived", repo.archived)
        repo.protected.update(body.get("protected", {}))
        if "name" in body:
            state.renamed[repo.full_name.lower()] = repo.id
            repo.name = body["name"]
        return web.json_response({})

    async def ci(request: web.Request) -> web.Response:
        verdicts.ci_said(state, state.repositories[int(request.match_info["id"])], await request.json())
        return web.json_response({})

    async def press(request: web.Request) -> web.Response:
        body = await request.json()
        repo = state.repositories[int(body["repository"])]
        try:
            found = verdicts.check_of(repo, str(body["check_run"]))
            verdicts.press(state, repo, found, body["identifier"], state.user(body["login"]))
        except ApiError as error:
            return web.json_response(error.body, status=error.status)
        return web.json_response({})

    async def wait(request: web.Request) -> web.Response:
        after, seconds = int(request.query.get("after", "0")), float(request.query.get("timeout", "10"))
        return web.json_response({"seq": await state.wait(after, seconds)})

    async def faults(request: web.Request) -> web.Response:
        state.faults.append(await request.json())
        return web.json_response({})

    async def clock(request: web.Request) -> web.Response:
        body = await request.json()
        state.offset += timedelta(seconds=float(body.get("advance", 0)))
        if "pace" in body:
            state.began, state.pace = datetime.fromtimestamp(body["began"], UTC), float(body["pace"])
        return web.json_response({"now": state.now().isoformat()})

    async def log(request: web.Request) -> web.Response:
        return web.json_response(state.requests)

    async def deliveries(request: web.Request) -> web.Response:
        found = [{**d, "at": d["at"].isoformat(), "delivered_at": str(d["delivered_at"])} for d in state.deliveries]
        return web.json_response(found)

    async def issue_event(request: web.Request) -> web.Response:
        """Delete or transfer an issue, lock it: what only the site's pages do."""
        body = await request.json()
        repo = state.repositories[int(body["repository"])]
        item, more = repo.items[int(body["number"])], {}
        if body["action"] == "locked":
            item.locked = True
        else:
            del repo.items[item.number]
        if body["action"] == "transferred":  # to where the App is not installed
            there = replace(repo, id=state.next_id(), name=f"{repo.name}-elsewhere")
            moved = shapes.issue(state, there, replace(item, id=state.next_id(), number=1))
            more["changes"] = {"new_issue": moved, "new_repository": shapes.repository(state, there)}
        hooks.issue(state, body["action"], repo, item, state.user(body["login"]), **more)
        return web.json_response({})

    return [
        web.post("/_standin/users", users),
        web.post("/_standin/app", app),
        web.post("/_standin/repositories", repositories),
        web.patch("/_standin/repositories/{id}", change_repository),
        web.post("/_standin/repositories/{id}/ci", ci),
        web.post("/_standin/press", press),
        web.get("/_standin/wait", wait),
        web.post("/_standin/faults", faults),
        web.post("/_standin/clock", clock),
        web.get("/_standin/requests", log),
        web.get("/_standin/deliveries", deliveries),
        web.post("/_standin/issue-event", issue_event),
    ]


def _make(path: Path, branch: str) -> None:
    subprocess.run(["git", "init", "-q", "--bare", f"--initial-branch={branch}", str(path)], check=True)
    subprocess.run(["git", "-C", str(path), "config", "http.receivepack", "true"], check=True)


def fault_for(state: State, method: str, path: str) -> Json | None:
    """The fault that this request shall have: {match, method, times, status, headers, after, reset, delay,
    hold: until no more faults are wanted}."""
    for fault in state.faults:
        if "match" not in fault or fault.get("times", 1) <= 0:
            continue
        if fault.get("method", method) == method and re.search(fault["match"], path):
            fault["times"] = fault.get("times", 1) - 1
            return fault
    return None


def fault_error(fault: Json) -> ApiError:
    """A fault's answer."""
    error = ApiError(int(fault["status"]), fault.get("message", "a fault on demand"))
    return error
