"""The model's door: an agent's model calls leave the sandbox over the SDK's pipe and are made here, with the key.

The sandbox has no network and no key. Calls and tokens are counted against the run's budget; a run over its budget
gets an error instead of an answer. COPILOT_* settings are read by whoever builds the Provider, nowhere else.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
from copilot.copilot_request_handler import CopilotRequestContext, CopilotRequestHandler, CopilotWebSocketHandler

from schemas.settings import Provider

ADDRESS = "http://model.interlock.invalid/v1"
"""What the agent believes to be the model's address."""

_OURS = {"authorization", "api-key", "x-api-key", "host", "content-length", "accept-encoding"}
"""Headers of the agent's side that are not passed on."""


class Gateway(CopilotRequestHandler):
    """One for a run. After `max_calls` it calls `refuse` with the reason, and sends nothing more."""

    def __init__(
        self, provider: Provider, client: httpx.AsyncClient, max_calls: int, refuse: Callable[[str], None]
    ) -> None:
        super().__init__()
        self._provider, self._client, self._max_calls, self._refuse = provider, client, max_calls, refuse
        self._calls = 0
        self._under_way: set[asyncio.Task[object]] = set()

    async def close(self) -> None:
        """End the calls under way: the agent's process, to which their answers would go, is dead."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _dispatch(self, exchange: Any) -> None:
        """The SDK's own, from the first byte of a request to the last of its answer: nobody else ends its tasks."""
        self._hold()
        await super()._dispatch(exchange)

    def _hold(self) -> None:
        """Whoever runs now is ended with the rest. A call's sending is a task inside of the request's."""
        if task := asyncio.current_task():
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def send_request(self, request: httpx.Request, ctx: CopilotRequestContext) -> httpx.Response:
        """Make the call on our side, or refuse it with a reason that is not retried."""
        if self._calls >= self._max_calls:
            reason = f"the run's {self._max_calls} model calls are used up"
            self._refuse(reason)
            return httpx.Response(400, json={"error": {"message": reason, "type": "interlock"}}, request=request)
        self._calls += 1
        self._hold()
        answer = await self._client.send(self._forwarded(request, self._provider), stream=True)
        if answer.status_code < 400:
            return answer
        # Some say in an error which key was wrong.
        text = (await answer.aread()).decode("utf-8", "replace")
        for secret in (self._provider.api_key.get_secret_value(), *dict(self._provider.headers).values()):
            text = text.replace(secret, "[redacted]") if secret else text
        headers = {
            name: value for name, value in answer.headers.items() if not name.startswith(("content-l", "content-e"))
        }
        return httpx.Response(answer.status_code, headers=headers, content=text.encode(), request=request)

    async def open_websocket(self, ctx: CopilotRequestContext) -> CopilotWebSocketHandler:
        """Never: the SDK's own would connect to whatever address the agent names."""
        raise ValueError("the agent asked for a web socket, and has none")

    def _forwarded(self, request: httpx.Request, provider: Provider) -> httpx.Request:
        asked = str(request.url)
        if not asked.startswith(f"{ADDRESS}/"):  # with less than the slash, the rest could name another host
            raise ValueError("the agent asked for an address that is not the model's")
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _OURS}
        headers |= dict(provider.headers)
        if key := provider.api_key.get_secret_value():
            name = {"openai": "Authorization", "azure": "api-key", "anthropic": "x-api-key"}[provider.type]
            headers[name] = f"Bearer {key}" if provider.type == "openai" else key
        url = provider.base_url.rstrip("/") + asked.removeprefix(ADDRESS)
        return self._client.build_request(request.method, url, headers=headers, content=request.content)
