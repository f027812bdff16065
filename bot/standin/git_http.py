"""Git's smart HTTP on the same bare repositories: git itself speaks, we check who asks and tell what changed."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator

from aiohttp import web

from bot.standin import access, hooks
from bot.standin.state import ApiError, Repository, State, User

_PACKET_FLUSH = b"0000"
_ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}


def _caller(state: State, request: web.Request, service: str) -> tuple[Repository, User]:
    info = request.match_info
    if "Authorization" not in request.headers:
        raise web.HTTPUnauthorized(headers={"WWW-Authenticate": 'Basic realm="GitHub"'})
    try:
        caller = access.by_header(state, request)
        moved = state.renamed.get(f"{info['owner']}/{info['repo'].removesuffix('.git')}".lower())
        if moved in state.repositories:
            now = f"{state.repositories[moved].full_name}.git"
            path = request.path_qs.replace(f"{info['owner']}/{info['repo']}", now, 1)
            raise web.HTTPMovedPermanently(location=f"{state.url}{path}")
        repo = state.repository(info["owner"], info["repo"].removesuffix(".git"))
        caller.may(state, repo, "contents", "write" if service == "git-receive-pack" else "read")
        return repo, caller.who
    except ApiError as error:
        if error.status == 401:
            raise web.HTTPUnauthorized(headers={"WWW-Authenticate": 'Basic realm="GitHub"'}) from None
        status = {404: web.HTTPNotFound, 403: web.HTTPForbidden}.get(error.status, web.HTTPForbidden)
        raise status(text=str(error)) from None


async def _start(repo: Repository, service: str, *args: str, protocol: str = "") -> asyncio.subprocess.Process:
    env = {**_ENV, **({"GIT_PROTOCOL": protocol} if protocol else {})}
    return await asyncio.create_subprocess_exec(
        "git", service.removeprefix("git-"), "--stateless-rpc", *args, str(repo.path),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=env,
    )  # fmt: skip


def routes(state: State) -> list[web.RouteDef]:
    """The three paths of the protocol."""

    async def info_refs(request: web.Request) -> web.StreamResponse:
        service = request.query.get("service", "")
        if service not in ("git-upload-pack", "git-receive-pack"):
            raise web.HTTPForbidden(text="only smart HTTP is served")
        repo, _ = _caller(state, request, service)
        protocol = request.headers.get("Git-Protocol", "")
        process = await _start(repo, service, "--advertise-refs", protocol=protocol)
        out, _ = await process.communicate()
        banner = f"# service={service}\n".encode()
        body = b"%04x" % (len(banner) + 4) + banner + _PACKET_FLUSH + out
        kind = f"application/x-{service}-advertisement"
        return web.Response(body=body, headers={"Content-Type": kind, "Cache-Control": "no-cache"})

    async def upload(request: web.Request) -> web.StreamResponse:
        repo, _ = _caller(state, request, "git-upload-pack")
        return await _exchange(request, repo, "git-upload-pack")

    async def receive(request: web.Request) -> web.StreamResponse:
        repo, who = _caller(state, request, "git-receive-pack")
        async with repo.lock:
            before = repo.refs()
            _protect(repo, who)
            try:
                return await _exchange(request, repo, "git-receive-pack")
            finally:
                after = repo.refs()
                for ref in sorted(before.keys() | after.keys()):
                    if before.get(ref) != after.get(ref):
                        hooks.push(state, repo, ref, before.get(ref), after.get(ref), who)

    base = "/{owner}/{repo:[^/]+\\.git}"
    return [
        web.get(f"{base}/info/refs", info_refs),
        web.post(f"{base}/git-upload-pack", upload),
        web.post(f"{base}/git-receive-pack", receive),
    ]


def _protect(repo: Repository, who: User) -> None:
    """Branch protection as a hook of the bare repository: these refs are closed to this pusher."""
    closed = [f"refs/heads/{branch}" for branch, allowed in repo.protected.items() if who.login not in allowed]
    hook = repo.path / "hooks" / "update"
    if not closed:
        hook.unlink(missing_ok=True)
        return
    hook.parent.mkdir(exist_ok=True)
    cases = "|".join(closed)
    message = "error: GH006: Protected branch update failed for $1."
    hook.write_text(f'#!/bin/sh\ncase "$1" in {cases}) echo "{message}" >&2; exit 1;; esac\n')
    hook.chmod(0o755)


async def _body(request: web.Request) -> AsyncIterator[bytes]:
    inflate = zlib.decompressobj(31) if request.headers.get("Content-Encoding") == "gzip" else None
    async for chunk in request.content.iter_any():
        yield inflate.decompress(chunk) if inflate else chunk
    if inflate:
        yield inflate.flush()


async def _exchange(request: web.Request, repo: Repository, service: str) -> web.StreamResponse:
    process = await _start(repo, service, protocol=request.headers.get("Git-Protocol", ""))
    assert process.stdin is not None and process.stdout is not None

    async def feed() -> None:
        assert process.stdin is not None
        with contextlib.suppress(ConnectionError, BrokenPipeError):
            async for chunk in _body(request):
                process.stdin.write(chunk)
                await process.stdin.drain()
        process.stdin.close()

    feeding = asyncio.create_task(feed())
    answer = web.StreamResponse(
        headers={"Content-Type": f"application/x-{service}-result", "Cache-Control": "no-cache"}
    )
    try:
        await answer.prepare(request)
        while chunk := await process.stdout.read(65536):
            await answer.write(chunk)
        await process.wait()
        await answer.write_eof()
    except ConnectionError:
        await process.wait()
    finally:
        await feeding
    return answer
