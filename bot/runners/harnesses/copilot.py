"""GitHub's Copilot CLI through GitHub's Python SDK: one sandboxed process a run, model calls through the gateway.

The native binary is started directly (npm's loader loses signals). Traps that this module steps around, all tried
with SDK 1.0.25 and CLI 1.0.102: a killed CLI is noticed only by ping; `stop` then raises; a repository's own hooks
would run; the SDK hands its whole environment down unless told otherwise.
"""

import asyncio
import contextlib
import logging
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from copilot import CopilotClient, ProviderConfig, StdioRuntimeConnection
from copilot import tools as sdk
from copilot.rpc import PermissionDecisionApproveOnce, PermissionDecisionReject

from bot.ports import Tool
from bot.runners.gateway import ADDRESS, Gateway
from bot.runners.harnesses.conversation import Conversation, OnActivity, call
from bot.runners.sandbox import Sandbox
from schemas.agent import Activity, AgentEnd, AgentJob, AgentOutcome, Usage
from schemas.settings import Provider

log = logging.getLogger("interlock.copilot")
logging.getLogger("copilot").setLevel(logging.ERROR)  # the SDK warns of every session that we end by an answer

READ_TOOLS = ["view", "grep", "rg", "glob"]
WRITE_TOOLS = ["create", "edit", "apply_patch", "bash", "read_bash", "stop_bash", "list_bash", "write_bash"]
STARTING_AT_ONCE = 2
HEARTBEAT_SECONDS, PING_SECONDS = 5.0, 20.0


@dataclass(kw_only=True, eq=False)
class CopilotHarness:
    """See bot.ports.Harness. `cache` holds the CLI's unpacked bundle, shared read-only by all runs once it is filled."""

    cli: Path
    sandbox: Sandbox
    cache: Path
    provider: Provider

    starting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(STARTING_AT_ONCE), init=False)
    _warming: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def run(self, job: AgentJob, workspace: Path, tools: Sequence[Tool], on_activity: OnActivity) -> AgentOutcome:
        """See bot.ports.Harness."""
        async with self._warming:
            if not (self.cache / "copilot").exists():
                await self._warm()
        if not job.model:
            job = job.model_copy(update={"model": self.provider.model})
        home = Path(tempfile.mkdtemp(prefix="home-", dir=self.sandbox.area))
        async with httpx.AsyncClient(timeout=None, follow_redirects=False, trust_env=False) as http:
            session = _Session(job, workspace, tools, on_activity, self, home, http)
            try:
                return await session.run()
            finally:
                await session.close()
                await asyncio.to_thread(shutil.rmtree, home, ignore_errors=True)

    def connection(self, job: AgentJob, workspace: Path, home: Path) -> StdioRuntimeConnection:
        """The sandboxed process, with nothing of our environment."""
        env = _environment(home, self.cache)
        env |= {"COPILOT_OFFLINE": "true", "COPILOT_PROVIDER_BASE_URL": ADDRESS, "COPILOT_MODEL": job.model or ""}
        read_only = [self.cli.parent, self.cache]
        words = self.sandbox.wrap([str(self.cli)], folders=[workspace, home], env=env, read_only=read_only)
        return StdioRuntimeConnection(path=words[0], args=words[1:], env={})

    async def _warm(self) -> None:
        """Let the CLI unpack its bundle once into the shared cache (a fresh one costs each run 2 to 3 seconds)."""
        self.cache.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix="warm-", dir=self.cache.parent))
        command = f"umask 022 && {shlex.quote(str(self.cli))} --version"
        done = await self.sandbox.run(command, made, 120, _environment(Path("/tmp"), made), [self.cli.parent])
        log.info("copilot.warmed", extra={"code": done.exit_code, "out": done.output[-300:]})
        made.chmod(0o755)
        if done.exit_code == 0:
            with contextlib.suppress(OSError):  # another process of ours was faster
                made.rename(self.cache)
        await asyncio.to_thread(shutil.rmtree, made, ignore_errors=True)


def _environment(home: Path, cache: Path) -> dict[str, str]:
    return {"COPILOT_HOME": str(home), "XDG_CACHE_HOME": str(cache), "COPILOT_AUTO_UPDATE": "false"}


@dataclass(eq=False)
class _Session(Conversation):
    """One run's conversation, with every limit kept."""

    harness: CopilotHarness
    home: Path
    http: httpx.AsyncClient

    def __post_init__(self) -> None:
        self._stopped: asyncio.Future[tuple[AgentEnd, str]] = asyncio.get_running_loop().create_future()
        self._errors: list[str] = []
        budget = partial(self._stop, AgentEnd.BUDGET)
        self._gateway = Gateway(self.harness.provider, self.http, self.job.max_model_calls, budget)
        connection = self.harness.connection(self.job, self.workspace, self.home)
        self._client = CopilotClient(
            connection=connection, working_directory="/", use_logged_in_user=False, request_handler=self._gateway
        )

    def _stop(self, end: AgentEnd, error: str = "") -> None:
        """End the run, whatever the agent still does; the first reason counts."""
        if not self._stopped.done():
            self._stopped.set_result((end, error))

    async def begin(self) -> AgentOutcome | None:
        """Start the process and the session, whose model's address leads nowhere but through the gateway."""
        provider = ProviderConfig(type=self.harness.provider.type, base_url=ADDRESS, api_key="none")
        allowed = [*READ_TOOLS, *(WRITE_TOOLS if self.writes else []), *(tool.name for tool in self.tools)]
        try:
            async with self.harness.starting:
                await self._client.start()
                self._session = await self._client.create_session(
                    on_permission_request=self._permit, on_event=self._event, model=self.job.model, provider=provider,
                    tools=[self._sdk_tool(tool) for tool in self.tools], available_tools=allowed,
                    working_directory=str(self.workspace), streaming=True, enable_file_hooks=False,
                    enable_config_discovery=False, enable_skills=False, enable_session_telemetry=False,
                )  # fmt: skip
        except Exception as error:
            return self.outcome(AgentEnd.DIED, f"the agent could not be started: {error}")
        return None

    async def ask(self, prompt: str) -> AgentOutcome | None:
        """See Conversation."""
        self._errors.clear()
        self._heard = asyncio.get_running_loop().time()
        turn = asyncio.create_task(self._session.send_and_wait(prompt, timeout=self.job.deadline_seconds + 60))
        under_way: list[asyncio.Future[Any]] = [turn, asyncio.create_task(self._watch())]
        try:
            await asyncio.wait([*under_way, self._stopped], return_when=asyncio.FIRST_COMPLETED)
            if self._stopped.done():
                end, error = self._stopped.result()
                if end is AgentEnd.TOOL:
                    with contextlib.suppress(Exception):
                        async with asyncio.timeout(5):
                            await self._session.abort()
                return self.outcome(end, error)
            if turn.exception() is not None or self._errors:
                text = "; ".join(self._errors) or str(turn.exception())
                return self.outcome(AgentEnd.MODEL_ERROR, f"the model gave no answer: {text}")
            return None
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _watch(self) -> None:
        """Notice silence; and a killed CLI, of which only asking it tells."""
        while True:
            await asyncio.sleep(min(HEARTBEAT_SECONDS, self.job.idle_seconds / 2))
            if asyncio.get_running_loop().time() - self._heard > self.job.idle_seconds:
                self._stop(AgentEnd.IDLE, f"nothing heard for {self.job.idle_seconds:g} seconds")
            try:
                async with asyncio.timeout(PING_SECONDS):
                    await self._client.ping()
            except Exception as error:
                self._stop(AgentEnd.DIED, f"the agent's process ended: {type(error).__name__}")

    def _permit(self, request: Any, invocation: Any) -> Any:
        """The sandbox is the boundary; the reading roles are told no when they try to write."""
        if not self.writes and str(getattr(request, "kind", "")) in ("write", "shell"):
            return PermissionDecisionReject(feedback="This role only reads.")
        return PermissionDecisionApproveOnce()

    def _sdk_tool(self, tool: Tool) -> sdk.Tool:
        async def handler(invocation: sdk.ToolInvocation) -> sdk.ToolResult:
            answer = await call(tool, invocation.arguments or {})
            if not answer.ok:
                return sdk.ToolResult(text_result_for_llm=answer.text, result_type="failure", error=answer.text)
            if answer.ends:
                self._stop(AgentEnd.TOOL)
            return sdk.ToolResult(text_result_for_llm=answer.text)

        parameters = tool.parameters.model_json_schema(by_alias=True)
        return sdk.Tool(tool.name, tool.description, handler, parameters, skip_permission=True)

    def _event(self, event: Any) -> None:
        self._heard = asyncio.get_running_loop().time()
        kind, data = event.type.value, event.data
        match kind:
            case "assistant.usage":
                tokens = {"input_tokens": int(data.input_tokens or 0), "output_tokens": int(data.output_tokens or 0)}
                self.usage = self.usage.plus(Usage(**tokens, model_calls=1))
                if self.usage.input_tokens + self.usage.output_tokens > self.job.max_tokens:
                    self._stop(AgentEnd.BUDGET, f"the run's {self.job.max_tokens} tokens are used up")
            case "assistant.message" if data.content:
                self.text = data.content
                self.on_activity(Activity(kind="text", text=data.content))
            case "tool.execution_start":
                self.on_activity(Activity(kind="tool_start", text=f"{data.tool_name} {str(data.arguments)[:2000]}"))
            case "tool.execution_complete":
                self.on_activity(Activity(kind="tool_end", text="ok" if data.success else str(data.error)[:2000]))
            case "session.error":
                self._errors.append(str(getattr(data, "message", data)))
                self.on_activity(Activity(kind="error", text=self._errors[-1]))

    async def close(self) -> None:
        """Nothing of the run's processes is left."""
        process = self._client._cli_process  # the SDK kills it, and leaves its pipes to the garbage collector
        with contextlib.suppress(Exception):
            async with asyncio.timeout(5):
                await self._client.force_stop()
        await self._gateway.close()
        pipes = (process.stdin, process.stdout, process.stderr) if process else ()
        for pipe in filter(None, pipes):
            with contextlib.suppress(OSError, ValueError):
                await asyncio.to_thread(pipe.close)
