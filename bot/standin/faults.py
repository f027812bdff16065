"""GitHub on a bad day: limits that are kept, and answers that go wrong at random, from a seed (/_standin/limits, /chaos).

Only the App meets them, in REST and in git; people's requests are left alone, so that a test can look and act.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Mapping
from datetime import datetime

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from bot.standin import access
from bot.standin.state import Json, State
from bot.standin.weather import CONTENT, FRESH, KINDS, MINUTE, QUIET, Weather


def _minted(state: State, request: web.Request) -> datetime | None:
    """When the token of this call was made, if the App calls; its JWT was made just now."""
    kind, _, value = request.headers.get("Authorization", "").partition(" ")
    if kind == "Basic":
        value = base64.b64decode(value).decode().partition(":")[2]
    if request.path.startswith("/app/"):
        return state.now()
    token = state.tokens.get(value)
    return token.expires - access.TOKEN_LIFE if token else None


def _answer(status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response({"message": message, "status": str(status)}, status=status, headers=headers)


def middleware(state: State) -> Middleware:
    """Around every request."""
    weather: Weather = state.weather

    @web.middleware
    async def around(request: web.Request, handler: Handler) -> web.StreamResponse:
        minted = _minted(state, request)
        if minted is None:
            return await handler(request)
        now, plain = state.now(), ".git/" in request.path or request.path.startswith("/app/")
        call: Json = {"at": now.isoformat(), "method": request.method, "path": request.path, "fault": ""}
        weather.calls.append(call)
        if request.method == "POST" and CONTENT.search(request.path) and weather.over_budget(now) and weather.limits:
            weather.over += 1
            call["fault"] = "over budget"
            return _answer(403, "You have exceeded a secondary rate limit.", {"Retry-After": "60"})
        kind = weather.dice.choice(weather.kinds) if weather.dice.random() < weather.share else ""
        if (plain and kind not in ("500", "502", "reset")) or (kind == "401" and now - minted > FRESH):
            kind = ""
        if kind == "404" and (weather.missing_until is None or now > weather.missing_until + QUIET):
            weather.missing_until = now + MINUTE
        missing = weather.missing_until is not None and now < weather.missing_until and not plain
        kind = "404" if missing else "" if kind == "404" else kind
        call["fault"] = kind
        if kind == "reset":
            await request.read()
            await handler(request)
            if request.transport is not None:
                request.transport.abort()
        wrong = {
            "500": _answer(500, "Server Error"), "502": _answer(502, "Bad Gateway"), "reset": _answer(502, "never sent"),
            "401": _answer(401, "Bad credentials"), "404": _answer(404, "Not Found"),
            "403": _answer(403, "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."),
            "429": _answer(429, "Too many requests", {"Retry-After": "20"}),
        }  # fmt: skip
        return wrong[kind] if kind else await handler(request)

    return around


def routes(state: State) -> list[web.RouteDef]:
    """All under /_standin/."""
    weather: Weather = state.weather

    async def chaos(request: web.Request) -> web.Response:
        body = await request.json()
        if body.get("clear"):
            state.faults.clear()
        weather.dice = random.Random(body.get("seed", 0))
        weather.share = float(body.get("share", 0.0))
        weather.kinds = tuple(body.get("kinds", KINDS))
        return web.json_response({})

    async def limits(request: web.Request) -> web.Response:
        weather.limits = bool((await request.json())["on"])
        return web.json_response({})

    async def calls(request: web.Request) -> web.Response:
        created = [at.isoformat() for at in weather.created]
        return web.json_response({"calls": weather.calls, "created": created, "over": weather.over})

    async def tokens(request: web.Request) -> web.Response:
        return web.json_response({"app": list(state.tokens), "people": list(state.user_tokens)})

    return [
        web.post("/_standin/chaos", chaos),
        web.post("/_standin/limits", limits),
        web.get("/_standin/calls", calls),
        web.get("/_standin/tokens", tokens),
    ]
