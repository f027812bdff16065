"""A stand-in in this process, a repository with one commit, two people, and an App."""

from __future__ import annotations

import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from bot.clock import SystemClock
from bot.github.app import GitHubApp
from bot.github.keeper import signed
from bot.ports import Clock
from bot.standin.client import LocalGitHub, Made
from bot.standin.main import stand_in

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()
PUBLIC = (
    KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
)
SECRET = "hush"


class LeapClock(SystemClock):
    """The machine's clock, but sleeping takes no time: it moves this clock and the stand-in's on, together."""

    def __init__(self, github: LocalGitHub) -> None:
        self._github, self._ahead = github, timedelta()

    def wall(self) -> datetime:
        return super().wall() + self._ahead

    async def sleep(self, seconds: float) -> None:
        self._ahead += timedelta(seconds=seconds)
        await self._github.control("clock", {"advance": seconds})


@dataclass
class Scene:
    """`app` is what the control API answered: app_id, installation, slug."""

    github: LocalGitHub
    session: aiohttp.ClientSession
    repo: Made
    app: dict[str, Any]
    source: Path

    async def call(self, method: str, path: str, token: str, body: Any = None) -> tuple[int, Any, dict[str, str]]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"{self.github.url}{path}"
        async with self.session.request(method, url, json=body, headers=headers, allow_redirects=False) as answer:
            text = await answer.text()
            found = await answer.json() if text else None
            return answer.status, found, dict(answer.headers)

    def app_jwt(self, seconds: int = 300) -> str:
        now = int(time.time())
        claims = {"iat": now - 30, "exp": now + seconds, "iss": str(self.app["app_id"])}
        return jwt.encode(claims, PEM, algorithm="RS256")

    def as_the_bot(self, clock: Clock | None = None) -> GitHubApp:
        """The bot's own door to this GitHub."""

        async def sign(now: datetime) -> str:
            return signed(PEM, self.app["app_id"], int(now.timestamp()))

        return GitHubApp(
            app_id=self.app["app_id"],
            sign=sign,
            api_url=self.github.url,
            session=self.session,
            clock=clock or LeapClock(self.github),
        )

    async def token(self, **narrowed: Any) -> str:
        path = f"/app/installations/{self.app['installation']}/access_tokens"
        status, found, _ = await self.call("POST", path, self.app_jwt(), narrowed)
        assert status == 201, found
        return str(found["token"])

    def git(self, *args: str) -> str:
        command = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", *args]
        return subprocess.run(command, cwd=self.source, check=True, capture_output=True, text=True).stdout.strip()

    def url(self, token: str) -> str:
        return f"{self.github.url.replace('://', f'://x-access-token:{token}@')}/octo/app.git"

    async def push(self, token: str, *refs: str) -> int:
        import asyncio

        process = await asyncio.create_subprocess_exec(
            "git", "push", "-q", *refs[1:], self.url(token), refs[0], cwd=self.source,
            stderr=asyncio.subprocess.DEVNULL, env={"PATH": "/usr/bin:/bin", "GIT_TERMINAL_PROMPT": "0"},
        )  # fmt: skip
        return await process.wait()


@asynccontextmanager
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.txt").write_text("one\n")
    for args in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "Begin"]):
        command = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", *args]
        subprocess.run(command, cwd=source, check=True)
    async with stand_in(tmp_path / "github") as state, aiohttp.ClientSession() as session:
        github = LocalGitHub(state.url, session)
        for login in ("alice", "bob", "eve"):
            await github.user(login)
        repo = await github.push(source, "octo/app", {"alice": "write", "bob": "admin", "eve": "read"})
        app = await github.control("app", {"public_key": PUBLIC, "secret": SECRET})
        yield Scene(github, session, repo, app, source)
