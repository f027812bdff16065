"""`interlock demo`: the main job from a labelled issue to the base branch, on this machine alone.

Every part is a process of its own: the stand-in GitHub, the bot as `interlock serve`, the Copilot CLI in its sandbox,
and, where the user has no model, a scripted one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import click
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from bot.cli import demo_report, timeline
from bot.cli.configuration import PREFIX
from bot.cli.local_github import LocalGitHub, Made, git, process
from bot.cli.person import Person
from bot.errors import Misconfigured, Rejected

SAMPLE = Path(__file__).resolve().parent.parent / "standin" / "sample"
REQUESTER, REVIEWER = "alice", "bob"


@dataclass(frozen=True)
class Scene:
    """What the demo works on."""

    repo: Path
    full_name: str
    title: str
    body: str
    answers: tuple[str, ...]
    own_model: bool
    folder: Path


@click.command()
@click.option("--repo", type=click.Path(path_type=Path, exists=True, file_okay=False), help="a git repository of yours")
@click.option(
    "--issue", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Markdown; first line the title"
)
@click.option(
    "--answers", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="the n-th line answers question n"
)
@click.option("--json", "as_json", is_flag=True, help="one JSON document instead of the report")
@click.option(
    "--keep", type=click.Path(path_type=Path, file_okay=False), help="keep everything of this run in a folder"
)
def demo(repo: Path | None, issue: Path | None, answers: Path | None, as_json: bool, keep: Path | None) -> None:
    """Run the main job on this machine: the real Copilot CLI, a local GitHub, a person played for you."""
    folder = keep or Path(tempfile.mkdtemp(prefix="interlock-demo-"))
    if keep and keep.exists() and any(keep.iterdir()):
        raise Misconfigured(f"{keep} is not empty: name a new folder for --keep")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        result = asyncio.run(_run(folder, repo, issue, answers, quiet=as_json))
        click.echo(json.dumps(result.document, indent=2) if as_json else result.text)
        sys.exit(0 if result.landed else 1)
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


async def _run(
    folder: Path, repo: Path | None, issue: Path | None, answers: Path | None, *, quiet: bool
) -> demo_report.Result:
    own_model = bool(os.environ.get("COPILOT_PROVIDER_BASE_URL") or os.environ.get("COPILOT_GITHUB_TOKEN"))
    if (repo is not None or issue is not None) and not own_model:
        raise Misconfigured(
            "the scripted model knows the sample project and its issue only: set COPILOT_PROVIDER_BASE_URL (with "
            "COPILOT_MODEL and COPILOT_PROVIDER_API_KEY) or COPILOT_GITHUB_TOKEN, or leave --repo and --issue away"
        )
    title, body = _issue(issue or SAMPLE / "issue.md")
    lines = (answers or SAMPLE / "answers.txt").read_text("utf-8").splitlines() if answers or not issue else []
    source = repo or await _sample(folder / "pantry")
    name = f"octo/{_name(source)}"
    scene = Scene(source, name, title, body, tuple(line.strip() for line in lines), own_model, folder)
    began = time.monotonic()

    def say(text: str) -> None:
        click.echo(f"{time.monotonic() - began:6.1f} s  {text}", err=quiet)

    async with _actors(scene, say) as (github, made, bot_log, server):
        person = await _open_issue(scene, github, made, say)
        follower = asyncio.create_task(timeline.follow(bot_log, say))
        failure = ""
        try:
            await _until_closed(person, github, server)
        except Rejected as error:
            failure = str(error)
            say(failure)
        await timeline.until_quiet(github)
        follower.cancel()
        seconds = time.monotonic() - began
        state = await demo_report.observe(person, github, made)
    return await demo_report.make(scene.folder / "data", state, seconds, scripted=not own_model, failure=failure)


async def _until_closed(person: Person, github: LocalGitHub, server: asyncio.subprocess.Process) -> None:
    sequence = 0
    while not await person.act():
        if server.returncode is not None:
            raise Rejected(f"the bot ended with exit code {server.returncode}")
        waiting = asyncio.ensure_future(github.wait(sequence, 5.0))
        ended = asyncio.ensure_future(server.wait())
        await asyncio.wait({waiting, ended}, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        sequence = await waiting


def _issue(path: Path) -> tuple[str, str]:
    title, _, body = path.read_text("utf-8").strip().partition("\n")
    if not title.strip():
        raise Misconfigured(f"{path} is empty: its first line is the issue's title")
    return title.lstrip("# ").strip(), body.strip()


def _name(path: Path) -> str:
    name = "".join(
        char if char.isascii() and (char.isalnum() or char in "._-") else "-" for char in path.resolve().name
    )
    return name.removesuffix(".git").strip(".-") or "project"


async def _sample(folder: Path) -> Path:
    await asyncio.to_thread(shutil.copytree, SAMPLE / "project", folder, ignore=shutil.ignore_patterns("__pycache__"))
    identity = ("-c", "user.name=Alice", "-c", "user.email=alice@example.org")
    await git(folder, "init", "-q", "--initial-branch=main")
    await git(folder, "add", "--all")
    await git(folder, *identity, "commit", "-q", "-m", "Keep a list of what is in the kitchen")
    return folder


@asynccontextmanager
async def _actors(
    scene: Scene, say: Callable[[str], None]
) -> AsyncIterator[tuple[LocalGitHub, Made, Path, asyncio.subprocess.Process]]:
    """Stand-in, model and bot, each ready."""
    folder = scene.folder
    plain = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "COPILOT_"))}
    model = {name: value for name, value in os.environ.items() if name.startswith("COPILOT_")}
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        started = process("bot.standin.main", "--data", str(folder / "github"), env=plain, log=folder / "github.log")
        _, url = await stack.enter_async_context(started)
        github = LocalGitHub(url, session)
        say(f"a local GitHub listens on {url}")
        if not scene.own_model:
            book = str(SAMPLE / "playbook.json")
            _, model_url = await stack.enter_async_context(
                process("bot.standin.model", "--playbook", book, env=plain, log=folder / "model.log")
            )
            model = {"COPILOT_PROVIDER_BASE_URL": model_url, "COPILOT_MODEL": "scripted"}
            say("a scripted model that knows the sample listens on loopback")
        for login in (REQUESTER, REVIEWER):
            await github.user(login)
        made = await github.push(scene.repo, scene.full_name, {REQUESTER: "write", REVIEWER: "admin"})
        say(f"pushed {scene.repo.name} at {made.head[:12]} as {made.full_name}, branch {made.branch}")
        bot_env = {**plain, **model, **await _register(scene, github, url)}
        log = folder / "bot.log"
        server, line = await stack.enter_async_context(
            process("bot.cli.main", "serve", env=bot_env, log=log, cwd=folder)
        )
        await github.control("app", {"webhook_url": line.split()[1]})
        say("the bot is ready; its GitHub App is installed")
        yield github, made, log, server


async def _register(scene: Scene, github: LocalGitHub, url: str) -> dict[str, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    place = scene.folder / "app.pem"
    place.touch(mode=0o600)
    place.write_bytes(pem)
    app = await github.control("app", {"public_key": public.decode(), "secret": "demo-secret"})
    settings = {
        "DATA_DIR": str(scene.folder / "data"), "PORT": "0", "ADMIN_PORT": "0", "GITHUB_API_URL": url,
        "GITHUB_WEB_URL": url, "GIT_URL": f"{url}/{{owner}}/{{repo}}.git", "APP_ID": str(app["app_id"]),
        "PRIVATE_KEY_FILE": str(place), "WEBHOOK_SECRET": "demo-secret",
    }  # fmt: skip
    return {f"{PREFIX}{name}": value for name, value in settings.items()}


async def _open_issue(scene: Scene, github: LocalGitHub, made: Made, say: Callable[[str], None]) -> Person:
    path = f"/repos/{made.full_name}/issues"
    issue = await github.as_user(REQUESTER, "POST", path, {"title": scene.title, "body": scene.body})
    say(f"{REQUESTER} opens issue #{issue['number']}: {scene.title}")
    await github.as_user(REQUESTER, "POST", f"{path}/{issue['number']}/labels", {"labels": ["interlock"]})
    say(f"{REQUESTER} labels it `interlock`")
    answers: Sequence[str] = scene.answers
    return Person(github, made, issue["number"], answers, say, REQUESTER, REVIEWER)
