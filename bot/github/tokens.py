"""Whose name we act in: JWTs from the keeper of the key, and installation tokens for one repository and one purpose.

Tokens are kept in memory until five minutes before they expire, and never appear in a log, an argument list, an
environment or an address.
"""

import asyncio
import contextlib
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cachetools

from bot.errors import Misconfigured
from bot.ports import Clock
from schemas.base import RepoRef

RENEW = timedelta(minutes=5)
KEPT = 4096
Purpose = Literal["look", "speak", "fetch", "push", "land"]
_READ = dict.fromkeys(("metadata", "contents", "issues", "pull_requests", "checks", "statuses"), "read")
PERMISSIONS: dict[Purpose, dict[str, str]] = {
    "look": _READ,
    "speak": _READ | dict.fromkeys(("issues", "pull_requests", "checks"), "write"),
    "fetch": {"contents": "read"},
    "push": {"contents": "write"},
    "land": _READ | dict.fromkeys(("contents", "pull_requests"), "write"),
}
"""What a token may do. The one that comments cannot push, and the one that pushes cannot comment; through GraphQL a signed
commit is landed, or a pull request put into GitHub's own queue."""


def purpose_of(method: str, path: str) -> Purpose:
    """The least that a REST call on a repository takes; `path` starts after /repos/owner/name."""
    if method == "GET":
        return "look"
    if path.endswith("/graphql"):
        return "land"
    return "push" if path.startswith(("/git/", "/merges", "/contents/")) else "speak"


class Keeper:
    """The process that has the private key (bot.github.keeper); this one never reads it."""

    def __init__(self, key_file: Path, app_id: int) -> None:
        self._words = ("-I", "-m", "bot.github.keeper", str(key_file.resolve()), str(app_id))
        self._child: asyncio.subprocess.Process | None = None
        self._asking = asyncio.Lock()

    async def sign(self, now: datetime) -> str:
        """A JWT of the App. A keeper that has died is started anew. Raises Misconfigured for a key that cannot sign."""
        # Whoever stops waiting leaves no answer behind that the next one would take for its own.
        return await asyncio.shield(self._sign(now))

    async def _sign(self, now: datetime) -> str:
        async with self._asking:
            for _ in range(2):
                if self._child is None or self._child.returncode is not None:
                    self._child = await asyncio.create_subprocess_exec(
                        sys.executable, *self._words, env={}, cwd="/", start_new_session=True,
                        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
                    )  # fmt: skip
                assert self._child.stdin is not None and self._child.stdout is not None
                with contextlib.suppress(ConnectionError):
                    self._child.stdin.write(f"{int(now.timestamp())}\n".encode())
                    await self._child.stdin.drain()
                if said := (await self._child.stdout.readline()).decode().strip():
                    return said
                await self._stop()
        raise Misconfigured("the App's private key cannot sign: give PRIVATE_KEY_FILE the .pem that GitHub made")

    async def close(self) -> None:
        """End the process."""
        async with self._asking:
            await self._stop()

    async def _stop(self) -> None:
        if (child := self._child) is not None:
            self._child = None
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.communicate()


class Token(NamedTuple):
    """An installation token, and when it was made."""

    value: str
    expires: datetime
    minted: datetime


class Tokens:
    """Mints tokens by `ask` (a POST as the App) and keeps them."""

    def __init__(self, ask: Callable[[str, dict[str, Any]], Awaitable[Any]], clock: Clock) -> None:
        self._ask, self._clock = ask, clock
        self._kept = cachetools.TLRUCache[tuple[int, int, Purpose], Token, datetime](
            KEPT, lambda _, token, now: token.expires - RENEW, clock.wall
        )
        self._minting = defaultdict[int, asyncio.Lock](asyncio.Lock)

    async def get(self, repo: RepoRef, installation: int, purpose: Purpose) -> Token:
        """A token for this repository alone. Raises Transient or Rejected (uninstalled)."""
        key = (installation, repo.id, purpose)
        async with self._minting[installation]:
            known = self._kept.get(key)
            if known is None:
                wanted = {"repository_ids": [repo.id], "permissions": PERMISSIONS[purpose]}
                made = await self._ask(f"/app/installations/{installation}/access_tokens", wanted)
                expires, now = datetime.fromisoformat(made["expires_at"]), self._clock.wall()
                known = self._kept[key] = Token(str(made["token"]), expires, now)
            return known

    def drop(self, repo: RepoRef, installation: int, purpose: Purpose, token: Token) -> None:
        """Forget a token that GitHub does not know any more, unless there is a newer one."""
        if self._kept.get(key := (installation, repo.id, purpose)) == token:
            del self._kept[key]

    def forget(self, repo: RepoRef, installation: int) -> None:
        """Mint all of a repository's anew."""
        for purpose in PERMISSIONS:
            self._kept.pop((installation, repo.id, purpose), None)
