"""A whole world for one test: the stand-in as a process, a repository, people, and a bot that can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from bot.clock import SystemClock
from bot.runners.sandbox import area_for
from bot.standin.client import PEOPLE, LocalGitHub, Made, git, started
from bot.standin.person import Person, open_issue
from bot.store.store import open_store
from schemas.ticket import Ticket
from tests.e2e.canaries import in_files

ROOT = Path(__file__).parents[2]
SECRET = "canary-of-the-webhook-8d02"
_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = _KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


class Zygote:
    """See tests/e2e/zygote.py."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self._child = child

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator[Zygote]:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.e2e.zygote", cwd=ROOT, start_new_session=True,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            yield cls(child)
        finally:
            child.kill()
            await child.wait()

    async def fork(self, order: Mapping[str, Any]) -> int:
        assert self._child.stdin is not None and self._child.stdout is not None
        self._child.stdin.write(json.dumps(order).encode() + b"\n")
        await self._child.stdin.drain()
        return int(json.loads(await self._child.stdout.readline())["pid"])


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@dataclass
class World:
    """`folder` holds everything; `environment` is the bot's."""

    folder: Path
    github: LocalGitHub
    zygote: Zygote
    environment: dict[str, str]
    repo: Made
    orders: dict[str, Any] = field(default_factory=dict)
    pid: int = 0
    starts: int = 0

    async def start(self, **order: Any) -> None:
        """Start the bot; returns once it listens or has died."""
        self.starts += 1
        ready = self.folder / f"ready{self.starts}"
        whole = {
            "env": self.environment,
            "log": str(self.folder / "bot.log"),
            "ready": str(ready),
            **self.orders,
            **order,
        }
        self.pid = await self.zygote.fork(whole)
        while not ready.exists():
            if not alive(self.pid):
                return
            await asyncio.sleep(0.01)
        public, _ = ready.read_text().split()
        await self.github.control("app", {"webhook_url": f"{public}/webhook"})

    def kill(self) -> None:
        """kill -9."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    async def stop(self) -> None:
        """SIGTERM, and wait."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        async with asyncio.timeout(10):
            while alive(self.pid):
                await asyncio.sleep(0.01)

    async def hasten(self, pace: float) -> None:
        """Let the bot's wall clock and the stand-in's run so much faster, from the bot's next start on."""
        began = time.time()
        await self.github.control("clock", {"began": began, "pace": pace})
        self.orders["pace"] = [began, pace]

    async def label(self, title: str, body: str, say: Callable[[str], None] = lambda _: None) -> Person:
        """Open an issue and label it."""
        return await open_issue(self.github, self.repo, title, body, (), say)

    async def until_closed(self, *people: Person, seconds: float = 60.0, revive: bool = False) -> None:
        """Let people act until all their issues are closed; `revive` starts the bot anew whenever it is dead."""
        async with asyncio.timeout(seconds):
            sequence, open_people = 0, list(people)
            while True:
                for person in list(open_people):
                    if await person.act():
                        open_people.remove(person)
                if not open_people:
                    return
                waiting = asyncio.ensure_future(self.github.wait(sequence, 5.0))
                while not waiting.done():
                    await asyncio.wait({waiting}, timeout=0.05)
                    if not alive(self.pid):
                        assert revive, (self.folder / "bot.log").read_text()[-3000:]
                        await self.start()
                sequence = await waiting

    async def until(self, seen: Callable[[list[dict[str, Any]]], bool], seconds: float = 30.0) -> None:
        """Until the comments of issue 1 are as wanted."""
        async with asyncio.timeout(seconds):
            sequence = 0
            while not seen(await self.comments(1)):
                sequence = await self.github.wait(sequence, 5.0)

    async def quiet(self, seconds: float = 0.7) -> None:
        """Until nothing has changed on GitHub for a moment."""
        await self.github.quiet(seconds)

    async def get(self, path: str) -> Any:
        return await self.github.as_user("alice", "GET", f"/repos/{self.repo.full_name}{path}")

    async def comments(self, issue: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await self.get(f"/issues/{issue}/comments?per_page=100")
        return [comment for comment in found if comment["user"]["type"] == "Bot"]

    async def tickets(self) -> list[Ticket]:
        async with open_store(self.folder / "data" / "interlock.db", SystemClock(), exclusive=False) as store:
            return list(await store.tickets())

    def bare(self) -> Path:
        owner, name = self.repo.full_name.split("/")
        return self.folder / "github" / f"{owner}+{name}.git"


@asynccontextmanager
async def world(
    folder: Path, zygote: Zygote, files: Mapping[str, str], playbook: Mapping[str, Any] | None, **environment: str
) -> AsyncIterator[World]:
    """A repository octo/app of these files. With a playbook the scripted harness plays it."""
    source = folder / "source"
    for path, text in files.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_text(text)
    await git(source, "init", "-q", "--initial-branch=main")
    await git(source, "add", "--all")
    await git(source, "-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "-q", "-m", "Begin")
    plain = {"PATH": os.environ["PATH"]}
    async with contextlib.AsyncExitStack() as stack:
        github = await stack.enter_async_context(started(folder, plain))
        repo = await github.push(source, "octo/app", PEOPLE)
        public = _KEY.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        app = await github.control("app", {"public_key": public.decode(), "secret": SECRET})
        pem = folder / "app.pem"
        pem.write_bytes(PEM)
        settings = {
            "DATA_DIR": str(folder / "data"), "PORT": "0", "ADMIN_PORT": "0", "GITHUB_API_URL": github.url,
            "GIT_URL": f"{github.url}/{{owner}}/{{repo}}.git", "APP_ID": str(app["app_id"]), "PRIVATE_KEY_FILE": str(pem),
            "WEBHOOK_SECRET": SECRET,
        }  # fmt: skip
        if playbook is not None:
            (folder / "playbook.json").write_text(json.dumps(playbook))
            settings |= {"HARNESS": "scripted", "PLAYBOOK": str(folder / "playbook.json")}
        env = {**plain, **{f"INTERLOCK_{name}": value for name, value in settings.items()}, **environment}
        made = World(folder, github, zygote, env, repo)
        try:
            yield made
            tokens = enumerate((await github.control("tokens"))["app"])
            secrets = {f"installation token {number}": token for number, token in tokens}
            secrets |= {"the private key": PEM.decode().splitlines()[1], "the webhook secret": SECRET}
            assert in_files(folder, secrets) == []
        finally:
            made.kill()
            shutil.rmtree(area_for(folder / "data").parent, ignore_errors=True)
