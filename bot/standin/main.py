"""The stand-in's server: routes, request log, faults, errors as GitHub words them."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import web

from bot.standin import (
    access,
    client,
    code,
    control,
    faults,
    git_data,
    git_http,
    graphql,
    lifecycle,
    merge_queue,
    pages,
    post,
    record,
    registration,
    remarks,
    rest,
    rulesets,
    verdicts,
)
from bot.standin.rest import Call
from bot.standin.state import ApiError, Json, State

Handler = Callable[[Call], Awaitable[web.Response]]

_REPO: list[tuple[str, str, Handler]] = [
    ("GET", "", rest.get_repo),
    ("GET", "/collaborators", rest.collaborators),
    ("GET", "/collaborators/{login}/permission", rest.permission),
    ("GET", "/installation", rest.repo_installation),
    ("POST", "/issues", rest.create_issue),
    ("GET", "/issues", rest.list_issues),
    ("GET", "/issues/{number:\\d+}", rest.get_issue),
    ("PATCH", "/issues/{number:\\d+}", rest.patch_issue),
    ("POST", "/issues/{number:\\d+}/labels", rest.add_labels),
    ("DELETE", "/issues/{number:\\d+}/labels/{label}", rest.remove_label),
    ("POST", "/issues/{number:\\d+}/comments", rest.create_comment),
    ("GET", "/issues/{number:\\d+}/comments", rest.list_comments),
    ("GET", "/issues/{number:\\d+}/events", post.issue_events),
    ("GET", "/issues/comments/{comment:\\d+}", rest.get_comment),
    ("PATCH", "/issues/comments/{comment:\\d+}", rest.patch_comment),
    ("DELETE", "/issues/comments/{comment:\\d+}", rest.delete_comment),
    ("GET", "/git/ref/{ref:.+}", code.get_ref),
    ("POST", "/git/refs", code.create_ref),
    ("DELETE", "/git/refs/{ref:.+}", code.delete_ref),
    ("PATCH", "/git/refs/{ref:.+}", git_data.update_ref),
    ("POST", "/git/blobs", git_data.create_blob),
    ("POST", "/git/trees", git_data.create_tree),
    ("POST", "/git/commits", git_data.create_commit),
    ("GET", "/rules/branches/{branch:.+}", rulesets.branch_rules),
    ("GET", "/rulesets/{ruleset:\\d+}", rulesets.get_ruleset),
    ("GET", "/branches/{branch:.+}/protection", rulesets.get_protection),
    ("GET", "/commits", code.list_commits),
    ("GET", "/commits/{sha}/check-runs", verdicts.list_checks),
    ("GET", "/commits/{sha}/status", verdicts.combined_status),
    ("GET", "/commits/{sha:.+}", code.get_commit),
    ("GET", "/branches/{branch:[^/]+}", lifecycle.get_branch),
    ("GET", "/contents/{path:.+}", code.get_contents),
    ("POST", "/pulls", code.create_pull),
    ("GET", "/pulls", code.list_pulls),
    ("GET", "/pulls/{number:\\d+}", code.get_pull),
    ("PATCH", "/pulls/{number:\\d+}", code.patch_pull),
    ("GET", "/pulls/{number:\\d+}/files", code.pull_files),
    ("POST", "/pulls/{number:\\d+}/reviews", verdicts.create_review),
    ("GET", "/pulls/{number:\\d+}/reviews", verdicts.list_reviews),
    ("GET", "/pulls/{number:\\d+}/comments", verdicts.list_review_comments),
    ("GET", "/pulls/{number:\\d+}/reviews/{review:\\d+}/comments", verdicts.list_review_comments),
    ("PUT", "/pulls/{number:\\d+}/reviews/{review:\\d+}/dismissals", verdicts.dismiss_review),
    ("POST", "/check-runs", verdicts.create_check),
    ("GET", "/check-runs/{check:\\d+}", verdicts.get_check),
    ("PATCH", "/check-runs/{check:\\d+}", verdicts.patch_check),
    ("POST", "/check-runs/{check:\\d+}/rerequest", verdicts.rerequest_check),
]

_ROOT: list[tuple[str, str, Handler]] = [
    ("GET", "/app", rest.get_app),
    ("GET", "/app/installations/{installation:\\d+}", lifecycle.get_installation),
    ("POST", "/app/installations/{installation:\\d+}/access_tokens", rest.create_token),
    ("GET", "/app/hook/deliveries", post.list_deliveries),
    ("GET", "/app/hook/deliveries/{delivery:\\d+}", post.get_delivery),
    ("POST", "/app/hook/deliveries/{delivery:\\d+}/attempts", post.redeliver),
    ("GET", "/users/{login}", rest.get_user),
    ("POST", "/graphql", graphql.answer),
]


def _wrap(state: State, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        entry: Json = {
            "method": request.method, "path": request.path, "query": request.query_string, "status": 0, "who": "",
            "body": raw.decode("utf-8", "replace"), "at": state.now().isoformat(),
        }  # fmt: skip
        state.requests.append(entry)
        fault = control.fault_for(state, request.method, request.path)
        if fault and fault.get("delay"):
            await asyncio.sleep(float(fault["delay"]))
        while fault and fault.get("hold") and fault in state.faults:
            await state.wait(state.seq, 5.0)
        response: web.Response
        try:
            if fault and "status" in fault and not fault.get("after"):
                raise control.fault_error(fault)
            caller = access.by_header(state, request)
            entry["who"] = caller.name
            body = json.loads(raw) if raw else {}
            response = await handler(Call(state, request, caller, body if isinstance(body, dict) else {}))
        except ApiError as error:
            response = web.json_response(error.body, status=error.status, headers=error.headers)
            if error.status == 301 and "url" in error.body:
                response.headers["Location"] = error.body["url"]
                response.set_status(301 if request.method == "GET" else 307)
        except ValueError as error:
            response = web.json_response({"message": f"Problems parsing JSON: {error}"}, status=400)
        if fault is None:
            record.exchange(request, raw, response)
        else:
            response.headers.update(fault.get("headers", {}))
            if fault.get("after") and "status" in fault:
                response = web.json_response({"message": "a fault on demand"}, status=int(fault["status"]))
            if fault.get("reset") and request.transport is not None:
                entry["status"] = -response.status
                request.transport.abort()
                return response
        entry["status"] = response.status
        response.headers["X-GitHub-Request-Id"] = f"{len(state.requests):04X}"
        if state.weather.limits:
            response.headers.setdefault("X-RateLimit-Limit", "5000")
            response.headers.setdefault("X-RateLimit-Remaining", "4999")
            response.headers.setdefault("X-RateLimit-Reset", str(int(state.now().timestamp()) + 3600))
        if request.method == "GET" and response.status == 200 and isinstance(response.body, bytes):
            etag = f'"{hashlib.sha256(response.body).hexdigest()[:32]}"'
            if request.headers.get("If-None-Match") == etag:
                entry["status"] = 304
                return web.Response(status=304, headers={"ETag": etag})
            response.headers["ETag"] = etag
        return response

    return answer


def application(state: State) -> web.Application:
    """All routes."""
    app = web.Application(client_max_size=512 * 2**20, middlewares=[faults.middleware(state)])
    app.add_routes(git_http.routes(state))
    for part in (control, remarks, faults, lifecycle, rulesets, merge_queue, post):
        app.add_routes(part.routes(state))
    for method, path, handler in [*_ROOT, *registration.ROOT]:
        app.router.add_route(method, path, _wrap(state, handler))
    for method, path, handler in [*_REPO, *registration.REPO]:
        app.router.add_route(method, f"/repos/{{owner}}/{{repo}}{path}", _wrap(state, handler))
        app.router.add_route(method, f"/repositories/{{repo_id:\\d+}}{path}", _wrap(state, handler))
    app.add_routes(registration.routes(state))
    app.add_routes(pages.routes(state))

    async def unknown(call: Call) -> web.Response:
        raise ApiError(404, f"Not Found: the stand-in does not have {call.request.method} {call.request.path}")

    app.router.add_route("*", "/{path:.*}", _wrap(state, unknown))
    return app


@asynccontextmanager
async def stand_in(data: Path, port: int = 0, host: str = "127.0.0.1", prefix: str = "") -> AsyncIterator[State]:
    """Serve until the block ends; `state.url` is where. With a prefix it is a GitHub Enterprise Server behind a path, whose
    API has a root of its own."""
    state = State(data)
    state.prefix = prefix
    data.mkdir(parents=True, exist_ok=True)
    app = application(state)
    if prefix:
        app, inner = web.Application(client_max_size=512 * 2**20), app
        app.add_subapp(f"{prefix}/api/v3", application(state))
        app.add_subapp(prefix, inner)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    await site.start()
    state.url = f"http://{host}:{runner.addresses[0][1]}{prefix}"
    delivering = asyncio.create_task(post.deliver_all(state))
    try:
        yield state
    finally:
        delivering.cancel()
        await asyncio.gather(delivering, return_exceptions=True)
        await runner.cleanup()


async def serve(data: Path, port: int, repo: Path | None = None, prefix: str = "") -> None:
    """Serve until told to stop; the first line printed is the address, the second one where `repo` was pushed to."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    async with stand_in(data, port, prefix=prefix) as state:
        print(state.url, flush=True)
        if repo is not None:
            async with aiohttp.ClientSession() as session:
                made = await client.LocalGitHub(state.url, session).push(repo, client.name_for(repo), client.PEOPLE)
            print(f"{state.url}/{made.full_name}", flush=True)
        await stop.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="bot.standin.main", description="a local GitHub")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--prefix", default="")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(options.data, options.port, prefix=options.prefix))
