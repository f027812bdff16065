"""How deliveries travel: one after the other, or lost, repeated and out of order on demand (POST /_standin/losses); what
GitHub tells of them afterwards, and what it tells an App of its installations.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import random

import aiohttp
from aiohttp import web

from bot.standin.rest import Call, page
from bot.standin.state import ApiError, App, Json, State

ANSWER_SECONDS = 10


async def deliver(state: State, session: aiohttp.ClientSession, delivery: Json) -> None:
    """One attempt; whatever comes of it is in the log."""
    app = state.app
    if app is None:
        return
    body = delivery["body"].encode()
    signature = hmac.new(app.secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {
        "Content-Type": "application/json", "User-Agent": "GitHub-Hookshot/standin", "X-GitHub-Event": delivery["event"],
        "X-GitHub-Delivery": delivery["guid"], "X-Hub-Signature-256": f"sha256={signature}", "X-GitHub-Hook-ID": "1",
        "X-GitHub-Hook-Installation-Target-Type": "integration", "X-GitHub-Hook-Installation-Target-ID": str(app.id),
    }  # fmt: skip
    try:
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        async with session.post(app.webhook_url, data=body, headers=headers, timeout=timeout) as answer:
            delivery["status_code"] = answer.status
            delivery["status"] = "OK" if answer.status < 300 else f"Invalid HTTP Response: {answer.status}"
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        _failed(state, delivery, type(error).__name__)
    delivery["delivered_at"] = state.now()
    state.touch()


def _failed(state: State, delivery: Json, why: str) -> None:
    delivery |= {"status": f"failed to connect: {why}", "status_code": 0, "delivered_at": state.now()}


async def deliver_all(state: State) -> None:
    """The delivery task: in order, one at a time; with losses, each one on its own way."""
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as ways:
        dice, seed = random.Random(), None
        while True:
            delivery = await state.outgoing.get()
            losses = state.losses
            if not losses:
                await deliver(state, session, delivery)
                continue
            if losses.get("seed") != seed:
                seed = losses.get("seed")
                dice.seed(seed)
            lost, again = dice.random() < losses.get("lose", 0), dice.random() < losses.get("repeat", 0)
            if lost:
                _failed(state, delivery, "lost on the way")
            for _ in range((not lost) + (again and not lost)):
                ways.create_task(_late(state, session, delivery, dice.random() * losses.get("shuffle", 0)))


async def _late(state: State, session: aiohttp.ClientSession, delivery: Json, seconds: float) -> None:
    await asyncio.sleep(seconds)
    await deliver(state, session, delivery)


def routes(state: State) -> list[web.RouteDef]:
    """POST /_standin/losses: {lose, repeat} are shares of all attempts, {shuffle} seconds; {} ends it."""

    async def losses(request: web.Request) -> web.Response:
        state.losses = await request.json()
        return web.json_response({})

    return [web.post("/_standin/losses", losses)]


# --- what GitHub tells ------------------------------------------------------------------------------------------------
def _app(call: Call) -> App:
    if call.caller.app is None:
        raise ApiError(401, "A JSON web token could not be decoded")
    return call.caller.app


def _attempt(call: Call, delivery: Json) -> Json:
    return {
        "id": delivery["id"], "guid": delivery["guid"], "delivered_at": delivery["delivered_at"].isoformat(),
        "redelivery": delivery["redelivery"], "duration": 0.1, "status": delivery["status"], "throttled_at": None,
        "status_code": delivery["status_code"], "event": delivery["event"], "action": delivery["action"],
        "installation_id": _app(call).installation, "repository_id": delivery["repository_id"],
    }  # fmt: skip


async def list_deliveries(call: Call) -> web.Response:
    """Attempts that have ended, the newest first, three days back, by cursor."""
    _app(call)
    query, now = call.request.query, call.state.now()
    size, cursor = min(int(query.get("per_page", "30")), 100), int(query.get("cursor", "0"))
    ended = [d for d in call.state.deliveries if d["delivered_at"] is not None and (now - d["delivered_at"]).days < 3]
    ended.sort(key=lambda one: (one["delivered_at"], one["id"]), reverse=True)
    start = next((at for at, one in enumerate(ended) if one["id"] == cursor), 0)
    headers = {}
    if start + size < len(ended):
        link = f"{call.state.url}{call.request.path}?per_page={size}&cursor={ended[start + size]['id']}"
        headers["Link"] = f'<{link}>; rel="next"'
    return web.json_response([_attempt(call, one) for one in ended[start : start + size]], headers=headers)


def _delivery(call: Call) -> Json:
    _app(call)
    wanted = int(call.request.match_info["delivery"])
    for delivery in call.state.deliveries:
        if delivery["id"] == wanted:
            return delivery
    raise ApiError(404, "Not Found")


async def get_delivery(call: Call) -> web.Response:
    """One attempt with its payload."""
    found = _delivery(call)
    sent: Json = {"headers": {"X-GitHub-Event": found["event"]}, "payload": json.loads(found["body"])}
    whole = {"url": "", "request": sent, "response": {"headers": {}, "payload": None}}
    return web.json_response({**_attempt(call, found), **whole})


async def redeliver(call: Call) -> web.Response:
    """Another attempt at the same delivery."""
    again = {**_delivery(call), "id": call.state.next_id(), "redelivery": True, "status": "", "delivered_at": None}
    call.state.deliveries.append(again)
    call.state.outgoing.put_nowait(again)
    return web.json_response({}, status=202)


async def issue_events(call: Call) -> web.Response:
    """Labels put on an issue or pull request and taken off, with who did it."""
    repo = call.repo("issues")
    return page(call, [one for one in call.state.item(repo, call.number()).events if "label" in one])
