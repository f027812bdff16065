"""`interlock setup`: registers the GitHub App by GitHub's manifest flow, and keeps what only we may know.

A page on loopback sends app.yml to GitHub; GitHub asks the person and sends the browser back with a code; the code is
exchanged once for the App's id, private key and webhook secret. The client secret is not kept: we act for nobody.
"""

import asyncio
import hmac
import json
import os
import secrets
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
import click
import yaml
from aiohttp import web

from bot.cli.configuration import FILE, MANIFEST, read_settings
from bot.disk import keep_names
from bot.errors import Misconfigured, Rejected
from schemas.settings import Settings

HOUR = 3600.0
"""GitHub's patience with a code, and ours with the person."""
NO_HOOK = "https://example.org/webhook"
"""A manifest must name an address even for a hook that is off."""
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Interlock setup</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 40rem; margin: 3rem auto; padding: 0 1rem;
color-scheme: light dark; }} button {{ font: inherit; padding: .5rem 1rem; }}</style></head><body>{body}</body></html>"""
START = """<h1>Register Interlock on GitHub</h1><p>{web} will ask you for a name and show what the App may do. It then
sends you back here.</p><form method="post" action="{action}"><input type="hidden" name="manifest" value="{manifest}">
<button>Continue to GitHub</button></form>"""
DONE = """<h1>{name} is registered</h1><p>Its key and secret are on this machine, readable by you alone.</p>
<p><a href="{install}">Install it on your repositories</a>, then go back to the terminal.</p>"""


@click.command()
@click.option("--webhook-url", help="where GitHub reaches this server, such as https://interlock.example.com/webhook")
@click.option("--poll", is_flag=True, help="GitHub cannot reach this machine: interlock serve --poll will ask it")
@click.option("--org", help="register it for this organisation [default: for you]")
@click.option("--github", help="your GitHub Enterprise Server, such as https://github.example.com")
@click.option("--name", default="Interlock", show_default=True, help="a first suggestion; it must be free on GitHub")
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default="a free one", help="of the local page")
def setup(webhook_url: str | None, poll: bool, org: str | None, github: str | None, name: str, port: int) -> None:
    """Register the GitHub App and store its credentials."""
    if (webhook_url is None) != poll:
        raise Misconfigured("say where GitHub reaches this server (--webhook-url https://...), or --poll if it cannot")
    if webhook_url and (urlsplit(webhook_url).scheme not in ("http", "https") or not urlsplit(webhook_url).hostname):
        raise Misconfigured(
            f"--webhook-url {webhook_url!r} is no address: it begins with https:// and ends in /webhook"
        )
    settings = read_settings()
    places: dict[str, Any] = {}
    if github:
        root = github.rstrip("/")
        places = {
            "github_web_url": root,
            "github_api_url": f"{root}/api/v3",
            "git_url": f"{root}/{{owner}}/{{repo}}.git",
        }
    if known := {"app_id", "private_key_file", "webhook_secret_file", *places} & settings.model_fields_set:
        names = ", ".join(sorted(known))
        raise Misconfigured(f"set already: {names}. Take it out of {FILE} and the environment, if you mean another App")
    if settings.webhook_secret.get_secret_value():
        raise Misconfigured(f"WEBHOOK_SECRET is set already, and GitHub will make one: take it out of {FILE} first")
    settings = settings.model_copy(update=places)
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    for folder in (settings.data_dir, Path()):
        if not os.access(folder, os.W_OK):  # GitHub tells the key once; it must not be lost here
            raise Misconfigured(f"{folder.resolve()} cannot be written: run this as the server's user")
    manifest = yaml.safe_load(MANIFEST.read_text("utf-8"))
    manifest |= {"name": name, "hook_attributes": {"url": webhook_url or NO_HOOK, "active": not poll}}
    found = asyncio.run(_register(settings, manifest, org, port))
    kept = _keep(settings.data_dir.resolve(), found, places)
    click.echo(
        f"{found['name']} (id {found['id']}) is registered; {kept} and {Path(FILE).resolve()} hold what it needs"
    )
    click.echo(f"Install it on your repositories: {found['html_url']}/installations/new")
    click.echo(f"Then run: interlock doctor, and interlock serve{' --poll' if poll else ''}")


async def _register(settings: Settings, manifest: dict[str, Any], org: str | None, port: int) -> dict[str, Any]:
    """What GitHub made of the manifest. Raises Rejected if nobody came back in time, Transient."""
    entry, state = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    registered = asyncio.get_running_loop().create_future()
    account = f"organizations/{quote(org, safe='')}/" if org else ""
    action = f"{settings.github_web_url}/{account}settings/apps/new?state={state}"
    runner = web.AppRunner(web.Application(), access_log=None, shutdown_timeout=1.0)

    async def start(request: web.Request) -> web.Response:
        fields = {"web": settings.github_web_url, "action": action, "manifest": json.dumps(manifest)}
        return _page(START.format(**{key: escape(value) for key, value in fields.items()}), settings.github_web_url)

    async def back(request: web.Request) -> web.Response:
        given, code = request.query.get("state", ""), request.query.get("code", "")
        if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), state.encode()) or not code:
            return web.Response(status=400, text="This answer is to no question of ours.")
        if registered.done():
            return web.Response(status=410, text="The App is registered already.")
        try:
            found = await _converted(settings.github_api_url, code)
        except Rejected as error:
            return web.Response(status=502, text=f"{error} Begin again at the terminal's address.")
        if not registered.done():
            registered.set_result(found)
        name, install = escape(found["name"]), escape(f"{found['html_url']}/installations/new")
        return _page(DONE.format(name=name, install=install), settings.github_web_url)

    runner.app.router.add_get(f"/{entry}", start)
    runner.app.router.add_get("/registered", back)
    try:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        here = f"http://127.0.0.1:{runner.addresses[0][1]}"
        manifest["redirect_url"] = f"{here}/registered"
        click.echo(f"Open {here}/{entry}")
        click.echo(
            f"(from another machine first: ssh -L {runner.addresses[0][1]}:127.0.0.1:{runner.addresses[0][1]} here)"
        )
        async with asyncio.timeout(HOUR):
            found: dict[str, Any] = await registered
            return found
    except TimeoutError:
        raise Rejected("nobody came back from GitHub within an hour: run interlock setup again") from None
    finally:
        await runner.cleanup()


def _page(body: str, github: str) -> web.Response:
    # The browser checks a form's redirects too, which lead from GitHub back to us.
    policy = f"default-src 'none'; style-src 'unsafe-inline'; form-action {github} 'self'; frame-ancestors 'none'"
    headers = {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
    return web.Response(text=PAGE.format(body=body), content_type="text/html", headers=headers)


async def _converted(api_url: str, code: str) -> dict[str, Any]:
    """The App that a code stands for, once. Raises Rejected."""
    url = f"{api_url}/app-manifests/{quote(code, safe='')}/conversions"
    try:
        async with aiohttp.request("POST", url, headers={"Accept": "application/vnd.github+json"}) as answer:
            if answer.status != 201:
                raise Rejected(f"GitHub answered {answer.status} to the code: it is good for one hour, once.")
            found: dict[str, Any] = await answer.json()
            return found
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise Rejected(f"GitHub could not be reached ({type(error).__name__}).") from None


def _keep(data_dir: Path, found: dict[str, Any], places: dict[str, Any]) -> Path:
    """Key and secret in files of their own that bear the App's id, so that none is overwritten; settings.yml last."""
    key, secret = data_dir / f"app-{found['id']}.pem", data_dir / f"webhook-secret-{found['id']}"
    _write(key, found["pem"])
    _write(secret, found.get("webhook_secret") or secrets.token_hex(32))
    more = {"app_id": found["id"], "private_key_file": str(key), "webhook_secret_file": str(secret), **places}
    file = Path(FILE).resolve()
    before = file.read_text("utf-8").rstrip("\n") + "\n" if file.exists() else ""
    _write(file, before + yaml.safe_dump(more, sort_keys=False))
    return data_dir


def _write(path: Path, text: str) -> None:
    """The whole file or none of it, on disk, for its owner alone."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)
    keep_names(path.parent)
