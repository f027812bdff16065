"""The model's door: what is sent on with the key, and what is not."""

from __future__ import annotations

import httpx
import pytest
from copilot.copilot_request_handler import CopilotRequestContext
from pydantic import SecretStr

from bot.cli.configuration import read_model
from bot.runners.gateway import ADDRESS, Gateway
from schemas.settings import Provider

PROVIDER = Provider(type="anthropic", base_url="https://model.example", api_key=SecretStr("sk-ours"))


async def send(
    sent: list[httpx.Request], url: str, refused: list[str], times: int = 1, provider: Provider = PROVIDER,
    said: httpx.Response | None = None,
) -> httpx.Response:  # fmt: skip
    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return said or httpx.Response(200)

    context = CopilotRequestContext.__new__(CopilotRequestContext)
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        gateway = Gateway(provider, client, 2, refused.append)
        for _ in range(times):
            request = httpx.Request("POST", url, headers={"authorization": "theirs", "x-kept": "1"}, content=b"{}")
            response = await gateway.send_request(request, context)
        return response


async def test_the_key_is_ours_and_the_rest_is_the_agents() -> None:
    sent: list[httpx.Request] = []
    await send(sent, f"{ADDRESS}/messages?x=1", [])
    assert str(sent[0].url) == "https://model.example/messages?x=1" and sent[0].content == b"{}"
    assert sent[0].headers["x-api-key"] == "sk-ours" and sent[0].headers["x-kept"] == "1"
    assert "authorization" not in sent[0].headers


@pytest.mark.parametrize("status", [400, 401, 500])
async def test_an_error_that_names_the_key_reaches_nobody_with_it(status: int) -> None:
    provider = PROVIDER.model_copy(
        update={"api_key": SecretStr("4af1no-known-form"), "headers": (("x-team", "hush-hush"),)}
    )
    said = httpx.Response(
        status, headers={"retry-after": "3"}, json={"error": "4af1no-known-form of hush-hush is wrong"}
    )
    answer = await send([], f"{ADDRESS}/messages", [], provider=provider, said=said)
    assert (answer.status_code, answer.json()) == (status, {"error": "[redacted] of [redacted] is wrong"})
    assert answer.headers["retry-after"] == "3" and answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("url", ["http://127.0.0.1/v1/x", f"{ADDRESS}.evil.example/x", f"{ADDRESS}@evil.example/x"])
async def test_no_other_host_gets_anything(url: str) -> None:
    sent: list[httpx.Request] = []
    with pytest.raises(ValueError, match="not the model's"):
        await send(sent, url, [])
    assert not sent


async def test_no_web_socket_is_opened() -> None:
    refused: list[str] = []
    context = CopilotRequestContext.__new__(CopilotRequestContext)
    async with httpx.AsyncClient() as client:
        with pytest.raises(ValueError, match="web socket"):
            await Gateway(PROVIDER, client, 2, refused.append).open_websocket(context)


async def test_a_run_over_its_budget_is_refused() -> None:
    sent: list[httpx.Request] = []
    refused: list[str] = []
    assert (await send(sent, f"{ADDRESS}/messages", refused, times=3)).status_code == 400
    assert len(sent) == 2 and refused == ["the run's 2 model calls are used up"]


async def test_copilots_own_service_is_a_provider_whose_key_is_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COPILOT_PROVIDER_BASE_URL", "COPILOT_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COPILOT_GITHUB_TOKEN", "github_pat_canary")
    provider = read_model()
    assert provider is not None
    sent: list[httpx.Request] = []
    await send(sent, f"{ADDRESS}/chat/completions", [], provider=provider)
    assert str(sent[0].url) == "https://api.githubcopilot.com/chat/completions"
    assert sent[0].headers["authorization"] == "Bearer github_pat_canary"
    assert sent[0].headers["copilot-integration-id"] == "copilot-developer-cli"
    monkeypatch.delenv("COPILOT_GITHUB_TOKEN")
    assert read_model() is None
