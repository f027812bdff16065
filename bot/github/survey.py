"""Reading a GitHub as doctor does: the App, its installations, their repositories. Nothing is changed, ever."""

import base64
from collections.abc import AsyncIterator
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import quote

import aiohttp

from bot.errors import Rejected, Transient
from bot.github.app import Api, GitHubApp
from schemas.policy import POLICY_PATH

READS = ("metadata", "contents")
"""The permissions that reading takes."""


class Greeting(NamedTuple):
    """GitHub's time, and the API versions that it lists (None: it lists none)."""

    date: datetime
    versions: list[str] | None


class RepositoryFacts(NamedTuple):
    """`rulesets` by id, as the App sees them; `classic` is what a branch says of its old kind of protection."""

    repo: dict[str, Any]
    rules: list[dict[str, Any]]
    rulesets: dict[int, dict[str, Any]]
    classic: dict[str, Any]
    empty: bool
    blocked: bool
    policy: bytes


async def greet(session: aiohttp.ClientSession, api_url: str) -> Greeting:
    """Ask without any identity. Raises Transient."""
    try:
        async with session.get(f"{api_url}/versions") as answer:
            listed = await answer.json() if answer.status == 200 else None
            return Greeting(parsedate_to_datetime(answer.headers["Date"]), listed)
    except (aiohttp.ClientError, OSError, KeyError, ValueError, TimeoutError) as error:
        raise Transient(f"{api_url} cannot be reached ({type(error).__name__})") from None


class Survey:
    """`api` is a client of its own, whose answers nobody else gets to see."""

    def __init__(self, app: GitHubApp, api: Api) -> None:
        self._app, self._api = app, api

    async def as_app(self, path: str) -> Any:
        """Raises Transient or Rejected."""
        return (await self._app.as_app("GET", path))[0]

    async def installations(self) -> list[dict[str, Any]]:
        """All of the App's."""
        found: list[dict[str, Any]] = []
        path: str | None = "/app/installations?per_page=100"
        while path:
            page, path = await self._app.as_app("GET", path)
            found += page
        return found

    async def repositories(self, installation: dict[str, Any]) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Each repository of an installation, with a token that reads it."""
        granted = {name: "read" for name in READS if name in installation["permissions"]}
        mint = f"/app/installations/{installation['id']}/access_tokens"
        minted, _ = await self._app.as_app("POST", mint, {"permissions": granted})
        path: str | None = "/installation/repositories?per_page=100"
        while path:
            page, path = await self._api.send("GET", path, b"", jwt=None, token=minted["token"])
            for repo in page["repositories"]:
                yield minted["token"], repo

    async def look(self, token: str, repo: dict[str, Any]) -> RepositoryFacts:
        """One repository. What may not be read is as if it were not there. Raises Transient."""

        async def get(path: str) -> Any:
            try:
                return (await self._api.send("GET", f"/repos/{repo['full_name']}{path}", b"", jwt=None, token=token))[0]
            except Rejected:
                return None

        name = quote(repo["default_branch"], safe="")
        branch = await get(f"/branches/{name}")
        rules = await get(f"/rules/branches/{name}?per_page=100") or []
        numbers = {rule["ruleset_id"] for rule in rules if "ruleset_id" in rule}
        file = await get(f"/contents/{POLICY_PATH}?ref={name}")
        return RepositoryFacts(
            repo=repo, rules=rules, rulesets={number: await get(f"/rulesets/{number}") or {} for number in numbers},
            classic=(branch or {}).get("protection") or {}, empty=branch is None,
            blocked=await get("/git/ref/heads/interlock") is not None,
            policy=base64.b64decode(file["content"]) if isinstance(file, dict) and "content" in file else b"",
        )  # fmt: skip
