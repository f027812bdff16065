"""Git over HTTP: what no repetition mends is told apart by git's own words, not by what an address holds."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pygit2
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bot.errors import InterlockError, Rejected, Transient
from bot.github.remote import GitHubRemote
from bot.github.tokens import Purpose


async def token(_: Purpose) -> str:
    return "ghs_0123456789abcdef"


@pytest.mark.parametrize(
    ("status", "error"), [(403, Rejected), (404, Rejected), (500, Transient), (503, Transient), (0, Transient)]
)
async def test_what_git_says_decides_and_not_the_address(
    tmp_path: Path, status: int, error: type[InterlockError]
) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status)

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", answer)
    git_dir = tmp_path / "r.git"
    pygit2.init_repository(str(git_dir), bare=True)
    async with TestServer(app) as server:
        url = str(server.make_url("/octo-404/app-403-not found.git"))
        if status == 0:
            await server.close()
        remote = GitHubRemote(git_dir, url, token, asyncio.Lock())
        with pytest.raises(error) as raised:
            await remote.head("refs/heads/main")
    assert await token("fetch") not in str(raised.value)


async def test_a_child_that_ended_by_itself_hides_no_cancellation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, kill = asyncio.Event(), os.killpg

    async def answer(request: web.Request) -> web.Response:
        asked.set()
        await asyncio.sleep(60)
        return web.Response()

    def gone(group: int, number: int) -> None:
        kill(group, number)
        raise ProcessLookupError

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", answer)
    git_dir = tmp_path / "r.git"
    pygit2.init_repository(str(git_dir), bare=True)
    async with TestServer(app) as server:
        remote = GitHubRemote(git_dir, str(server.make_url("/octo/app.git")), token, asyncio.Lock())
        reading = asyncio.create_task(remote.head("refs/heads/main"))
        await asked.wait()
        monkeypatch.setattr(os, "killpg", gone)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
