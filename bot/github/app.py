"""The App's identity: its JWT, narrow installation tokens, and an API client for each installation.

Tokens are minted for one repository and named permissions, kept until five minutes before they expire, and never
appear in a log, an argument list or an address.
"""

import asyncio
from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any

import aiohttp
import cachetools
import jwt
from gidgethub import BadRequest, GitHubBroken, RateLimitExceeded, RedirectionException
from gidgethub import GitHubException as Failure
from gidgethub.aiohttp import GitHubAPI
from gidgethub.sansio import accept_format

from bot.errors import Misconfigured, Rejected, Transient
from bot.ports import Clock
from bot.rules.sanitise import redacted
from schemas.base import RepoRef

API_VERSION = "2022-11-28"
JWT_MINUTES = 9
RENEW = timedelta(minutes=5)
PAGE = 100
PERMISSIONS = {
    "metadata": "read",
    "statuses": "read",
    **dict.fromkeys(("issues", "pull_requests", "contents", "checks"), "write"),
}
FRESH_RETRIES = (0.5, 1.0, 2.0, 2.5)
"""Seconds between tries of a token that was minted a moment ago: it may not be known everywhere yet (facts: 401/403)."""

Page = tuple[Any, str | None]
"""An answer, and the address of a listing's next page."""


class Unauthorised(Rejected):
    """The token is not (or no longer) known."""


class Api(GitHubAPI):
    """gidgethub on aiohttp, with the version pinned, no silent repetition of redirected writes, and our errors.

    Its cache is keyed by address alone, so each identity has an Api of its own: none sees another's answers.
    """

    def __init__(self, session: aiohttp.ClientSession, clock: Clock, slug: str, base_url: str) -> None:
        super().__init__(session, slug, base_url=base_url, cache=cachetools.LRUCache(500))
        self._clock = clock

    async def send(self, method: str, url: str, body: Any, *, jwt: str | None, token: str | None) -> Page:
        """One call, as the App or as an installation. Raises Transient or Rejected."""
        try:
            found, more, _ = await self._make_request(method, url, {}, body, accept_format(), jwt, token)
            return found, more
        except (aiohttp.ClientError, OSError) as error:
            raise Transient(f"GitHub cannot be reached: {type(error).__name__}") from None
        except (Failure, ValueError) as error:
            raise _mapped(error, url, self._clock.wall()) from None

    async def _request(self, method: str, url: str, headers: Any, body: bytes = b"") -> tuple[int, Any, bytes]:
        sent = {**headers, "X-GitHub-Api-Version": API_VERSION}
        follows = method == "GET"
        async with self._session.request(method, url, headers=sent, data=body, allow_redirects=follows) as answer:
            return answer.status, answer.headers, await answer.read()


def _mapped(error: Failure | ValueError, url: str, now: datetime) -> Exception:
    """What gidgethub tells, as the error that says what to do."""
    message = redacted(str(error))
    if isinstance(error, RateLimitExceeded):
        seconds = (error.rate_limit.reset_datetime - now).total_seconds()
        return Transient("GitHub's rate limit is used up", max(seconds, 1.0))
    if isinstance(error, RedirectionException):
        return Transient(f"GitHub redirects {url}: the repository was renamed")
    if not isinstance(error, BadRequest | GitHubBroken):
        return Transient(f"GitHub's answer could not be read: {message}")
    status, asked = error.status_code.value, error.headers.get("Retry-After", "")
    retry_after = float(asked) if asked.isdigit() else None
    if status >= 500:
        return Transient(f"GitHub answered {status}", retry_after)
    secondary = "secondary rate" in message.lower() or "abuse" in message.lower() or retry_after is not None
    if status == 429 or (status == 403 and secondary):
        return Transient(f"GitHub asks to slow down: {message}", retry_after or 60.0)
    refused = Unauthorised if status == 401 else Rejected
    return refused(f"GitHub answered {status}: {message}")


class GitHubApp:
    """One registered App. Raises Misconfigured for a key that cannot sign."""

    def __init__(
        self, *, app_id: int, private_key: str, api_url: str, session: aiohttp.ClientSession, clock: Clock
    ) -> None:
        self.app_id, self.slug = app_id, "interlock"
        self._key, self._clock = private_key, clock
        self._apis = defaultdict[int | None, Api](lambda: Api(session, clock, self.slug, api_url))
        self._tokens = cachetools.TLRUCache[tuple[int, int], dict[str, Any], datetime](2048, _renewal, clock.wall)
        self._minting = asyncio.Lock()
        try:
            self.jwt()
        except (ValueError, TypeError, jwt.PyJWTError) as error:
            why = f"the App's private key cannot sign ({type(error).__name__})"
            raise Misconfigured(f"{why}: give PRIVATE_KEY_FILE the .pem that GitHub made") from None

    def jwt(self) -> str:
        """A token for the App itself: a minute back-dated, ten minutes at most (GitHub's limit)."""
        now = int(self._clock.wall().timestamp())
        claims = {"iat": now - 60, "exp": now + JWT_MINUTES * 60, "iss": str(self.app_id)}
        return jwt.encode(claims, self._key, algorithm="RS256")

    async def as_app(self, method: str, path: str, body: Any = b"") -> Page:
        """A call as the App."""
        return await self._apis[None].send(method, path, body, jwt=self.jwt(), token=None)

    async def token(self, repo: RepoRef, installation: int) -> str:
        """An installation token for this repository alone. Raises Transient or Rejected (suspended, uninstalled)."""
        key = (installation, repo.id)
        async with self._minting:
            known = self._tokens.get(key)
            if known is None:
                wanted = {"repository_ids": [repo.id], "permissions": PERMISSIONS}
                known, _ = await self.as_app("POST", f"/app/installations/{installation}/access_tokens", wanted)
                self._tokens[key] = known
            return str(known["token"])

    async def call(self, repo: RepoRef, installation: int, method: str, path: str, body: Any = b"") -> Any:
        """One REST call on a repository; `path` starts after /repos/owner/name. Errors as in bot.errors."""
        waits = iter(FRESH_RETRIES)
        while True:
            token = await self.token(repo, installation)
            try:
                url = f"/repos/{repo.full_name}{path}"
                return (await self._apis[installation].send(method, url, body, jwt=None, token=token))[0]
            except Unauthorised as error:
                self._tokens.pop((installation, repo.id), None)
                if (wait := next(waits, None)) is None:
                    raise Transient(str(error)) from None
                await asyncio.sleep(wait)

    async def pages(self, repo: RepoRef, installation: int, path: str, key: str = "") -> list[Any]:
        """All pages of a listing."""
        found: list[Any] = []
        place = f"{path}{'&' if '?' in path else '?'}per_page={PAGE}&page="
        while True:
            page = await self.call(repo, installation, "GET", f"{place}{len(found) // PAGE + 1}")
            items = page[key] if key else page
            found += items
            if len(items) < PAGE:
                return found

    async def installations(self) -> list[int]:
        """Those that are not suspended."""
        found: list[int] = []
        path: str | None = f"/app/installations?per_page={PAGE}"
        while path is not None:
            page, path = await self.as_app("GET", path)
            found += (one["id"] for one in page if not one.get("suspended_at"))
        return found

    async def repositories(self, installation: int) -> list[RepoRef]:
        """All that an installation may see, by a token that can do nothing else."""
        wanted = {"permissions": {"metadata": "read"}}
        minted, _ = await self.as_app("POST", f"/app/installations/{installation}/access_tokens", wanted)
        found: list[RepoRef] = []
        path: str | None = f"/installation/repositories?per_page={PAGE}"
        while path is not None:
            page, path = await self._apis[installation].send("GET", path, b"", jwt=None, token=minted["token"])
            found += (RepoRef(id=one["id"], full_name=one["full_name"]) for one in page["repositories"])
        return found


def _renewal(_: tuple[int, int], minted: dict[str, Any], now: datetime) -> datetime:
    return datetime.fromisoformat(minted["expires_at"]) - RENEW
