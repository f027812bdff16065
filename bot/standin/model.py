"""A scripted model server: answers an OpenAI-compatible agent from a playbook, so that a real agent works offline.

A playbook is JSON: {"rules": [{"role", "match", "attempt", "steps": [{"say"} | {"calls": [{"tool", "args"}]} |
{"http_error"} | {"hang"}]}]}. The first rule that fits the newest prompt wins; the step is the number of the model's
messages since that prompt, so the server keeps no state and many agents may share it. docs/harness.md has the details.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

Json = dict[str, Any]

MARKER = re.compile(r"\[interlock role=(\w+) ticket=(\S+) task=(\S+) attempt=(\d+)\]")
_INJECTED = ("<system_notification>", "<session_limits_status>")
_CWD = re.compile(r"Current working directory: (.+)")
_SUMMARY = "Please create a detailed summary of the conversation"


def text_of(message: Json) -> str:
    """A message's text, whichever of the two forms it has."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "".join(part.get("text") or "" for part in content or [] if isinstance(part, dict))


class Request:
    """What a request says about where the conversation stands."""

    def __init__(self, body: Json) -> None:
        self.body = body
        messages = body["messages"]
        people = [
            index
            for index, message in enumerate(messages)
            if message["role"] == "user" and not any(mark in text_of(message)[:160] for mark in _INJECTED)
        ]
        newest = people[-1] if people else 0
        self.prompt = text_of(messages[newest]) if messages else ""
        self.step = sum(message["role"] == "assistant" for message in messages[newest:])
        system = "\n".join(text_of(m) for m in messages if m["role"] in ("system", "developer"))
        found = _CWD.search(system)
        self.cwd = found[1].strip() if found else "."
        marker = MARKER.search(self.prompt)
        self.role, self.attempt = (marker[1], int(marker[4])) if marker else ("", 0)


def choose(playbook: Json, request: Request) -> Json:
    """The step that answers this request."""
    if request.prompt.lstrip().startswith(_SUMMARY):
        return {"say": "<summary>Nothing to add.</summary>"}
    for rule in playbook["rules"]:
        if rule.get("role") not in (None, request.role) or rule.get("attempt") not in (None, request.attempt):
            continue
        if re.search(rule.get("match", ""), request.prompt, re.DOTALL | re.IGNORECASE):
            steps = rule["steps"]
            chosen: Json = steps[min(request.step, len(steps) - 1)]
            return chosen
    return {"http_error": 418, "message": "no rule of the playbook fits this prompt"}


def _calls(request: Request, step: Json) -> list[Json]:
    found = []
    offered = {tool["function"]["name"] for tool in request.body.get("tools") or [] if tool.get("type") == "function"}
    for index, call in enumerate(step.get("calls", [])):
        name = call["tool"]
        if name not in offered:
            name = next((other for other in sorted(offered) if other.endswith(f"-{name}")), name)
        where = json.dumps(request.cwd)[1:-1]
        arguments = json.dumps(call["args"]).replace("{cwd}", where)
        found.append(
            {"index": index, "id": f"call_{len(request.body['messages'])}_{index}", "type": "function",
             "function": {"name": name, "arguments": arguments}}
        )  # fmt: skip
    return found


class ModelServer:
    """Serves one playbook; `authorizations` keeps what the callers sent as credentials."""

    def __init__(self, playbook: Json) -> None:
        self.playbook = playbook
        self.port = 0
        self.requests: list[Request] = []
        self.authorizations: list[str] = []

    async def answer(self, http: web.Request) -> web.StreamResponse:
        """POST /v1/chat/completions."""
        request = Request(await http.json())
        self.requests.append(request)
        self.authorizations.append(http.headers.get("Authorization", ""))
        step = choose(self.playbook, request)
        if "http_error" in step:
            error = {"error": {"message": step.get("message", "scripted"), "type": "scripted"}}
            return web.json_response(error, status=int(step["http_error"]))
        if "hang" in step:
            await asyncio.sleep(float(step["hang"]))
        calls = _calls(request, step)
        size = len(json.dumps(request.body)) // 4
        usage = {"prompt_tokens": size, "completion_tokens": 40, "total_tokens": size + 40}
        finish = "tool_calls" if calls else "stop"
        common = {"id": "chatcmpl-1", "created": 1, "model": request.body.get("model", "scripted")}
        if not request.body.get("stream"):
            whole = {"role": "assistant", "content": step.get("say")}
            if calls:
                whole["tool_calls"] = [{k: v for k, v in call.items() if k != "index"} for call in calls]
            choice = {"index": 0, "message": whole, "finish_reason": finish}
            return web.json_response({**common, "object": "chat.completion", "choices": [choice], "usage": usage})
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(http)
        deltas: list[Json] = []
        if step.get("say") is not None:
            deltas.append({"role": "assistant", "content": step["say"]})
        deltas += [{"role": "assistant", "content": None, "tool_calls": [call]} for call in calls]
        for delta in [*deltas, {}]:
            last = not delta
            chunk = {**common, "object": "chat.completion.chunk", "choices": [
                {"index": 0, "delta": delta, "finish_reason": finish if last else None}]}  # fmt: skip
            if last:
                chunk["usage"] = usage
            await stream.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        await stream.write(b"data: [DONE]\n\n")
        return stream


@asynccontextmanager
async def model_server(playbook: Json, port: int = 0) -> AsyncIterator[ModelServer]:
    """Serve on loopback until the block ends."""
    server = ModelServer(playbook)
    app = web.Application(client_max_size=256 * 2**20)
    app.router.add_post("/v1/chat/completions", server.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        await runner.cleanup()


async def _serve(playbook: Json, port: int) -> None:
    async with model_server(playbook, port) as server:
        print(f"http://127.0.0.1:{server.port}/v1", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="bot.standin.model", description="a scripted model server")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--playbook", type=Path, required=True)
    options = parser.parse_args()
    asyncio.run(_serve(json.loads(options.playbook.read_text("utf-8")), options.port))
