"""The listeners: signatures, malformed deliveries, durability before 202, and who may look at the admin pages."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import io
import json
import logging
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application, Request
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

import handlers
from bot import server
from bot.app import checked
from bot.bench.webhook import TOOLS
from bot.clock import SystemClock
from bot.errors import Misconfigured
from bot.loop import _readable
from bot.metrics import Metrics
from bot.store.store import SqliteStore, open_store
from schemas.agent import Usage
from schemas.decision import EntryMove
from schemas.events import AgentDeclined
from schemas.lane import LaneState
from schemas.payloads import fits
from schemas.settings import Settings
from tests.store.parts import T0, TICKET, entry, open_ticket
from tests.store.test_queue import lane_lease, move

SECRET = "a secret"
CORPUS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "corpus" / "hostile" / "payloads.json").read_text())
GENERATED = {"W21": b'{"n":' + b"9" * 5000 + b"}", "W25": b'{"issue":{},"x":"' + b"y" * (24 * 2**20) + b'"}'}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=10,
)  # fmt: skip
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
        "X-Hub-Signature-256": signed(body), "X-GitHub-Event": "star", "X-GitHub-Delivery": str(uuid.uuid4()),
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


async def test_a_body_that_dawdles_is_given_up(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BODY_SECONDS", 0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    async with asyncio.timeout(10):
        assert (await reader.readline()).split()[1] == b"408"
    writer.close()


@pytest.mark.parametrize(
    "body", [b'{"a":1,"a":2}', b'{"b":{"a":1,"a" :2},"c":"\\u0022\\u0022"}', b'{"b":[{"a":{},"a":{}}]}']
)
def test_a_key_that_is_there_twice_is_seen_however_it_is_written(body: bytes) -> None:
    assert server.read(body) is None
    assert (
        server.read(body.replace(b'"a" :2', b'"z" :2').replace(b'"a":2', b'"z":2').replace(b',"a":{}', b"")) is not None
    )


@given(st.dictionaries(st.text(), JSON, max_size=5), st.booleans(), st.sampled_from([None, 1]))
def test_whatever_is_json_is_read_as_python_reads_it(
    value: dict[str, Any], ascii_only: bool, indent: int | None
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    for body in (text.encode("utf-8", "surrogatepass"), json.dumps(value, separators=(",", ":")).encode()):
        try:
            body.decode()
        except UnicodeDecodeError:
            assert server.read(body) is None
        else:
            assert server.read(body) == json.loads(body)


# --- GitHub's own examples, and hostile ones ---------------------------------------------------------------------------
def examples() -> list[tuple[str, dict[str, Any]]]:
    found = json.loads((TOOLS / "@octokit" / "webhooks-examples" / "api.github.com" / "index.json").read_text())
    return [(event["name"], body) for event in found for body in event["examples"]]


async def test_all_of_github_s_examples_are_taken_and_read_without_a_complaint(
    client: Client, store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    found = examples()
    assert len(found) > 300
    for event, body in found:
        assert await deliver(client, json.dumps(body).encode(), X_GitHub_Event=event) == 202, event
    taken = 0
    while (delivery := await store.next_delivery(SystemClock().wall())) is not None:
        events = handlers.translate(delivery.event, _readable(delivery.body), slug="interlock", app_id=1)
        await store.take_delivery(delivery.seq, events, SystemClock().wall())
        taken += 1
    assert taken > 300  # some examples are equal to the byte
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_body_sent_as_another_event_is_refused_or_means_nothing(client: Client) -> None:
    acted_on = {*handlers.ROUTES, "repository", "installation", "installation_repositories", "check_suite"}
    bodies = {(event, str(body.get("action"))): body for event, body in examples()}
    refused = 0
    for (event, _), body in bodies.items():
        for other in acted_on - {event}:
            if fits(other, body):
                assert not handlers.translate(other, body, slug="interlock", app_id=1), (event, other)
            else:
                refused += 1
    assert refused > 1000
    deleted = json.dumps(bodies["issue_comment", "deleted"]).encode()
    assert await deliver(client, deleted, X_GitHub_Event="issues") == 400  # it would have ended the ticket
    assert await deliver(client, deleted, X_GitHub_Event="issue_comment") == 202


EXPECTED = {  # decisions.md 35: 202 for duplicates and ignored events, where the corpus says 200 or 204
    "W01": 202, "W03": 401, "W05": 401, "W07": 401, "W09": 202, "W11": 400, "W13": 400, "W15": 202, "W17": 400,
    "W19": 400, "W21": 400, "W23": 202, "W25": 202, "W29": 202, "W31": 202, "W33": 400, "W35": 202,
}  # fmt: skip
"""W27 is the body that dawdles, above; W37 is many of W01."""


@pytest.mark.parametrize("case", [case for case in CORPUS if case["id"] in EXPECTED], ids=lambda case: case["id"])
async def test_the_hostile_corpus(client: Client, store: SqliteStore, case: dict[str, Any]) -> None:
    body = case["body"].encode() if isinstance(case["body"], str) else GENERATED[case["id"]]
    own = {"SIGN_SHA1": signed(body, kind="sha1"), "SIGN_EMPTY_KEY": signed(body, "")}
    headers = {"X_GitHub_Event": "issues"}
    headers |= {_header(name): own.get(value, value) for name, value in case["headers"].items()}
    guid = str(uuid.uuid4())
    for _ in range(2):
        assert await deliver(client, body, X_GitHub_Delivery=guid, **headers) == EXPECTED[case["id"]]
    stored = (await store.snapshot(SystemClock().wall())).deliveries
    assert stored == (EXPECTED[case["id"]] == 202)


def _header(name: str) -> str:
    return next(known for known in ("X_Hub_Signature_256", "X_GitHub_Event") if known.lower() == name.replace("-", "_"))


async def test_an_unknown_event_is_accepted(client: Client) -> None:
    assert await deliver(client, b"{}", X_GitHub_Event="something_new") == 202


async def test_the_queue_page_says_who_waits_for_what(store: SqliteStore) -> None:
    app = server.admin(store, SystemClock(), Metrics(), token="t0ken", named=asyncio.Event(), operated=lambda: None)
    later = (SystemClock().wall() - T0).total_seconds() + 600
    async with TestClient(TestServer(app)) as client:
        assert "Nothing was ever queued" in await (await client.get("/queue")).text()
        await open_ticket(store, enqueue=(entry("a", ticket=TICKET), entry("b", held=("protected",)), entry("c")))
        tried = EntryMove(
            entry="a", to="queued", error_class="infra", error="<b>disk full", counts=True, delay_seconds=later
        )
        gone = EntryMove(entry="c", to="landed", commit="c" * 40)
        await move(store, await lane_lease(store), tried, gone, state=LaneState.PAUSED, why="CI <never> reported")
        text = await (await client.get("/queue")).text()
    ticket = (await store.tickets())[0]
    assert f"<h2>{ticket.repo.full_name} · {ticket.branch}</h2>" in text
    assert "<p>paused: CI &lt;never&gt; reported; before: 1 landed</p>" in text
    assert "<td>1</td><td>a</td><td>queued</td><td>the next try at " in text and "&lt;b&gt;disk full" in text
    assert "<td>2</td><td>b</td><td>held</td><td>a person&#x27;s release</td>" in text and "<b>" not in text
    assert "<h2>Failed at least once: 1</h2>" in text


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
