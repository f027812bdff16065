"""The main job played in front of any GitHub, real or stand-in: what the bot exchanged with it is recorded on the way, and
what was made is removed, whatever failed.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from bot.standin.client import SAMPLE, LocalGitHub, Made, make_sample, process
from bot.standin.errors import NoScene, Refused
from bot.standin.person import Person, Say

MARK = "interlock-rehearsal"
"""In the name of every repository that may be used, and the subject of the commit that is pushed to it."""
POLICY = "approve:\n  by_requester: true\n"
"""Added to the sample's: one person plays all people."""
TITLE, BODY = "Make the list useful outside the terminal", "It should leave the terminal."
_HOP = {"host", "connection", "content-length", "transfer-encoding", "content-encoding", "accept-encoding"}


@dataclass(frozen=True)
class Exchange:
    """One call of the bot's: its path with numbers and names left out, the answer's status, its fields or its words."""

    call: str
    status: int
    fields: frozenset[str]
    words: str = ""


@dataclass
class Stage:
    """A repository on some GitHub, and a person with a token there. `environment` is the bot's."""

    api_url: str
    git_url: str
    full_name: str
    login: str
    token: str
    environment: Mapping[str, str]
    local: LocalGitHub | None = None
    poll: bool = False
    exchanges: list[Exchange] = field(default_factory=list)


class Somewhere(LocalGitHub):
    """One person, whoever is named, on the GitHub of a stage."""

    def __init__(self, stage: Stage, session: aiohttp.ClientSession, pause: float) -> None:
        super().__init__(stage.api_url, session)
        self._stage, self._pause = stage, pause

    async def as_user(self, login: str, method: str, path: str, body: Any = None) -> Any:
        """One REST call."""
        self._tokens[login] = self._stage.token
        return await super().as_user(login, method, path, body)

    async def wait(self, after: int, seconds: float = 10.0) -> int:
        """A real GitHub does not tell when something has changed."""
        if self._stage.local is not None:
            return await self._stage.local.wait(after, seconds)
        await asyncio.sleep(self._pause)
        return after


@asynccontextmanager
async def recorded(stage: Stage) -> AsyncIterator[str]:
    """An address on loopback that passes calls on to the stage's API, and writes them down."""

    async def passed(request: web.Request) -> web.Response:
        body = await request.read()
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        url = f"{stage.api_url}{request.raw_path}"
        try:
            async with session.request(
                request.method, url, headers=headers, data=body, allow_redirects=False
            ) as answer:
                raw = await answer.read()
        except (aiohttp.ClientError, OSError) as error:
            return web.json_response({"message": f"{type(error).__name__}"}, status=502)
        if answer.status != 304:  # what has not changed is no behaviour of its own
            stage.exchanges.append(_exchange(stage, request.method, request.path, answer.status, raw))
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP}
        return web.Response(status=answer.status, body=raw, headers=kept)

    app = web.Application(client_max_size=64 * 2**20)
    app.router.add_route("*", "/{path:.*}", passed)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    async with aiohttp.ClientSession() as session:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


def _exchange(stage: Stage, method: str, path: str, status: int, raw: bytes) -> Exchange:
    short = path.replace(f"/repos/{stage.full_name}", "/repos/O/R")
    short = re.sub(r"/collaborators/[^/]+/", "/collaborators/LOGIN/", re.sub(r"\b[0-9a-f]{40}\b", "SHA", short))
    short = re.sub(r"(?<=[/+])\d+(?=/|$)", "N", short)
    try:
        found = json.loads(raw)
    except ValueError:
        found = None
    first = found[0] if isinstance(found, list) and found else found
    keys = frozenset(first) if isinstance(first, dict) else frozenset()
    words = str(found.get("message", ""))[:200] if isinstance(found, dict) and status >= 400 else ""
    return Exchange(f"{method} {short}", status, keys, words)


async def check_repository(github: Somewhere, full_name: str) -> Made | None:
    """A repository that may be used: named so, and empty (None) or begun by a rehearsal. Raises NoScene."""
    if MARK not in full_name.split("/")[-1]:
        raise NoScene(f"{full_name} may be somebody's: make an empty repository whose name has {MARK!r} in it")
    try:
        found = await github.as_user("", "GET", f"/repos/{full_name}")
    except Refused as error:
        raise NoScene(f"{full_name} cannot be read with this token: {error}") from None
    branch = str(found["default_branch"])
    try:
        commits = await github.as_user("", "GET", f"/repos/{full_name}/commits?sha={branch}&per_page=100")
    except Refused as error:
        if "as : 409 " in str(error):  # GitHub's word for an empty one
            return None
        raise NoScene(f"the commits of {full_name} cannot be read: {error}") from None
    if len(commits) >= 100 or not str(commits[-1]["commit"]["message"]).startswith(MARK):
        raise NoScene(f"{full_name} has commits that no rehearsal made: use an empty repository, or delete it first")
    return Made(found["id"], full_name, branch, commits[0]["sha"])


async def prepare(stage: Stage, github: Somewhere, folder: Path) -> Made:
    """The sample project as the only commit of the default branch."""
    source = await make_sample(folder / "pantry")
    with (source / ".github" / "interlock.yml").open("a") as policy:
        policy.write(POLICY)
    repo = await github.as_user("", "GET", f"/repos/{stage.full_name}")
    owner, name = stage.full_name.split("/")
    credential = base64.b64encode(f"x-access-token:{stage.token}".encode()).decode()
    env = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": "/nonexistent", "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "http.extraHeader", "GIT_CONFIG_VALUE_0": f"Authorization: Basic {credential}",
    }  # fmt: skip
    identity = ("-c", "user.name=Rehearsal", "-c", "user.email=rehearsal@example.org")
    url = stage.git_url.format(owner=owner, repo=name)
    out = ""
    for words in (
        ("add", "--all"), (*identity, "commit", "-q", "--amend", "--reset-author", "-m", f"{MARK}: the sample project"),
        ("push", "-q", "--force", url, f"HEAD:refs/heads/{repo['default_branch']}"), ("rev-parse", "HEAD"),
    ):  # fmt: skip
        child = await asyncio.create_subprocess_exec(
            "git", "-C", str(source), *words, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        raw, error = await child.communicate()
        out = raw.decode()
        if child.returncode:
            raise NoScene(f"git {words[0]} failed: {error.decode('utf-8', 'replace').strip()[-300:]}")
    return Made(repo["id"], stage.full_name, repo["default_branch"], out.strip())


async def play(stage: Stage, folder: Path, seconds: float, say: Say, pause: float = 3.0) -> str:
    """The whole job and its removal; why it did not land, or nothing. Raises NoScene before anything is made."""
    async with aiohttp.ClientSession() as session:
        github = Somewhere(stage, session, pause)
        await check_repository(github, stage.full_name)
        try:
            async with asyncio.timeout(seconds):
                return await _land(stage, github, folder, say)
        except TimeoutError:
            return f"it had not landed after {seconds:.0f} s"
        except Refused as error:
            return str(error)
        finally:
            for left in await remove(github, stage.full_name):
                say(f"not removed: {left}")


async def _land(stage: Stage, github: Somewhere, folder: Path, say: Say) -> str:
    repo = await prepare(stage, github, folder)
    async with recorded(stage) as url:
        env = {**stage.environment, "INTERLOCK_GITHUB_API_URL": url, "INTERLOCK_DATA_DIR": str(folder / "data")}
        env |= {"INTERLOCK_HARNESS": "scripted", "INTERLOCK_PLAYBOOK": str(SAMPLE / "playbook.json")}
        words = ("bot.cli.main", "serve", *(("--poll",) if stage.poll else ()))
        async with process(*words, env=env, log=folder / "bot.log", cwd=folder) as (server, line):
            if stage.local is not None:
                await stage.local.control("app", {"webhook_url": line.split()[1]})
            path = f"/repos/{stage.full_name}/issues"
            issue = await github.as_user("", "POST", path, {"title": TITLE, "body": BODY})
            answers = (SAMPLE / "answers.txt").read_text("utf-8").splitlines()
            person = Person(github, repo, issue["number"], answers, say, requester=stage.login, reviewer=stage.login)
            await github.as_user("", "POST", f"{path}/{issue['number']}/labels", {"labels": ["interlock"]})
            say(f"issue #{issue['number']} is labelled")
            sequence = 0
            while not await person.act():
                if server.returncode is not None:
                    return f"the bot ended with exit code {server.returncode}"
                sequence = await github.wait(sequence, 5.0)
            head = (await github.as_user("", "GET", f"/repos/{stage.full_name}/commits?sha={repo.branch}"))[0]["sha"]
            return "" if head != repo.head else "the issue was closed, but nothing landed"


async def remove(github: Somewhere, full_name: str) -> list[str]:
    """Issues and pull requests closed, branches and label deleted; what could not be."""
    left: list[str] = []
    root = f"/repos/{full_name}"

    async def act(method: str, path: str, body: Any = None) -> Any:
        try:
            return await github.as_user("", method, f"{root}{path}", body)
        except (Refused, aiohttp.ClientError, OSError, ValueError) as error:
            left.append(f"{method} {path}: {error}")

    for pull in await act("GET", "/pulls?state=open&per_page=100") or []:
        await act("PATCH", f"/pulls/{pull['number']}", {"state": "closed"})
    for issue in await act("GET", "/issues?state=open&per_page=100") or []:
        if "pull_request" not in issue:
            await act("PATCH", f"/issues/{issue['number']}", {"state": "closed"})
    for branch in await act("GET", "/git/matching-refs/heads/interlock/") or []:
        await act("DELETE", f"/git/{branch['ref']}")
    if any(label["name"] == "interlock" for label in await act("GET", "/labels?per_page=100") or []):
        await act("DELETE", "/labels/interlock")
    return left


def differences(reference: list[Exchange], seen: list[Exchange]) -> list[str]:
    """What this GitHub did that the other one did not, each behaviour once."""
    found: dict[str, None] = {}
    for call in dict.fromkeys(one.call for one in seen):
        expected = [one for one in reference if one.call == call]
        statuses = {one.status for one in expected}
        usual = ", ".join(map(str, sorted(statuses))) or "never asked"
        for one in seen:
            if one.call == call and one.status not in statuses and (expected or one.status >= 400):
                found[
                    f"{call} answered {one.status}{f' ({one.words})' if one.words else ''}; the stand-in: {usual}"
                ] = None
        good = [one.fields for one in seen if one.call == call and one.status < 300 and one.fields]
        wanted = [one.fields for one in expected if one.status < 300 and one.fields]
        if good and wanted and (lacking := frozenset.intersection(*wanted) - frozenset.intersection(*good)):
            found[f"{call} answered without {', '.join(sorted(lacking))}"] = None
    return list(found)
