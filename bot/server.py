"""The two listeners. Public: webhooks and health. Admin: everything else, on loopback or with the API token.

A delivery is verified, stored, and only then answered 202; what it means is worked out later, by the loop.
"""

import asyncio
import hmac
import ipaddress
import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import ValidationError

from bot.errors import Rejected, Transient
from bot.metrics import Metrics
from bot.ports import Clock, Store
from bot.store.operating import Unknown
from bot.store.store import SqliteStore
from bot.store.views import EntryRow, LaneRow
from schemas.commands import Command
from schemas.payloads import fits

MAX_BODY = 25 * 2**20
BODY_SECONDS = 10.0
"""GitHub itself gives up by then."""
MIN_FREE_BYTES = 256 * 2**20
_GUID = re.compile(r"[A-Za-z0-9-]{8,80}\Z")
_EVENT = re.compile(r"[a-z0-9_]{1,60}\Z")


def signature_fits(secret: str, body: bytes, header: str) -> bool:
    """GitHub's X-Hub-Signature-256, compared in constant time. An empty secret fits nothing."""
    wanted = f"sha256={hmac.new(secret.encode(), body, 'sha256').hexdigest()}"
    return bool(secret) and hmac.compare_digest(wanted.encode(), header.encode("utf-8", "surrogateescape"))


def public(
    store: Store, clock: Clock, secret: str, data_dir: Path, metrics: Metrics, arrived: Callable[[], None]
) -> web.Application:
    """POST /webhook and GET /healthz."""

    def answered(status: int, word: str, message: str) -> web.Response:
        metrics.deliveries.labels(word).inc()
        return web.Response(
            body=b'{"message": "%s"}' % message.encode(), status=status, content_type="application/json"
        )

    async def webhook(request: web.Request) -> web.Response:
        if request.content_length is not None and request.content_length > MAX_BODY:
            return answered(413, "too_large", "the body is over 25 MiB")
        try:
            async with asyncio.timeout(None if request.content.is_eof() else BODY_SECONDS):
                body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return answered(413, "too_large", "the body is over 25 MiB")
        except TimeoutError:
            return answered(408, "too_slow", "the body did not come in time")
        headers = request.headers
        if not signature_fits(secret, body, headers.get("X-Hub-Signature-256", "")):
            return answered(401, "unsigned", "the SHA-256 signature is missing or wrong")
        guid, event = headers.get("X-GitHub-Delivery", ""), headers.get("X-GitHub-Event", "")
        if not _GUID.match(guid) or not _EVENT.match(event):
            return answered(400, "malformed", "the delivery's id or event is missing or malformed")
        kind = headers.get("Content-Type", "").partition(";")[0]
        found = read(body) if kind.strip().lower() == "application/json" else None
        if found is None:
            return answered(400, "malformed", "the body is not a JSON object (set the webhook's content type to JSON)")
        if not fits(event, found):  # the signature does not cover the header
            return answered(400, "malformed", "the body is not of the event that X-GitHub-Event names")
        if shutil.disk_usage(data_dir).free < MIN_FREE_BYTES:
            return answered(503, "refused", "the disk is nearly full")
        try:
            new = await store.keep_delivery(guid, event, body, clock.wall())
        except Transient:
            return answered(503, "refused", "the delivery could not be stored")
        if new:
            arrived()
        return answered(202, "new" if new else "repeated", "accepted")

    app = web.Application(client_max_size=MAX_BODY + 1)
    app.add_routes([web.post("/webhook", webhook), web.get("/healthz", health)])
    return app


async def health(request: web.Request) -> web.Response:
    """GET /healthz: the process answers."""
    return web.json_response({"status": "ok"})


def read(body: bytes) -> dict[str, Any] | None:
    """A JSON object by the letter of the law: UTF-8, no NaN, no key twice. None for anything else."""
    try:
        found = orjson.loads(body)
        if orjson.dumps(found) == body:  # a key that was there twice would not be written twice
            return found if isinstance(found, dict) else None
    except ValueError:
        pass
    # GitHub's bodies are as compact as ours; whatever is written in another way is read in the slow one.
    try:
        found = json.loads(body.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A key that is there twice means one thing to us and another to somebody else: refused."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def admin(
    store: SqliteStore, clock: Clock, metrics: Metrics, token: str, named: asyncio.Event, operated: Callable[[], None]
) -> web.Application:
    """GET /healthz, /readyz, /metrics, /snapshot and /queue, POST /commands. `named` is set once GitHub has said which App we
    are; `operated` is called after each command that was done."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method == "POST":  # looking is for whoever is on this machine, acting is not
            if not _has_token(request, token):
                raise web.HTTPUnauthorized(text="send the API token as a bearer token")
        elif not _admitted(request, token):
            raise web.HTTPUnauthorized(text="come from loopback, or send the API token as a bearer token")
        return await handler(request)

    async def readyz(request: web.Request) -> web.Response:
        missing = {} if named.is_set() else {"github": "the App could not be asked for its name yet"}
        return web.json_response({"ready": not missing, "missing": missing}, status=503 if missing else 200)

    async def numbers(request: web.Request) -> web.Response:
        now = await store.snapshot(clock.wall())
        body = metrics.page(now.tickets, now.entries, now.effects, now.oldest_event_seconds, now.audit_records)
        return web.Response(body=body, content_type="text/plain", charset="utf-8")

    async def snapshot(request: web.Request) -> web.Response:
        now = await store.snapshot(clock.wall())
        return web.json_response(now.model_dump(mode="json"))

    async def queue(request: web.Request) -> web.Response:
        names = {str(ticket.repo.id): ticket.repo.full_name for ticket in await store.tickets()}
        lanes = "".join(_lane(lane, names, clock.wall()) for lane in await store.lane_rows(SHOWN))
        failed, many = await store.failed_rows(SHOWN)
        rows = [(one.id, one.state, one.attempts, one.error_class, one.error, one.commit[:12]) for one in failed]
        ever = f"<h2>Failed at least once: {many}</h2>{_table(_FAILED, rows)}" if rows else ""
        page = _PAGE.format(body=(lanes or "<p>Nothing was ever queued.</p>") + ever)
        return web.Response(text=page, content_type="text/html")

    async def commands(request: web.Request) -> web.Response:
        try:
            command = Command.model_validate_json(await request.read())
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"]) or "the body"
            return web.json_response({"message": f"{key}: {first['msg']}"}, status=400)
        try:
            done = await store.operate(command, clock.wall())
        except Rejected as error:
            return web.json_response({"message": str(error)}, status=404 if isinstance(error, Unknown) else 409)
        except Transient as error:
            return web.json_response({"message": str(error)}, status=503)
        operated()
        return web.json_response(done.model_dump(mode="json"))

    app = web.Application(middlewares=[guard])
    app.router.add_post("/commands", commands)
    for path, page in (
        ("/healthz", health),
        ("/readyz", readyz),
        ("/metrics", numbers),
        ("/snapshot", snapshot),
        ("/queue", queue),
    ):
        app.router.add_get(path, page)
    return app


def _lane(lane: LaneRow, names: Mapping[str, str], now: datetime) -> str:
    """One lane: whether it is open, what its train does, and who waits in it for what, in apply order."""
    number, _, ref = lane.key.partition(":")
    rest = ", ".join(f"{count} {state}" for state, count in sorted(lane.at_rest.items()))
    said = [
        f"{lane.state}: {lane.why}" if lane.why else lane.state,
        f"under way: {len(lane.train.carriages)} together, {lane.train.state}" if lane.train else "",
        f"before: {rest}" if rest else "",
    ]
    rows = [(place, one.id, one.state, _waits(one, now), one.attempts) for place, one in enumerate(lane.open, 1)]
    table = _table(_WAITING, rows) if rows else ""
    more = f"<p>{lane.more} more wait.</p>" if lane.more > 0 else ""
    title = f"{names.get(number, number)} · {ref.removeprefix('refs/heads/')}"
    return f"<h2>{escape(title)}</h2><p>{escape('; '.join(filter(None, said)))}</p>{table}{more}"


def _waits(entry: EntryRow, now: datetime) -> str:
    if entry.state == "held":
        return "a person's release"
    if entry.next_try and entry.next_try > now:
        return f"the next try at {entry.next_try:%H:%M:%S}" + (f": {entry.error}" if entry.error else "")
    return "its turn" if entry.state == "queued" else ""


def _table(headings: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    lines = "".join(_row("td", row) for row in rows)
    return f"<table><thead>{_row('th', headings)}</thead><tbody>{lines}</tbody></table>"


def _row(tag: str, cells: Iterable[object]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(str(cell or ''))}</{tag}>" for cell in cells) + "</tr>"


def _has_token(request: web.Request, token: str) -> bool:
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    return bool(token) and hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode())


def _admitted(request: web.Request, token: str) -> bool:
    if _has_token(request, token):
        return True
    host = (request.host or "").rsplit(":", 1)[0].strip("[]")
    # A name in Host would let a web page reach us through a name that resolves to loopback (DNS rebinding).
    named_loopback = host in ("localhost", "127.0.0.1", "::1")
    try:
        return named_loopback and ipaddress.ip_address(request.remote or "").is_loopback
    except ValueError:
        return False


SHOWN = 50
"""Entries of a lane, and failures, on the page; `interlock queue` has them all."""
_WAITING = ("", "entry", "state", "waits for", "failures")
_FAILED = ("entry", "state", "failures", "as", "last failure", "commit")
_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Merge queue</title>
<meta name="viewport" content="width=device-width"><meta http-equiv="refresh" content="5"><style>
:root {{ color-scheme: light dark; }} body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem; overflow-wrap: anywhere; }}
table {{ border-collapse: collapse; }} th, td {{ text-align: left; padding: .3rem .8rem; border-bottom: 1px solid #8886; }}
</style></head><body><h1>Merge queue</h1>{body}</body></html>"""
