"""What went over the wire, for a judge of its shapes: one JSON line for each distinct exchange and webhook.

Only if STANDIN_RECORD names a folder. Lines are {"rest": {agent, method, path, query, status, request, response}} and
{"hook": {event, payload}}; `agent` is the caller's User-Agent, `query` the names in the query.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

from aiohttp import web

ENVIRONMENT = "STANDIN_RECORD"
ITEMS = 8
"""Of a list as many are looked at, to tell two shapes apart."""
_WORD = re.compile(r"[A-Za-z_]{1,24}\Z")
_seen: set[Hashable] = set()


def exchange(request: web.Request, raw: bytes, response: web.Response) -> None:
    """One call and its answer."""
    if not os.environ.get(ENVIRONMENT):
        return
    asked, answered = _json(raw), _json(response.body if isinstance(response.body, bytes) else b"")
    agent = request.headers.get("User-Agent", "")
    resource = request.match_info.route.resource
    query = sorted(request.query)
    document = asked.get("query") if isinstance(asked, dict) and request.path.endswith("/graphql") else None
    route = resource.canonical if resource else request.path
    key = (route, request.method, agent, response.status, tuple(query), document, shape(asked), shape(answered))
    _write(key, {"rest": {
        "agent": agent, "method": request.method, "path": request.rel_url.raw_path, "query": query, "status": response.status,
        "request": asked, "response": answered,
    }})  # fmt: skip


def hook(event: str, payload: dict[str, Any]) -> None:
    """One webhook, as it is sent."""
    if os.environ.get(ENVIRONMENT):
        _write((event, shape(payload)), {"hook": {"event": event, "payload": payload}})


def shape(value: Any) -> Hashable:
    """Names, kinds, and words that may be one of a fixed set; the same for values that a schema treats alike."""
    match value:
        case dict():
            return frozenset((name, shape(inner)) for name, inner in value.items())
        case list():
            return (len(value) > 0, frozenset(shape(inner) for inner in value[:ITEMS]))
        case str():
            return value if _WORD.match(value) else str
        case _:
            return (value is None, type(value))


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw) if raw else None
    except ValueError:
        return raw.decode("utf-8", "replace")


def _write(key: Hashable, line: dict[str, Any]) -> None:
    folder = os.environ[ENVIRONMENT]
    if (folder, key) in _seen:
        return
    _seen.add((folder, key))
    path = Path(folder) / f"{os.getpid()}.jsonl"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(handle, json.dumps(line).encode() + b"\n")
    os.close(handle)
