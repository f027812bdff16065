"""`interlock demo`: the main job from a labelled issue to the base branch, on this machine alone.

Every part is a process of its own: the stand-in GitHub, the bot as `interlock serve`, the Copilot CLI in its sandbox,
and, where the user has no model, a scripted one.
"""

import asyncio
import json
import os
import signal
import sys
import time
from asyncio.subprocess import Process
from contextlib import AsyncExitStack, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from bot.cli import demo_report
from bot.cli.configuration import PREFIX
from bot.cli.options import FILE, FOLDER
from bot.errors import Misconfigured
from bot.standin import timeline
from bot.standin.client import PEOPLE, SAMPLE, LocalGitHub, Made, make_sample, name_for, process, started
from bot.standin.errors import Refused
from bot.standin.person import Person, Say, open_issue

SECRET = "demo-secret"
STEPS = """Open {place} in a browser and pick who you are at the top of the page. Then
  1. as alice, add the label `interlock` to the issue; answer the questions in a comment
  2. as bob, comment with the line that approves the plan
  3. as bob, look at the pull request's changes and send a review that approves
Who waits on what: {admin}/queue. Ctrl-C ends everything."""


@click.command()
@click.option("--repo", type=FOLDER, help="a git repository of yours")
@click.option("--issue", type=FILE, help="Markdown; first line the title")
@click.option("--answers", type=FILE, help="the n-th line answers question n")
@click.option("--interactive", is_flag=True, help="you are the person, in your browser")
@click.option("--json", "as_json", is_flag=True, help="one JSON document instead of the report")
@click.option(
    "--keep", type=click.Path(path_type=Path, file_okay=False), help="keep everything of this run in a folder"
)
def demo(
    repo: Path | None, issue: Path | None, answers: Path | None, interactive: bool, as_json: bool, keep: Path | None
) -> None:
    """Run the main job on this machine: the real Copilot CLI, a local GitHub, a person played for you."""
    if interactive and answers:
        raise Misconfigured("--answers is for the person who is played for you: leave it away with --interactive")
    if keep and keep.exists() and any(keep.iterdir()):
        raise Misconfigured(f"{keep} is not empty: name a new folder for --keep")
    own = nullcontext(str(keep)) if keep else TemporaryDirectory(prefix="interlock-demo-", ignore_cleanup_errors=True)
    with own as place:
        folder = Path(place).resolve()  # the bot runs in it
        folder.mkdir(parents=True, exist_ok=True)
        result = asyncio.run(_run(folder, repo, issue, answers, interactive=interactive, quiet=as_json))
    click.echo(json.dumps(result.document, indent=2) if as_json else result.text)
    sys.exit(0 if result.landed else 1)


async def _run(
    folder: Path, repo: Path | None, issue: Path | None, answers: Path | None, *, interactive: bool, quiet: bool
) -> demo_report.Result:
    own_model = bool(os.environ.get("COPILOT_PROVIDER_BASE_URL") or os.environ.get("COPILOT_GITHUB_TOKEN"))
    if (repo or issue) and not own_model:
        raise Misconfigured(
            "the scripted model knows the sample project and its issue only: set COPILOT_PROVIDER_BASE_URL (with "
            "COPILOT_MODEL and COPILOT_PROVIDER_API_KEY) or COPILOT_GITHUB_TOKEN, or leave --repo and --issue away"
        )
    title, _, body = (issue or SAMPLE / "issue.md").read_text("utf-8").strip().partition("\n")
    if not title.strip():
        raise Misconfigured(f"{issue} is empty: its first line is the issue's title")
    if not answers and not issue:
        answers = SAMPLE / "answers.txt"
    lines = [line.strip() for line in answers.read_text("utf-8").splitlines()] if answers else []
    source = repo or await make_sample(folder / "pantry")
    began = time.monotonic()

    def say(text: str) -> None:
        click.echo(f"{time.monotonic() - began:6.1f} s  {text}", err=quiet)

    async with AsyncExitStack() as stack:
        github, made, server, admin = await _actors(stack, folder, source, say, own_model=own_model)
        title, body = title.lstrip("# ").strip(), body.strip()
        if interactive and repo and not issue:
            person = Person(github, made, 0, (), say)
        else:
            person = await open_issue(github, made, title, body, lines, say, label=not interactive)
        follower = asyncio.create_task(timeline.follow(folder / "bot.log", say))
        if interactive:
            place = f"{github.url}/{made.full_name}/issues/{person.issue or 'new'}"
            click.echo(STEPS.format(place=place, admin=admin), err=quiet)
            failure = await _until_landed(person, server)
        else:
            failure = await _until_closed(person, server)
        if failure:
            say(failure)
        await github.quiet()
        follower.cancel()
        seconds, seen = time.monotonic() - began, await person.look_back()
        story = demo_report.Story(person, seen, seconds, not own_model, failure, played=not interactive)
    return await demo_report.make(folder / "data", story)


async def _actors(
    stack: AsyncExitStack, folder: Path, source: Path, say: Say, *, own_model: bool
) -> tuple[LocalGitHub, Made, Process, str]:
    """Stand-in, model and bot, each ready, until the stack is closed; and the bot's admin address."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "COPILOT_"))}
    model = {name: value for name, value in os.environ.items() if name.startswith("COPILOT_")}
    github = await stack.enter_async_context(started(folder, plain))
    say(f"a local GitHub listens on {github.url}")
    if not own_model:
        command = ("bot.standin.model", "--playbook", str(SAMPLE / "playbook.json"))
        _, url = await stack.enter_async_context(process(*command, env=plain, log=folder / "model.log"))
        model = {"COPILOT_PROVIDER_BASE_URL": url, "COPILOT_MODEL": "scripted"}
        say("a scripted model that knows the sample listens on loopback")
    made = await github.push(source, name_for(source), PEOPLE)
    say(f"pushed {source.name} at {made.head[:12]} as {made.full_name}, branch {made.branch}")
    app_id = await github.register_app(folder / "app.pem", SECRET)
    settings = {
        "DATA_DIR": str(folder / "data"), "PORT": "0", "ADMIN_PORT": "0", "GITHUB_API_URL": github.url,
        "GITHUB_WEB_URL": github.url, "GIT_URL": f"{github.url}/{{owner}}/{{repo}}.git", "APP_ID": str(app_id),
        "PRIVATE_KEY_FILE": str(folder / "app.pem"), "WEBHOOK_SECRET": SECRET,
    }  # fmt: skip
    env = plain | model | {f"{PREFIX}{name}": value for name, value in settings.items()}
    bot = process("bot.cli.main", "serve", env=env, log=folder / "bot.log", cwd=folder)
    server, line = await stack.enter_async_context(bot)
    await github.control("app", {"webhook_url": line.split()[1]})
    say("the bot is ready; its GitHub App is installed")
    return github, made, server, line.split()[3]


async def _until_closed(person: Person, server: Process) -> str:
    """Let the person act until the issue is closed. Why it will never be; empty if it is."""
    sequence = 0
    try:
        while not await person.act():
            if server.returncode is not None:
                return f"the bot ended with exit code {server.returncode}"
            sequence = await person.github.wait(sequence, 5.0)
    except Refused as error:
        return str(error)
    return ""


async def _until_landed(person: Person, server: Process) -> str:
    """Until a pull request of the bot's is merged and its issue is closed, whichever issue that is; `person` is then
    who asked for that. Why nothing landed; empty if something did."""
    stop, sequence, path = asyncio.Event(), 0, f"/repos/{person.repo.full_name}"
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    while not stop.is_set():
        if server.returncode is not None:
            return f"the bot ended with exit code {server.returncode}"
        for pull in await person.github.as_user(person.reviewer, "GET", f"{path}/pulls?state=closed"):
            branch, _, number = pull["head"]["ref"].partition("/")
            if pull["merged_at"] and branch == "interlock":
                person.issue = int(number.split("-")[0])
                issue = await person.github.as_user(person.reviewer, "GET", f"{path}/issues/{person.issue}")
                if issue["state"] == "closed":
                    return ""
        sequence = await person.github.wait(sequence, 1.0)
    return "you ended it before a change had landed"
