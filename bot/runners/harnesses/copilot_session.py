"""One conversation with the Copilot CLI over GitHub's SDK: start, ask, remind once, end; with every limit kept."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from copilot import CopilotClient, RuntimeConnection
from copilot.rpc import PermissionDecisionApproveOnce, PermissionDecisionReject
from copilot.tools import Tool as SdkTool
from copilot.tools import ToolInvocation, ToolResult
from pydantic import ValidationError

from bot.ports import Tool
from bot.runners.gateway import Gateway
from schemas.agent import Activity, AgentEnd, AgentJob, AgentOutcome, Usage

logging.getLogger("copilot").setLevel(logging.ERROR)  # the SDK warns of every session that we end by an answer

READ_TOOLS = ["view", "grep", "rg", "glob"]
WRITE_TOOLS = ["create", "edit", "apply_patch", "bash", "read_bash", "stop_bash", "list_bash", "write_bash"]
HEARTBEAT_SECONDS = 5.0
PING_SECONDS = 20.0

OnActivity = Callable[[Activity], None]


@dataclass(frozen=True)
class Start:
    """How a session's process is started and which model it asks for. `starting`: only a few start at once."""

    connection: RuntimeConnection
    model: str | None
    provider: dict[str, Any] | None
    starting: asyncio.Semaphore


class CopilotSession:
    """One run's conversation."""

    def __init__(
        self,
        start: Start,
        job: AgentJob,
        workspace: Path,
        tools: Sequence[Tool],
        on_activity: OnActivity,
        gateway: Gateway,
    ) -> None:
        self._setting, self._job, self._workspace = start, job, workspace
        self._tools, self._on_activity, self._gateway = tools, on_activity, gateway
        self._usage = Usage()
        self._ended = asyncio.Event()
        self._alive = asyncio.Event()
        self._errors: list[str] = []
        self._text = ""
        self._client: CopilotClient | None = None
        self._over_budget = ""

    def outcome(self, end: AgentEnd, error: str = "") -> AgentOutcome:
        """The end, with what was consumed so far."""
        return AgentOutcome(end=end, text=self._text, error=error, usage=self._usage)

    async def run(self) -> AgentOutcome:
        """Start, ask, nudge once, end."""
        try:
            async with self._setting.starting:
                session = await self._start()
        except (OSError, RuntimeError, TimeoutError, ValueError) as error:
            return self.outcome(AgentEnd.DIED, f"the agent could not be started: {error}")
        beat = asyncio.create_task(self._heartbeat())
        try:
            for prompt in (self._job.prompt, self._job.nudge):
                end = await self._turn(session, prompt, beat)
                if end is not None:
                    return end
            return self.outcome(AgentEnd.TEXT)
        finally:
            beat.cancel()
            await asyncio.gather(beat, return_exceptions=True)

    async def _start(self) -> Any:
        self._client = CopilotClient(
            connection=self._setting.connection,
            working_directory="/",
            use_logged_in_user=False,
            request_handler=self._gateway,
        )
        await self._client.start()
        writes = self._job.role in ("developer", "rework")
        allowed = [*READ_TOOLS, *(WRITE_TOOLS if writes else []), *(tool.name for tool in self._tools)]
        return await self._client.create_session(
            on_permission_request=self._permit,
            model=self._setting.model,
            tools=[self._sdk_tool(tool) for tool in self._tools],
            available_tools=allowed,
            working_directory=str(self._workspace),
            provider=self._setting.provider,  # type: ignore[arg-type]
            streaming=True,
            enable_file_hooks=False,
            enable_config_discovery=False,
            enable_skills=False,
            enable_session_telemetry=False,
            on_event=self._event,
        )

    async def _turn(self, session: Any, prompt: str, beat: asyncio.Task[str]) -> AgentOutcome | None:
        """One prompt to its end. None: it ended with text, without an answer."""
        self._errors.clear()
        turn = asyncio.create_task(session.send_and_wait(prompt, timeout=self._job.deadline_seconds + 60))
        ended = asyncio.create_task(self._ended.wait())
        try:
            while True:
                self._alive.clear()
                idle = asyncio.create_task(self._alive.wait())
                done, _ = await asyncio.wait(
                    {turn, ended, beat, idle}, timeout=self._job.idle_seconds, return_when=asyncio.FIRST_COMPLETED
                )
                idle.cancel()
                if ended in done:
                    with contextlib.suppress(Exception):
                        async with asyncio.timeout(5):
                            await session.abort()
                    return self.outcome(AgentEnd.TOOL)
                if self._over_budget or self._gateway.refused:
                    return self.outcome(AgentEnd.BUDGET, self._over_budget or self._gateway.refused)
                if beat in done:
                    return self.outcome(AgentEnd.DIED, f"the agent's process ended: {beat.result()}")
                if turn in done:
                    return self._after(turn)
                if not done:
                    return self.outcome(AgentEnd.IDLE, f"nothing heard for {self._job.idle_seconds:g} seconds")
        finally:
            for task in (turn, ended):
                task.cancel()
            await asyncio.gather(turn, ended, return_exceptions=True)

    def _after(self, turn: asyncio.Task[Any]) -> AgentOutcome | None:
        problem = turn.exception()
        if problem is not None or self._errors:
            text = "; ".join(self._errors) or str(problem)
            return self.outcome(AgentEnd.MODEL_ERROR, f"the model gave no answer: {text}")
        return None

    async def _heartbeat(self) -> str:
        """A killed CLI is noticed only by asking it."""
        assert self._client is not None
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            try:
                async with asyncio.timeout(PING_SECONDS):
                    await self._client.ping()
            except Exception as error:
                return type(error).__name__

    def _permit(self, request: Any, invocation: Any) -> Any:
        """The sandbox is the boundary; the reading roles are told no when they try to write."""
        kind = str(getattr(request, "kind", ""))
        if self._job.role in ("engineer", "orchestrator") and kind in ("write", "shell"):
            return PermissionDecisionReject(feedback="This role only reads.")
        return PermissionDecisionApproveOnce()

    def _sdk_tool(self, tool: Tool) -> SdkTool:
        async def handler(invocation: ToolInvocation) -> ToolResult:
            try:
                parameters = tool.parameters.model_validate(invocation.arguments or {})
            except ValidationError as error:
                return _failure(tool_errors(error))
            answer = await tool.answer(parameters)
            if not answer.ok:
                return _failure(answer.text)
            if answer.ends:
                self._ended.set()
            return ToolResult(text_result_for_llm=answer.text)

        return SdkTool(
            name=tool.name,
            description=tool.description,
            parameters=tool.parameters.model_json_schema(by_alias=True),
            handler=handler,
            skip_permission=True,
        )

    def _event(self, event: Any) -> None:
        self._alive.set()
        kind, data = event.type.value, event.data
        match kind:
            case "assistant.usage":
                self._usage = self._usage.plus(
                    Usage(
                        input_tokens=int(data.input_tokens or 0),
                        output_tokens=int(data.output_tokens or 0),
                        model_calls=1,
                    )
                )
                if self._usage.input_tokens + self._usage.output_tokens > self._job.max_tokens:
                    self._over_budget = f"the run's {self._job.max_tokens} tokens are used up"
            case "assistant.message":
                self._text = data.content or self._text
                if data.content:
                    self._on_activity(Activity(kind="text", text=data.content))
            case "tool.execution_start":
                self._on_activity(Activity(kind="tool_start", text=f"{data.tool_name} {str(data.arguments)[:2000]}"))
            case "tool.execution_complete":
                self._on_activity(Activity(kind="tool_end", text="ok" if data.success else str(data.error)[:2000]))
            case "session.error":
                self._errors.append(str(getattr(data, "message", data)))
                self._on_activity(Activity(kind="error", text=self._errors[-1]))

    async def close(self) -> None:
        """Nothing of the run's processes is left."""
        if self._client is None:
            return
        process = self._client._cli_process  # the SDK kills it, and leaves its pipes to the garbage collector
        with contextlib.suppress(Exception):
            async with asyncio.timeout(5):
                await self._client.force_stop()
        if process is not None:
            await asyncio.to_thread(_close_pipes, process)


def _close_pipes(process: Any) -> None:
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError, ValueError):
                pipe.close()


def tool_errors(error: ValidationError) -> str:
    """What is wrong with a tool's arguments, in a line for the agent."""
    parts = [f"{'.'.join(str(p) for p in item['loc']) or 'arguments'}: {item['msg']}" for item in error.errors()[:8]]
    return "; ".join(parts)


def _failure(text: str) -> ToolResult:
    return ToolResult(text_result_for_llm=text, result_type="failure", error=text)
