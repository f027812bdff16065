"""The listeners: signatures, malformed deliveries, durability before 202, and who may look at the admin pages."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import io
import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application, Request
from pydantic import SecretStr

from bot import server
from bot.app import checked
from bot.clock import SystemClock
from bot.errors import Misconfigured
from bot.metrics import Metrics
from bot.store.store import SqliteStore, open_store
from schemas.agent import Usage
from schemas.events import AgentDeclined
from schemas.settings import Settings

SECRET = "a secret"
Client = TestClient[Request, Application]


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    async with open_store(tmp_path / "x.db", SystemClock()) as found:
        yield found


@pytest_asyncio.fixture
async def client(tmp_path: Path, store: SqliteStore) -> AsyncIterator[Client]:
    app = server.public(
        store=store, clock=SystemClock(), secret=SECRET, data_dir=tmp_path, metrics=Metrics(), arrived=lambda: None
    )
    async with TestClient(TestServer(app)) as found:
        yield found


def signed(body: bytes, key: str = SECRET, kind: str = "sha256") -> str:
    return f"sha256={hmac.new(key.encode(), body, getattr(hashlib, kind)).hexdigest()}"


async def deliver(client: Client, body: bytes, **headers: str | None) -> int:
    whole = {
        "X-Hub-Signature-256": signed(body), "X-GitHub-Event": "issues", "X-GitHub-Delivery": str(uuid.uuid4()),
        "Content-Type": "application/json",
    } | {name.replace("_", "-"): value for name, value in headers.items()}  # fmt: skip
    async with client.post(
        "/webhook", data=io.BytesIO(body), headers={k: v for k, v in whole.items() if v is not None}
    ) as answer:
        return answer.status


async def test_a_delivery_is_stored_before_it_is_answered(client: Client, store: SqliteStore) -> None:
    guid = str(uuid.uuid4())
    assert await deliver(client, b"{}", X_GitHub_Delivery=guid) == 202
    assert await store.known_deliveries([guid])
    assert await deliver(client, b"{}", X_GitHub_Delivery=guid) == 202
    assert (await store.snapshot(SystemClock().wall())).deliveries == 1


@pytest.mark.parametrize(
    "header",
    [None, "", "sha256=", "sha256=" + "0" * 64, "sha1=" + "0" * 40, signed(b"{}", ""), signed(b"{}", kind="sha1"),
     signed(b"{ }"), signed(b"{}").upper(), "sha256=é"],
)  # fmt: skip
async def test_a_wrong_signature_is_401(client: Client, store: SqliteStore, header: str | None) -> None:
    assert await deliver(client, b"{}", X_Hub_Signature_256=header) == 401
    assert (await store.snapshot(SystemClock().wall())).deliveries == 0


@pytest.mark.parametrize(
    "body",
    [b"hello", b"[]", b"", b'{"a": NaN}', b'{"action":"labeled","action":"deleted"}', b"\xff{}", b"[" * 100_000,
     b'{"n":' + b"9" * 5000 + b"}"],
)  # fmt: skip
async def test_a_body_that_is_no_object_is_400(client: Client, body: bytes) -> None:
    assert await deliver(client, body) == 400


async def test_headers_are_checked_and_large_bodies_are_taken_up_to_the_limit(client: Client) -> None:
    assert await deliver(client, b"{}", X_GitHub_Event=None) == 400
    assert await deliver(client, b"{}", X_GitHub_Delivery="../../x") == 400
    assert await deliver(client, b"{}", Content_Type="application/x-www-form-urlencoded") == 400
    assert await deliver(client, json.dumps({"x": "y" * (24 * 2**20)}).encode()) == 202
    assert await deliver(client, json.dumps({"x": "y" * (26 * 2**20)}).encode()) == 413
    assert await deliver(client, b'{"title": "\\ud800"}') == 202


async def test_an_unknown_event_is_accepted(client: Client) -> None:
    assert await deliver(client, b"{}", X_GitHub_Event="something_new") == 202


async def test_the_admin_pages_are_for_loopback_or_the_token(store: SqliteStore) -> None:
    app = server.admin(store, SystemClock(), Metrics(), token="t0ken", named=asyncio.Event(), operated=lambda: None)
    async with TestClient(TestServer(app)) as client:
        assert (await client.get("/snapshot")).status == 200
        assert "interlock_tickets" in await (await client.get("/metrics")).text()
        assert (await client.get("/readyz")).status == 503
        assert "<h1>Merge queue" in await (await client.get("/queue")).text()
        rebound = {"Host": "evil.example"}
        assert (await client.get("/snapshot", headers=rebound)).status == 401
        assert (await client.get("/snapshot", headers={**rebound, "Authorization": "Bearer wrong"})).status == 401
        assert (await client.get("/snapshot", headers={**rebound, "Authorization": "Bearer t0ken"})).status == 200


def test_nothing_starts_without_a_secret() -> None:
    with pytest.raises(Misconfigured, match="WEBHOOK_SECRET"):
        checked(Settings(app_id=1, private_key_file=Path("/dev/null")))


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1.evil.example", "http://localhost@evil.example", "https://api.github.com"]
)
def test_the_sandbox_is_off_against_loopback_alone(url: str) -> None:
    settings = Settings(
        app_id=1, private_key_file=Path("/dev/null"), webhook_secret=SecretStr("s"), sandbox="off", github_api_url=url
    )
    with pytest.raises(Misconfigured, match="loopback"):
        checked(settings)
    assert checked(settings.model_copy(update={"github_api_url": "http://127.0.0.1:8000"}))


def test_the_metrics_count_decisions_and_what_the_model_used() -> None:
    metrics = Metrics()
    metrics.decided(AgentDeclined(reason="no", usage=Usage(input_tokens=5, output_tokens=2)))
    page = metrics.page(tickets={"done": 3}, entries={}, effects={}, oldest_event=0.5, audit=9).decode()
    for line in (
        'interlock_decisions_total{event="agent_declined"} 1.0', 'interlock_tokens_total{direction="input"} 5.0',
        'interlock_tokens_total{direction="output"} 2.0', 'interlock_tickets{state="done"} 3.0',
        "interlock_oldest_event_seconds 0.5", "interlock_audit_records 9.0",
    ):  # fmt: skip
        assert line in page
