"""How an App comes to be: a manifest, a page to confirm it, a code for its secrets, a page to install it. And what GitHub
tells an App of itself: its hook, its installations, their repositories.
"""

from __future__ import annotations

import json
import re
import secrets
from datetime import timedelta
from html import escape
from urllib.parse import urlencode

from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from bot.standin import shapes
from bot.standin.rest import Call, page
from bot.standin.state import ApiError, App, Json, State, User

CODE_LIFE = timedelta(hours=1)
VERSIONS = ["2022-11-28", "2026-03-10"]


def _page(title: str, body: str) -> web.Response:
    text = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><body>{body}</body></html>'
    )
    return web.Response(text=text, content_type="text/html")


def _form(title: str, action: str, fields: str, button: str) -> web.Response:
    body = (
        f'<h1>{title}</h1><form method="post" action="{escape(action)}">{fields}<p><button>{button}</button></p></form>'
    )
    return _page(title, body)


def _refused(why: str) -> web.Response:
    return web.Response(status=422, text=f"Invalid GitHub App configuration: {why}")


def routes(state: State) -> list[web.RouteDef]:
    """The pages, for whoever is at the browser."""
    drafts: dict[str, tuple[Json, str, str]] = {}

    async def new(request: web.Request) -> web.Response:
        try:
            manifest = json.loads(str((await request.post()).get("manifest", "")))
            hook = manifest["hook_attributes"]["url"] if "hook_attributes" in manifest else ""
            required = [manifest["url"], manifest["redirect_url"]]
        except (ValueError, TypeError, KeyError) as error:
            return _refused(f"{type(error).__name__}: {error}")
        if not all(re.match(r"https?://", url) for url in (*required, hook or "http://")):
            return _refused("an address is no URL")
        draft = secrets.token_urlsafe(16)
        drafts[draft] = (manifest, request.query.get("state", ""), request.match_info.get("org", ""))
        asked = "".join(f"<li>{escape(k)}: {escape(v)}</li>" for k, v in manifest["default_permissions"].items())
        name = escape(manifest.get("name", ""))
        fields = (
            f'<p><label>GitHub App name <input name="name" value="{name}" required maxlength="34"></label></p>'
            f'<input type="hidden" name="draft" value="{draft}"><p>It will be able to use</p><ul>{asked}</ul>'
        )
        return _form("Create GitHub App", f"{state.prefix}/settings/apps/create", fields, "Create GitHub App")

    async def create(request: web.Request) -> web.Response:
        form = await request.post()
        found = drafts.pop(str(form.get("draft")), None)
        if found is None:
            return _refused("the form was sent before")
        manifest, sent_state, org = found
        pem, public = _keys()
        name, hook = str(form["name"]), manifest.get("hook_attributes", {})
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        active = bool(hook.get("active", True)) and bool(hook.get("url"))
        state.app = App(
            id=state.next_id(), slug=slug, public_key=public, webhook_url=hook["url"] if active else "",
            secret=secrets.token_hex(20), installation=0, bot=User(state.next_id(), f"{slug}[bot]", "Bot"),
            permissions=manifest["default_permissions"],
        )  # fmt: skip
        state.app.more |= {"events": manifest.get("default_events", []), "name": name, "hook_url": hook.get("url", "")}
        if org:
            state.app.more["org"] = org
        code = secrets.token_hex(20)
        state.codes[code] = (state.now() + CODE_LIFE, pem)
        raise web.HTTPFound(f"{manifest['redirect_url']}?{urlencode({'code': code, 'state': sent_state})}")

    async def choose(request: web.Request) -> web.Response:
        names = "".join(f"<li>{escape(repo.full_name)}</li>" for repo in state.repositories.values())
        return _form("Install Interlock", request.path, f"<p>On all repositories:</p><ul>{names}</ul>", "Install")

    async def install(request: web.Request) -> web.Response:
        if state.app is None or state.app.slug != request.match_info["slug"]:
            raise web.HTTPNotFound(text="no such App")
        state.app.installation = state.app.installation or state.next_id()
        state.touch()
        return _page("Installed", "<h1>Installed</h1>")

    async def change(request: web.Request) -> web.Response:
        """Control: what GitHub would say of the App, its hook and its installation; a branch's rules."""
        if state.app is not None:
            body = await request.json()
            state.app.permissions = body.pop("permissions", state.app.permissions)
            state.app.more |= body
        return web.json_response({})

    return [
        web.post("/settings/apps/new", new),
        web.post("/organizations/{org}/settings/apps/new", new),
        web.post("/settings/apps/create", create),
        web.get("/apps/{slug}/installations/new", choose),
        web.post("/apps/{slug}/installations/new", install),
        web.post("/_standin/registration", change),
    ]


def _keys() -> tuple[str, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    return private.decode(), key.public_key().public_bytes(serialization.Encoding.PEM, kind).decode()


def _app(call: Call) -> App:
    if call.caller.app is None:
        raise ApiError(401, "A JSON web token could not be decoded")
    return call.caller.app


async def convert(call: Call) -> web.Response:
    """A code for the App's secrets, once."""
    until, pem = call.state.codes.pop(call.request.match_info["code"], (call.state.now(), ""))
    app = call.state.app
    if not pem or until <= call.state.now() or app is None:
        raise ApiError(404, "Not Found")
    found = shapes.app(call.state) or {}
    secret = {"client_secret": secrets.token_hex(20), "webhook_secret": app.secret if app.webhook_url else None}
    return web.json_response({**found, **secret, "pem": pem}, status=201)


async def hook_config(call: Call) -> web.Response:
    app = _app(call)
    config = {"content_type": "json", "insecure_ssl": "0", "url": app.more.get("hook_url") or app.webhook_url}
    config |= {"secret": "********"} if app.secret else {}
    return web.json_response(config | app.more.get("hook", {}))


def _installation(call: Call, app: App) -> Json:
    account = shapes.user(call.state, call.state.user(app.more.get("account", "octo")))
    html = f"{call.state.url}/settings/installations/{app.installation}"
    api = f"{call.state.url}/app/installations/{app.installation}"
    return {
        "id": app.installation, "account": account, "repository_selection": "all", "app_id": app.id, "app_slug": app.slug,
        "access_tokens_url": f"{api}/access_tokens", "repositories_url": f"{call.state.url}/installation/repositories",
        "html_url": html, "target_id": account["id"], "target_type": "User",
        "permissions": app.more.get("granted", app.permissions), "events": app.more.get("events", []),
        "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z", "single_file_name": None,
        "has_multiple_single_files": False, "single_file_paths": [], "suspended_by": None,
        "suspended_at": app.more.get("suspended_at"),
    }  # fmt: skip


async def installations(call: Call) -> web.Response:
    app = _app(call)
    return page(call, [_installation(call, app)] if app.installation else [])


async def installation_repositories(call: Call) -> web.Response:
    token = call.caller.token
    if token is None:
        raise ApiError(403, "Resource not accessible by integration")
    listed = [
        shapes.repository(call.state, repo)
        for repo in call.state.repositories.values()
        if token.repositories is None or repo.id in token.repositories
    ]
    paged = page(call, listed)
    body = {"total_count": len(listed), "repository_selection": "all", "repositories": json.loads(paged.text or "[]")}
    return web.json_response(body, headers={"Link": paged.headers["Link"]} if "Link" in paged.headers else {})


async def versions(call: Call) -> web.Response:
    return web.json_response(VERSIONS, headers={"Date": f"{call.state.now():%a, %d %b %Y %H:%M:%S} GMT"})


async def me(call: Call) -> web.Response:
    if call.caller.user is None or call.caller.token is not None:
        raise ApiError(401, "Requires authentication")
    return web.json_response(shapes.user(call.state, call.caller.user))


async def matching_refs(call: Call) -> web.Response:
    repo, wanted = call.repo("contents"), f"refs/{call.request.match_info['ref']}"
    api = f"{call.state.url}/repos/{repo.full_name}/git"
    found = [
        {
            "ref": ref,
            "node_id": ref,
            "url": f"{api}/{ref}",
            "object": {"type": "commit", "sha": sha, "url": f"{api}/commits/{sha}"},
        }
        for ref, sha in repo.refs().items()
        if ref.startswith(wanted)
    ]
    return web.json_response(found)


async def labels(call: Call) -> web.Response:
    repo = call.repo("issues")
    names = {name for item in repo.items.values() for name in item.labels}
    return page(call, [shapes.label(call.state, repo, name) for name in sorted(names)])


async def delete_label(call: Call) -> web.Response:
    repo, name = call.repo("contents", "write"), call.request.match_info["label"]
    for item in repo.items.values():
        if name in item.labels:
            item.labels.remove(name)
    return web.Response(status=204)


ROOT = [
    ("GET", "/user", me),
    ("GET", "/versions", versions),
    ("POST", "/app-manifests/{code}/conversions", convert),
    ("GET", "/app/hook/config", hook_config),
    ("GET", "/app/installations", installations),
    ("GET", "/installation/repositories", installation_repositories),
]
REPO = [
    ("GET", "/git/matching-refs/{ref:.+}", matching_refs),
    ("GET", "/labels", labels),
    ("DELETE", "/labels/{label}", delete_label),
]
