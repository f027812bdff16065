"""Issues, comments, labels, people and the App: the REST paths that the bot and the demo's people use."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from bot.standin import access, hooks, shapes
from bot.standin.access import Caller
from bot.standin.state import ApiError, Item, Json, Repository, State, invalid

BODY_LIMIT = 65536


class Call:
    """One request: who asks, on what."""

    def __init__(self, state: State, request: web.Request, caller: Caller, body: Json) -> None:
        self.state, self.request, self.caller, self.body = state, request, caller, body

    def repo(self, permission: str = "metadata", level: str = "read") -> Repository:
        """The repository of the path, if the caller may."""
        info = self.request.match_info
        if "repo_id" in info:
            repo = self.state.repositories.get(int(info["repo_id"]))
            if repo is None:
                raise ApiError(404, "Not Found")
        else:
            moved = self.state.renamed.get(f"{info['owner']}/{info['repo']}".lower())
            if moved is not None:
                rest = "".join(f"/{part}" for part in self.request.path_qs.split("/")[4:])
                raise ApiError(301, "Moved Permanently", url=f"{self.state.url}/repositories/{moved}{rest}")
            repo = self.state.repository(info["owner"], info["repo"])
        self.caller.may(self.state, repo, permission, level)
        return repo

    def number(self) -> int:
        """The issue's or pull request's number."""
        return int(self.request.match_info["number"])

    def text(self, name: str, limit: int = BODY_LIMIT) -> str:
        """A text of the body within GitHub's limit."""
        value = self.body.get(name)
        if not isinstance(value, str) or not value:
            raise invalid("IssueComment", name, "missing_field")
        if len(value) > limit:
            raise invalid("IssueComment", name, "custom", f"Body is too long (maximum is {limit} characters)")
        return value


def page(call: Call, items: list[Any]) -> web.Response:
    """One page with a Link header, whose addresses have the /repositories/ID form where there is one."""
    query = call.request.query
    size = min(int(query.get("per_page", "30")), 100)
    number = max(int(query.get("page", "1")), 1)
    start = (number - 1) * size
    headers = {}
    path = call.request.path
    if "repo" in call.request.match_info:
        info = call.request.match_info
        repo = call.state.repository(info["owner"], info["repo"])
        path = path.replace(f"/repos/{info['owner']}/{info['repo']}", f"/repositories/{repo.id}", 1)
    if start + size < len(items):
        args = {**query, "per_page": size}
        link = f"{call.request.url.origin()}{path}?" + "&".join(
            f"{k}={v}" for k, v in {**args, "page": number + 1}.items()
        )
        headers["Link"] = f'<{link}>; rel="next"'
    return web.json_response(items[start : start + size], headers=headers)


async def get_app(call: Call) -> web.Response:
    if call.caller.app is None:
        raise ApiError(401, "A JSON web token could not be decoded")
    return web.json_response(shapes.app(call.state))


async def create_token(call: Call) -> web.Response:
    app = call.caller.app
    if app is None:
        raise ApiError(401, "A JSON web token could not be decoded")
    if int(call.request.match_info["installation"]) != app.installation:
        raise ApiError(404, "Not Found")
    return web.json_response(access.mint(call.state, app, call.body), status=201)


async def repo_installation(call: Call) -> web.Response:
    app = call.caller.app
    if app is None:
        raise ApiError(401, "A JSON web token could not be decoded")
    return web.json_response({"id": app.installation, "app_id": app.id, "permissions": app.permissions})


async def list_deliveries(call: Call) -> web.Response:
    if call.caller.app is None:
        raise ApiError(401, "A JSON web token could not be decoded")
    found = [
        {
            "id": d["id"], "guid": d["guid"], "delivered_at": (d["delivered_at"] or d["at"]).isoformat(),
            "redelivery": d["redelivery"], "duration": 0.1, "status": d["status"] or "pending",
            "status_code": d["status_code"], "event": d["event"], "action": d["action"],
            "installation_id": call.caller.app.installation, "repository_id": d["repository_id"],
        }
        for d in reversed(call.state.deliveries)
        if d["status"] != "dropped" or call.request.query.get("all")
    ]  # fmt: skip
    return page(call, found)


async def redeliver(call: Call) -> web.Response:
    if call.caller.app is None:
        raise ApiError(401, "A JSON web token could not be decoded")
    wanted = int(call.request.match_info["delivery"])
    for delivery in call.state.deliveries:
        if delivery["id"] == wanted:
            again = {**delivery, "id": call.state.next_id(), "redelivery": True, "status": "", "delivered_at": None}
            call.state.deliveries.append(again)
            call.state.outgoing.put_nowait(again)
            return web.json_response({}, status=202)
    raise ApiError(404, "Not Found")


async def get_user(call: Call) -> web.Response:
    login = call.request.match_info["login"]
    app = call.state.app
    if app is not None and login == app.bot.login:
        return web.json_response(shapes.user(call.state, app.bot))
    if login not in call.state.users:
        raise ApiError(404, "Not Found")
    return web.json_response(shapes.user(call.state, call.state.users[login]))


async def get_repo(call: Call) -> web.Response:
    return web.json_response(shapes.full_repository(call.state, call.repo()))


async def permission(call: Call) -> web.Response:
    repo = call.repo()
    login = call.request.match_info["login"]
    who = call.state.users.get(login)
    if who is None:
        raise ApiError(404, f"{login} is not a user")
    role = call.state.role(repo, who)
    folded = {"maintain": "write", "triage": "read"}.get(role, role)
    flags = {
        "admin": folded == "admin",
        "maintain": role in ("admin", "maintain"),
        "push": folded in ("admin", "write"),
        "triage": role != "none",
        "pull": role != "none",
    }
    user = {**shapes.user(call.state, who), "permissions": flags, "role_name": role}
    return web.json_response({"permission": folded, "role_name": role, "user": user})


async def collaborators(call: Call) -> web.Response:
    repo = call.repo()
    logins = {repo.owner: "admin", **repo.roles}
    wanted = call.request.query.get("permission")
    found = [
        {**shapes.user(call.state, call.state.user(login)), "role_name": role}
        for login, role in logins.items()
        if role != "none" and (wanted != "push" or role in ("admin", "maintain", "write"))
    ]
    return page(call, found)


async def create_issue(call: Call) -> web.Response:
    repo = call.repo("issues", "write")
    state = call.state
    number = max(repo.items, default=0) + 1
    item = Item(
        id=state.next_id(), number=number, title=call.text("title", 256), body=call.body.get("body") or "",
        user=call.caller.who, created=state.now(), updated=state.now(),
    )  # fmt: skip
    repo.items[number] = item
    hooks.issue(state, "opened", repo, item, call.caller.who)
    for name in call.body.get("labels", []):
        _label(call, repo, item, name)
    return web.json_response(shapes.issue(state, repo, item), status=201)


async def get_issue(call: Call) -> web.Response:
    repo = call.repo("issues")
    return web.json_response(shapes.issue(call.state, repo, call.state.item(repo, call.number())))


async def list_issues(call: Call) -> web.Response:
    repo = call.repo("issues")
    query = call.request.query
    labels = [name for name in query.get("labels", "").split(",") if name]
    found = [
        shapes.issue(call.state, repo, item)
        for item in sorted(repo.items.values(), key=lambda i: -i.number)
        if query.get("state", "open") in (item.state, "all") and all(name in item.labels for name in labels)
    ]
    return page(call, found)


async def patch_issue(call: Call) -> web.Response:
    repo = call.repo("issues", "write")
    item = call.state.item(repo, call.number())
    who = call.caller.who
    if "title" in call.body or "body" in call.body:
        changes = {n: {"from": getattr(item, n)} for n in ("title", "body") if n in call.body}
        item.title = call.body.get("title", item.title)
        item.body = call.body.get("body", item.body)
        item.updated = call.state.now()
        hooks.issue(call.state, "edited", repo, item, who, changes=changes)
    if call.body.get("state") == "closed" and item.state == "open":
        item.state_reason = call.body.get("state_reason") or "completed"
        hooks.close(call.state, repo, item, who)
    elif call.body.get("state") == "open" and item.state == "closed":
        item.state, item.closed, item.state_reason = "open", None, "reopened"
        hooks.issue(call.state, "reopened", repo, item, who)
    return web.json_response(shapes.issue(call.state, repo, item))


def _label(call: Call, repo: Repository, item: Item, name: str) -> None:
    if name in item.labels:
        return
    item.labels.append(name)
    item.updated = call.state.now()
    hooks.issue(call.state, "labeled", repo, item, call.caller.who, label=shapes.label(call.state, repo, name))


async def add_labels(call: Call) -> web.Response:
    repo = call.repo("issues", "write")
    if call.caller.token is None and access._ROLE_LEVEL[call.state.role(repo, call.caller.who)] < 1:
        raise ApiError(403, "Must have triage access to label")
    item = call.state.item(repo, call.number())
    for name in call.body.get("labels", []):
        _label(call, repo, item, name)
    return web.json_response([shapes.label(call.state, repo, name) for name in item.labels])


async def remove_label(call: Call) -> web.Response:
    repo = call.repo("issues", "write")
    item = call.state.item(repo, call.number())
    name = call.request.match_info["label"]
    if name not in item.labels:
        raise ApiError(404, "Label does not exist")
    item.labels.remove(name)
    hooks.issue(call.state, "unlabeled", repo, item, call.caller.who, label=shapes.label(call.state, repo, name))
    return web.json_response([shapes.label(call.state, repo, other) for other in item.labels])


async def create_comment(call: Call) -> web.Response:
    repo = call.repo("issues", "write")
    item = call.state.item(repo, call.number())
    if item.locked and (call.caller.token is not None or call.state.role(repo, call.caller.who) == "read"):
        raise ApiError(403, "Unable to create comment because issue is locked.")
    now = call.state.now()
    found = {
        "id": call.state.next_id(),
        "body": call.text("body"),
        "user": call.caller.who,
        "created": now,
        "updated": now,
    }
    item.comments.append(found)
    hooks.comment(call.state, "created", repo, item, found, call.caller.who)
    return web.json_response(shapes.comment(call.state, repo, item, found), status=201)


async def list_comments(call: Call) -> web.Response:
    repo = call.repo("issues")
    item = call.state.item(repo, call.number())
    return page(call, [shapes.comment(call.state, repo, item, found) for found in item.comments])


def _comment(call: Call, repo: Repository) -> tuple[Item, Json]:
    wanted = int(call.request.match_info["comment"])
    for item in repo.items.values():
        for found in item.comments:
            if found["id"] == wanted:
                return item, found
    raise ApiError(404, "Not Found")


async def get_comment(call: Call) -> web.Response:
    repo = call.repo("issues")
    item, found = _comment(call, repo)
    return web.json_response(shapes.comment(call.state, repo, item, found))


async def patch_comment(call: Call) -> web.Response:
    repo = call.repo("issues", "write")
    item, found = _comment(call, repo)
    before = found["body"]
    found["body"], found["updated"] = call.text("body"), call.state.now()
    hooks.comment(call.state, "edited", repo, item, found, call.caller.who, changes={"body": {"from": before}})
    return web.json_response(shapes.comment(call.state, repo, item, found))


async def delete_comment(call: Call) -> web.Response:
    repo = call.repo("issues", "write")
    item, found = _comment(call, repo)
    item.comments.remove(found)
    hooks.comment(call.state, "deleted", repo, item, found, call.caller.who)
    return web.Response(status=204)
