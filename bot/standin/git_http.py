"""Git's smart HTTP on the same bare repositories: git itself speaks, we check who asks and tell what changed."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator

from aiohttp import web

from bot.standin import access, hooks, rulesets
from bot.standin.state import ApiError, Repository, State, User

_PACKET_FLUSH = b"0000"
_NOTHING = "0" * 40
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
            # Rules ask what a push brings, so it is taken in whole before git is asked to move a ref.
            body = b"".join([part async for part in _body(request)]) if repo.rulesets or repo.protection else None
            await _protect(state, repo, who, body)
            try:
                return await _exchange(request, repo, "git-receive-pack", body)
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


async def _protect(state: State, repo: Repository, who: User, body: bytes | None) -> None:
    """The branch's rules as a hook of the bare repository: these refs are closed to this pusher, in GitHub's words."""
    closed = {
        f"refs/heads/{branch}": f"error: GH006: Protected branch update failed for refs/heads/{branch}."
        for branch, allowed in repo.protected.items()
        if who.login not in allowed
    }
    commands, pack = _commands(body or b"")
    if pack:
        await _take_in(repo, pack)
    for old, new, ref in commands:
        start, end = (None if sha == _NOTHING else sha for sha in (old, new))
        code, rules = rulesets.broken(state, repo, ref, start, end, who)
        if code:
            closed[ref] = rulesets.spoken(state, repo, ref, code, rules)
    hook = repo.path / "hooks" / "update"
    if not closed:
        hook.unlink(missing_ok=True)
        return
    hook.parent.mkdir(exist_ok=True)
    cases = "".join(f"{ref}) cat >&2 <<'END'\n{text}\nEND\nexit 1;;\n" for ref, text in closed.items())
    hook.write_text(f'#!/bin/sh\ncase "$1" in\n{cases}esac\n')
    hook.chmod(0o755)


def _commands(body: bytes) -> tuple[list[tuple[str, str, str]], bytes]:
    """A push's (old, new, ref), and the pack behind them."""
    found: list[tuple[str, str, str]] = []
    at = 0
    while size := int(body[at : at + 4] or b"0", 16):
        old, new, ref = body[at + 4 : at + size].split(b"\0")[0].decode().split(" ", 2)
        found.append((old, new, ref.strip()))
        at += size
    return found, body[at + 4 :]


async def _take_in(repo: Repository, pack: bytes) -> None:
    """A pack's objects, which no ref reaches yet."""
    process = await asyncio.create_subprocess_exec(
        "git", "-C", str(repo.path), "index-pack", "--stdin", "--fix-thin", env=_ENV,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    await process.communicate(pack)


async def _body(request: web.Request) -> AsyncIterator[bytes]:
    inflate = zlib.decompressobj(31) if request.headers.get("Content-Encoding") == "gzip" else None
    async for chunk in request.content.iter_any():
        yield inflate.decompress(chunk) if inflate else chunk
    if inflate:
        yield inflate.flush()


async def _whole(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def _exchange(
    request: web.Request, repo: Repository, service: str, body: bytes | None = None
) -> web.StreamResponse:
    process = await _start(repo, service, protocol=request.headers.get("Git-Protocol", ""))
    assert process.stdin is not None and process.stdout is not None

    async def feed() -> None:
        assert process.stdin is not None
        with contextlib.suppress(ConnectionError, BrokenPipeError):
            async for chunk in _body(request) if body is None else _whole(body):
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
