"""The App's identity: its JWT, narrow installation tokens, and an API client for each installation.

Tokens are minted for one repository and named permissions, kept until five minutes before they expire, and never
appear in a log, an argument list or an address.
"""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta
from typing import Any

import aiohttp
import cachetools
import jwt
from gidgethub import BadRequest, GitHubBroken, GitHubException, RateLimitExceeded, RedirectionException
from gidgethub.abc import GitHubAPI

from bot.errors import Misconfigured, Rejected, Transient
from bot.ports import Clock
from bot.rules.sanitise import redacted
from schemas.base import RepoRef

API_VERSION = "2022-11-28"
JWT_MINUTES = 9
RENEW = timedelta(minutes=5)
FRESH_RETRIES = (0.5, 1.0, 2.0, 2.5)
"""Seconds between tries of a token that was minted a moment ago: it may not be known everywhere yet (facts: 401/403)."""


class Api(GitHubAPI):
    """gidgethub on aiohttp, with the version pinned and no silent repetition of redirected writes."""

    def __init__(self, session: aiohttp.ClientSession, slug: str, base_url: str, cache: Any = None) -> None:
        self._session = session
        super().__init__(slug, base_url=base_url, cache=cache)

    async def _request(self, method: str, url: str, headers: Any, body: bytes = b"") -> tuple[int, Any, bytes]:
        sent = {**headers, "X-GitHub-Api-Version": API_VERSION}
        follow = method == "GET"
        async with self._session.request(method, url, headers=sent, data=body, allow_redirects=follow) as answer:
            return answer.status, answer.headers, await answer.read()

    async def sleep(self, seconds: float) -> None:
        """gidgethub's hook for waiting; ours never waits inside a request."""
        await asyncio.sleep(seconds)


class GitHubApp:
    """One registered App. Raises Misconfigured for a key that cannot sign."""

    def __init__(
        self,
        *,
        app_id: int,
        private_key: str,
        api_url: str,
        session: aiohttp.ClientSession,
        clock: Clock,
        slug: str = "interlock",
    ) -> None:
        self.app_id, self.api_url, self.slug = app_id, api_url.rstrip("/"), slug
        self._key, self._session, self._clock = private_key, session, clock
        self._tokens: cachetools.LRUCache[tuple[int, int], tuple[str, datetime]] = cachetools.LRUCache(2048)
        self._clients: dict[tuple[int, int], Api] = {}
        self._caches: dict[int, cachetools.LRUCache[Any, Any]] = {}
        self._minting = asyncio.Lock()
        try:
            self.jwt()
        except (ValueError, TypeError, jwt.PyJWTError) as error:
            raise Misconfigured(
                f"the App's private key cannot sign ({type(error).__name__}): give PRIVATE_KEY_FILE the .pem that GitHub made"
            ) from None

    def jwt(self) -> str:
        """A token for the App itself: a minute back-dated, ten minutes at most (GitHub's limit)."""
        now = int(self._clock.wall().timestamp())
        claims = {"iat": now - 60, "exp": now + JWT_MINUTES * 60, "iss": str(self.app_id)}
        return jwt.encode(claims, self._key, algorithm="RS256")

    async def as_app(self, method: str, path: str, body: Any = None) -> tuple[Any, dict[str, str]]:
        """A call as the App. Returns the answer and its headers."""
        return await self._raw(method, path, body, f"Bearer {self.jwt()}")

    async def _raw(self, method: str, path: str, body: Any, authorization: str) -> tuple[Any, dict[str, str]]:
        url = path if path.startswith("http") else f"{self.api_url}{path}"
        headers = {
            "Authorization": authorization, "Accept": "application/vnd.github+json", "User-Agent": self.slug,
            "X-GitHub-Api-Version": API_VERSION,
        }  # fmt: skip
        data = json.dumps(body).encode() if body is not None else None
        try:
            async with self._session.request(method, url, headers=headers, data=data, allow_redirects=False) as answer:
                text = await answer.read()
                status, got = answer.status, dict(answer.headers)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Transient(f"GitHub cannot be reached: {type(error).__name__}") from error
        if status >= 500 or status == 429:
            raise Transient(f"GitHub answered {status}", _retry_after(got))
        found = json.loads(text) if text else None
        if status >= 400:
            message = found.get("message", "") if isinstance(found, dict) else ""
            raise Rejected(f"GitHub answered {status}: {message}")
        return found, got

    async def token(self, repo: RepoRef, installation: int) -> str:
        """An installation token for this repository alone. Raises Transient or Rejected (suspended, uninstalled)."""
        key = (installation, repo.id)
        async with self._minting:
            known = self._tokens.get(key)
            if known is not None and known[1] - RENEW > self._clock.wall():
                return known[0]
            wanted = {
                "repository_ids": [repo.id],
                "permissions": {
                    "metadata": "read", "issues": "write", "pull_requests": "write", "contents": "write", "checks": "write",
                },
            }  # fmt: skip
            found, _ = await self.as_app("POST", f"/app/installations/{installation}/access_tokens", wanted)
            expires = datetime.fromisoformat(found["expires_at"])
            self._tokens[key] = (found["token"], expires)
            return str(found["token"])

    def forget_token(self, repo: RepoRef, installation: int) -> None:
        """Mint a new one next time."""
        self._tokens.pop((installation, repo.id), None)

    async def call(self, repo: RepoRef, installation: int, method: str, path: str, body: Any = None) -> Any:
        """One REST call on a repository; `path` starts after /repos/owner/name. Errors as in bot.errors."""
        url = f"/repos/{repo.full_name}{path}"
        for wait in (*FRESH_RETRIES, None):
            token = await self.token(repo, installation)
            try:
                return await self._one(repo, installation, token, method, url, body)
            except _Unauthorised as error:
                self.forget_token(repo, installation)
                if wait is None:
                    raise Transient(str(error)) from None
                await asyncio.sleep(wait)
        raise AssertionError("unreachable")

    async def pages(self, repo: RepoRef, installation: int, path: str, key: str = "") -> list[Any]:
        """All pages of a listing."""
        found: list[Any] = []
        number = 1
        separator = "&" if "?" in path else "?"
        while True:
            page = await self.call(repo, installation, "GET", f"{path}{separator}per_page=100&page={number}")
            items = page[key] if key else page
            found.extend(items)
            if len(items) < 100:
                return found
            number += 1

    async def _one(self, repo: RepoRef, installation: int, token: str, method: str, url: str, body: Any) -> Any:
        cache = self._caches.setdefault(installation, cachetools.LRUCache(500))
        api = self._clients.setdefault(
            (installation, repo.id), Api(self._session, self.slug, self.api_url, cache=cache)
        )
        try:
            match method:
                case "GET":
                    return await api.getitem(url, oauth_token=token)
                case "POST":
                    return await api.post(url, data=body, oauth_token=token)
                case "PATCH":
                    return await api.patch(url, data=body, oauth_token=token)
                case "DELETE":
                    return await api.delete(url, data=body or b"", oauth_token=token)
                case _:
                    return await api.put(url, data=body, oauth_token=token)
        except RateLimitExceeded as error:
            seconds = (error.rate_limit.reset_datetime - self._clock.wall()).total_seconds()
            raise Transient("GitHub's rate limit is used up", max(seconds, 1.0)) from None
        except RedirectionException as error:
            raise Transient(f"GitHub redirects {url}: the repository was renamed") from error
        except BadRequest as error:
            raise _mapped(error) from None
        except GitHubBroken as error:
            raise Transient(f"GitHub answered {error.status_code.value}") from None
        except GitHubException as error:
            raise Transient(f"GitHub's answer could not be read: {error}") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Transient(f"GitHub cannot be reached: {type(error).__name__}") from None


class _Unauthorised(Exception):
    """The token is not (or no longer) known."""


def _mapped(error: BadRequest) -> Exception:
    status = error.status_code.value
    headers = getattr(error, "headers", None) or {}
    message = redacted(str(error))
    if status == 401:
        return _Unauthorised(message)
    retry_after = _retry_after(headers)
    secondary = status == 403 and ("secondary rate" in message.lower() or "abuse" in message.lower())
    if status == 429 or secondary or (status == 403 and retry_after is not None):
        return Transient(f"GitHub asks to slow down: {message}", retry_after or 60.0)
    return Rejected(f"GitHub answered {status}: {message}")


def _retry_after(headers: Any) -> float | None:
    for name in ("Retry-After", "retry-after"):
        value = headers.get(name) if headers else None
        if value and str(value).isdigit():
            return float(value)
    return None
