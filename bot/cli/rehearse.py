"""`interlock rehearse OWNER/REPO`: the main job with a scripted agent on the user's own GitHub, compared with the stand-in."""

import asyncio
import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import click
from pydantic import SecretStr

from bot.cli.configuration import PREFIX, read_settings
from bot.cli.text import echo_json, plain
from bot.errors import Misconfigured
from bot.standin import rehearsal
from bot.standin.client import started
from bot.standin.person import Say
from bot.store.database import examined
from schemas.settings import Settings

REFERENCE_SECONDS = 240.0


@click.command()
@click.argument("full_name", metavar="OWNER/REPO")
@click.option("--yes", is_flag=True, help="commits, an issue, comments and check runs may be made there, and removed")
@click.option("--minutes", type=click.FloatRange(0.1), default=15.0, show_default=True, help="until it is given up")
@click.option("--poll", is_flag=True, help="GitHub cannot reach this machine")
@click.option("--json", "as_json", is_flag=True)
def rehearse(full_name: str, yes: bool, minutes: float, poll: bool, as_json: bool) -> None:
    """Run the main job on a throw-away repository of your GitHub, and name what differs from the stand-in.

    The App must be installed there; GITHUB_TOKEN must hold the token of a person who may write there and acts as the people.
    """
    settings, token = read_settings(), os.environ.get("GITHUB_TOKEN", "")
    if not token:
        raise Misconfigured("GITHUB_TOKEN is not set: give the token of a person who may write there (gh auth token)")
    if full_name.count("/") != 1:
        raise Misconfigured(f"{full_name!r} is no OWNER/REPO")
    if "in use by process" in (used := examined(settings.data_dir / "interlock.db").said):
        raise Misconfigured(f"{used}: stop the server first, or both would work on {full_name}")
    if not yes:
        raise Misconfigured(f"{full_name} gets commits, an issue, comments and check runs: say --yes if it may")

    def say(text: str) -> None:
        click.echo(plain(text), err=True)

    with TemporaryDirectory(prefix="interlock-rehearsal-", ignore_cleanup_errors=True) as place:
        failure, found = asyncio.run(_compare(Path(place), settings, full_name, token, minutes * 60, poll, say))
    if as_json:
        echo_json({"landed": not failure, "failure": failure, "differences": found})
    else:
        for line in (*found, f"not landed: {failure}" if failure else "landed", f"{len(found)} differences"):
            click.echo(plain(line))
    sys.exit(1 if failure else 0)


async def _compare(
    folder: Path, settings: Settings, full_name: str, token: str, seconds: float, poll: bool, say: Say
) -> tuple[str, list[str]]:
    """Why it did not land there (or nothing), and the differences. Raises NoScene before anything is made."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("COPILOT_", PREFIX, "GITHUB_"))}
    login = await _login(settings.github_api_url, token)
    there = rehearsal.Stage(
        settings.github_api_url, settings.git_url, full_name, login, token, bare | _variables(settings), poll=poll
    )
    here, elsewhere = folder / "standin", folder / "github"
    for place in (here, elsewhere):
        place.mkdir()
    async with started(here, bare) as local:
        name = f"octo/{rehearsal.MARK}"
        await local.control("repositories", {"full_name": name, "roles": {"alice": "write"}})
        own = {"APP_ID": str(await local.register_app(here / "app.pem", "rehearsal")), "WEBHOOK_SECRET": "rehearsal",
               "PRIVATE_KEY_FILE": str(here / "app.pem"), "PORT": "0", "ADMIN_PORT": "0",
               "GIT_URL": f"{local.url}/{{owner}}/{{repo}}.git"}  # fmt: skip
        user = (await local.control("users", {"login": "alice"}))["token"]
        reference = rehearsal.Stage(
            local.url, own["GIT_URL"], name, "alice", user, bare | {f"{PREFIX}{k}": v for k, v in own.items()}, local
        )
        say("on the stand-in, for comparison")
        if failure := await rehearsal.play(reference, here, REFERENCE_SECONDS, lambda _: None):
            raise Misconfigured(f"the job does not even land on the stand-in ({failure}): run interlock doctor")
    say(f"on {full_name}")
    failure = await rehearsal.play(there, elsewhere, seconds, say)
    return failure, rehearsal.differences(reference.exchanges, there.exchanges)


def _variables(settings: Settings) -> dict[str, str]:
    """These settings for a process in another directory."""
    found: dict[str, str] = {}
    for name, value in settings.model_dump(
        exclude={"webhook_secret_file", "api_token_file"}, exclude_none=True
    ).items():
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        elif isinstance(value, tuple):
            value = json.dumps(value)
        found[f"{PREFIX}{name.upper()}"] = str(value.resolve() if isinstance(value, Path) else value)
    return found


async def _login(api_url: str, token: str) -> str:
    async with aiohttp.request("GET", f"{api_url}/user", headers={"Authorization": f"Bearer {token}"}) as answer:
        if answer.status != 200:
            raise Misconfigured(f"GITHUB_TOKEN is not known at {api_url} ({answer.status})")
        return str((await answer.json())["login"])
