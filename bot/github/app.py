"""The App's door to GitHub's REST API: an API client for each installation, errors that say what to do, and limits.

Nobody else sends a request there. Tokens are bot.github.tokens', pauses and budgets bot.github.limits'.
"""

import contextlib
import io
from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit

import aiohttp
import cachetools
from gidgethub import BadRequest, RedirectionException
from gidgethub import GitHubException as Failure
from gidgethub.aiohttp import GitHubAPI
from gidgethub.sansio import accept_format

from bot.errors import Away, Rejected
from bot.github.limits import Importance, Limits
from bot.github.tokens import Purpose, Tokens, purpose_of
from bot.ports import Clock
from bot.rules.sanitise import redacted
from schemas.base import RepoRef

API_VERSION = "2022-11-28"
PAGE = 100
FRESH_RETRIES = (1.0, 2.0, 4.0)
FRESH = timedelta(seconds=6)
"""A token this young may not be known everywhere yet (401, or 403 for want of permissions): asked again so often."""
LOST_SECONDS = 10.0
"""GitHub cuts its own calls after this time: whoever looks sooner for what a lost one made may look before it is there."""
MISSING = timedelta(minutes=2)
"""A whole repository that answers 404 is believed to be gone after this time."""
SUSPENDED_SECONDS = 300.0
REDIRECTS = 3
CACHE_BYTES = 8 * 2**20

Page = tuple[Any, str | None]
"""An answer, and the address of a listing's next page."""
Sign = Callable[[datetime], Awaitable[str]]
"""A JWT of the App for this time."""


class Unauthorised(Rejected):
    """The token is not (or no longer) known."""


class Unpermitted(Rejected):
    """The token may not do this."""


class Missing(Rejected):
    """There is no such thing, or not for us."""


class Kept(NamedTuple):
    """An answer that may be asked for again by its ETag, which costs nothing of the hourly limit."""

    etag: str
    headers: Any
    body: bytes


class Api(GitHubAPI):
    """gidgethub on aiohttp, with the version pinned, redirected writes that stay what they were, and our errors.

    Its cache is keyed by address alone, so each identity has an Api of its own: none sees another's answers.
    """

    def __init__(self, session: aiohttp.ClientSession, clock: Clock, slug: str, base_url: str) -> None:
        super().__init__(session, slug, base_url=base_url)
        self.limits, self._clock = Limits(clock), clock
        self._answers = cachetools.LRUCache[str, Kept](CACHE_BYTES, lambda kept: len(kept.body))

    async def send(self, method: str, url: str, body: Any, *, jwt: str | None, token: str | None) -> Page:
        """One call, as the App or as an installation. Raises Transient or Rejected.

        A read is repeated a second later until GitHub counts as down or wants a pause: whoever needs a hundred of them
        would else begin again and again.
        """
        while True:
            self.limits.admit()
            try:
                found, more, _ = await self._make_request(method, url, {}, body, accept_format(), jwt, token)
                return found, more
            except (aiohttp.ClientError, OSError) as error:
                why = f"GitHub cannot be reached: {type(error).__name__}"
                self.limits.failed(why)
                if method != "GET":
                    raise Away(why, LOST_SECONDS) from None
            except Away:
                if method != "GET":
                    raise
            except (Failure, ValueError) as error:
                raise _mapped(error, url) from None
            await self._clock.sleep(1.0)

    async def _request(self, method: str, url: str, headers: Any, body: bytes = b"") -> tuple[int, Any, bytes]:
        sent = {**headers, "X-GitHub-Api-Version": API_VERSION}
        kept = self._answers.get(url) if method == "GET" else None
        if kept is not None:
            sent["If-None-Match"] = kept.etag
        here = url
        for _ in range(REDIRECTS + 1):
            data = io.BytesIO(body) if body else body  # a large one is sent in parts
            async with self._session.request(method, here, headers=sent, data=data, allow_redirects=False) as answer:
                status, heads, content = answer.status, answer.headers, await answer.read()
            self.limits.heard(status, heads, content)
            there = urljoin(here, heads.get("Location", ""))
            if status not in (301, 307, 308) or urlsplit(there)[:2] != urlsplit(url)[:2]:
                break
            here = there  # with the same method and body: a write that became a read would seem to have been made
        if kept is not None and status == 304:
            return 200, kept.headers, kept.body
        if method == "GET" and status == 200 and "ETag" in heads and len(content) < CACHE_BYTES:
            self._answers[url] = Kept(heads["ETag"], heads, content)
        return status, heads, content


def _mapped(error: Failure | ValueError, url: str) -> Exception:
    """What gidgethub tells, as the error that says what to do. What GitHub asks to wait for is raised by its limits."""
    message = redacted(str(error))
    if isinstance(error, RedirectionException):
        return Rejected(f"GitHub redirects {url} to another place than its API")
    if not isinstance(error, BadRequest):
        return Away(f"GitHub's answer could not be read: {message}")
    status = error.status_code.value
    said = f"GitHub answered {status}: {message}"
    if status == 403 and "suspended" in message.lower():
        return Away(said, SUSPENDED_SECONDS)
    if status == 403 and "not accessible by" in message.lower():
        needs = error.headers.get("X-Accepted-GitHub-Permissions")
        mend = f"the App lacks the permission {needs}, which an owner can accept in the App's settings here"
        return Unpermitted(mend if needs else said)
    refused: dict[int, type[Rejected]] = {401: Unauthorised, 404: Missing}
    return refused.get(status, Rejected)(said)


class GitHubApp:
    """One registered App."""

    def __init__(self, *, app_id: int, sign: Sign, api_url: str, session: aiohttp.ClientSession, clock: Clock) -> None:
        self.app_id, self.slug = app_id, "interlock"
        self._sign, self._clock = sign, clock
        # An Enterprise Server has /api/v3 beside it.
        self._graphql = f"{api_url.rstrip('/').removesuffix('/v3')}/graphql"
        self._apis = defaultdict[int | None, Api](lambda: Api(session, clock, self.slug, api_url))
        self._tokens = Tokens(self._mint, clock)
        self._missing = cachetools.TTLCache[tuple[int, int], datetime](1024, 600, lambda: clock.wall().timestamp())

    async def as_app(self, method: str, path: str, body: Any = b"") -> Page:
        """A call as the App."""
        jwt = await self._sign(self._clock.wall())
        return await self._apis[None].send(method, path, body, jwt=jwt, token=None)

    async def _mint(self, path: str, wanted: dict[str, Any]) -> Any:
        try:
            return (await self.as_app("POST", path, wanted))[0]
        except Unauthorised as error:  # what the operator can mend costs no ticket its work
            mend = "check APP_ID, PRIVATE_KEY_FILE and this machine's clock"
            raise Away(f"GitHub does not take our signature for the App's ({error}): {mend}", 60.0) from None
        except Rejected:  # with those that are granted: what lacks one says so when it is used
            try:
                granted = (await self.as_app("GET", path.removesuffix("/access_tokens")))[0]["permissions"]
            except Missing:  # said to the App itself, by no token that may be too new: no repository that looks gone
                raise Rejected("the App is not installed there any more") from None
            levels = wanted["permissions"]
            fewer = {
                name: min(level, granted[name]) for name, level in levels.items() if name in granted
            }  # read < write
            if fewer == levels:
                raise
            return await self._mint(path, {**wanted, "permissions": fewer})

    async def token(self, repo: RepoRef, installation: int, purpose: Purpose) -> str:
        """An installation token for this repository alone. Raises Transient or Rejected (uninstalled)."""
        return (await self._tokens.get(repo, installation, purpose)).value

    def forget(self, repo: RepoRef, installation: int) -> None:
        """Mint new tokens next time: what the App may do can have changed."""
        self._tokens.forget(repo, installation)

    def check(self, installation: int, importance: Importance, *, creates: bool) -> None:
        """Whether a write could be made now, before anything is looked up for it. Raises Away."""
        self._apis[installation].limits.room(importance, creates=creates)

    async def call(
        self, repo: RepoRef, installation: int, method: str, path: str, body: Any = b"",
        importance: Importance = Importance.LAND,
    ) -> Any:  # fmt: skip
        """One REST call on a repository; `path` starts after /repos/owner/name, or is a whole address. Errors as in
        bot.errors.

        Writes wait for their turn, and a POST counts as one that creates content (git's objects are none). Whoever repeats
        one looks it up first.
        """
        try:
            found = await self._sent(repo, installation, method, path, body, importance)
        except Missing as error:
            await self._believed(repo, installation, path, error)
            raise
        self._missing.pop((installation, repo.id), None)
        return found

    async def _sent(
        self, repo: RepoRef, installation: int, method: str, path: str, body: Any, importance: Importance
    ) -> Any:
        api, purpose = self._apis[installation], purpose_of(method, path)
        asks = isinstance(body, dict) and str(body.get("query", "")).startswith("query")  # of GraphQL
        for wait in (*FRESH_RETRIES, 0.0):
            token = await self._tokens.get(repo, installation, purpose)
            writing = api.limits.turn(importance, creates=method == "POST" and not path.startswith("/git/"))
            try:
                async with writing if method != "GET" and not asks else contextlib.nullcontext():
                    url = path if "://" in path else f"/repos/{repo.full_name}{path}"
                    return (await api.send(method, url, body, jwt=None, token=token.value))[0]
            except (Unauthorised, Unpermitted) as error:
                refused = error
            if self._clock.wall() - token.minted < FRESH and wait:
                await self._clock.sleep(wait)
            elif isinstance(refused, Unpermitted):
                self.forget(repo, installation)
                break
            else:
                self._tokens.drop(repo, installation, purpose, token)  # expired or revoked: the next one is new
        raise refused if isinstance(refused, Unpermitted) else Away(str(refused))

    async def _believed(self, repo: RepoRef, installation: int, path: str, error: Missing) -> None:
        """A 404 is an answer if the repository is there, or has not been for a while. Raises Away if it is too early to say:
        to a token or a replica that is not everywhere yet, a repository looks as if it were gone."""
        if path:
            with contextlib.suppress(Rejected):
                await self.call(repo, installation, "GET", "")
            return
        since = self._missing.setdefault((installation, repo.id), now := self._clock.wall())
        if now - since < MISSING:
            raise Away(
                f"{error}, for the whole repository; that is believed after {MISSING}", MISSING.total_seconds() / 6
            )

    async def graphql(self, repo: RepoRef, installation: int, body: Any) -> Any:
        """One GraphQL call with a repository's token; its errors are part of the answer."""
        return await self.call(repo, installation, "POST", self._graphql, body)

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
