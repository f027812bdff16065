"""A harness without an agent, for tests and kill walks: plays a playbook in the workspace, step by step.

The playbook's format is docs/harness.md's; the same file drives the real CLI through a scripted model server.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bot.ports import Tool, ToolAnswer
from bot.runners.sandbox import Sandbox
from schemas.agent import Activity, AgentEnd, AgentJob, AgentOutcome, Usage

_MARKER = re.compile(r"\[interlock role=(\w+) ticket=(\S+) task=(\S+) attempt=(\d+)\]")
TOKENS_A_STEP = Usage(input_tokens=100, output_tokens=20, model_calls=1)


class ScriptedHarness:
    """See bot.ports.Harness. Deterministic: the first rule that fits the prompt says what happens."""

    name = "scripted"

    def __init__(self, playbook: dict[str, Any], sandbox: Sandbox) -> None:
        self._playbook, self._sandbox = playbook, sandbox

    async def run(
        self, job: AgentJob, workspace: Path, tools: Sequence[Tool], on_activity: Callable[[Activity], None]
    ) -> AgentOutcome:
        """See bot.ports.Harness."""
        session = _Session(workspace, self._sandbox, {tool.name: tool for tool in tools}, on_activity, job)
        try:
            async with asyncio.timeout(job.deadline_seconds):
                for prompt in (job.prompt, job.nudge):
                    end = await session.play(self._steps(prompt))
                    if end is not None:
                        return end
                return session.outcome(AgentEnd.TEXT)
        except TimeoutError:
            return session.outcome(AgentEnd.DEADLINE)

    def _steps(self, prompt: str) -> list[dict[str, Any]]:
        marker = _MARKER.search(prompt)
        role, attempt = (marker[1], int(marker[4])) if marker else ("", 0)
        for rule in self._playbook["rules"]:
            if rule.get("role") not in (None, role) or rule.get("attempt") not in (None, attempt):
                continue
            if re.search(rule.get("match", ""), prompt, re.DOTALL | re.IGNORECASE):
                steps: list[dict[str, Any]] = rule["steps"]
                return steps
        return [{"error": "no rule of the playbook fits this prompt"}]


class _Session:
    def __init__(
        self,
        workspace: Path,
        sandbox: Sandbox,
        tools: dict[str, Tool],
        on_activity: Callable[[Activity], None],
        job: AgentJob,
    ) -> None:
        self._workspace, self._sandbox, self._tools, self._on_activity = workspace, sandbox, tools, on_activity
        self._job = job
        self._usage = Usage()
        self._text = ""

    def outcome(self, end: AgentEnd, error: str = "") -> AgentOutcome:
        return AgentOutcome(end=end, text=self._text, error=error, usage=self._usage)

    async def play(self, steps: Sequence[dict[str, Any]]) -> AgentOutcome | None:
        """One prompt. None: it ended with text."""
        for step in steps:
            self._usage = self._usage.plus(TOKENS_A_STEP)
            if self._usage.model_calls > self._job.max_model_calls:
                return self.outcome(AgentEnd.BUDGET, f"the run's {self._job.max_model_calls} model calls are used up")
            if "error" in step or "http_error" in step:
                return self.outcome(AgentEnd.MODEL_ERROR, str(step.get("error") or step["http_error"]))
            if "hang" in step:
                if step["hang"] >= self._job.idle_seconds:
                    await asyncio.sleep(self._job.idle_seconds)
                    return self.outcome(AgentEnd.IDLE)
                await asyncio.sleep(step["hang"])
            if step.get("say"):
                self._text = step["say"]
                self._on_activity(Activity(kind="text", text=self._text))
            for call in step.get("calls", ()):
                arguments = json.loads(
                    json.dumps(call["args"]).replace("{cwd}", json.dumps(str(self._workspace))[1:-1])
                )
                self._on_activity(Activity(kind="tool_start", text=f"{call['tool']} {arguments}"[:2000]))
                answer = await self._call(call["tool"], arguments)
                self._on_activity(Activity(kind="tool_end", text="ok" if answer.ok else answer.text))
                if answer.ends:
                    return self.outcome(AgentEnd.TOOL)
            if not step.get("calls"):
                return None
        return None

    async def _call(self, name: str, arguments: dict[str, Any]) -> ToolAnswer:
        if name in self._tools:
            tool = self._tools[name]
            try:
                return await tool.answer(tool.parameters.model_validate(arguments))
            except ValidationError as error:
                first = error.errors()[0]
                return ToolAnswer(f"{'.'.join(str(p) for p in first['loc'])}: {first['msg']}", ok=False)
        if name in ("create", "edit", "bash") and self._job.role not in ("developer", "rework"):
            return ToolAnswer("This role only reads.", ok=False)
        match name:
            case "create":
                return await asyncio.to_thread(self._create, arguments)
            case "edit":
                return await asyncio.to_thread(self._edit, arguments)
            case "bash":
                done = await self._sandbox.run(arguments["command"], workspace=self._workspace, timeout=120)
                return ToolAnswer(done.output, ok=done.exit_code == 0)
            case "view" | "grep" | "rg" | "glob":
                return ToolAnswer("(not looked at)")
        return ToolAnswer(f"there is no tool {name!r}", ok=False)

    def _create(self, arguments: dict[str, Any]) -> ToolAnswer:
        place = self._inside(arguments["path"])
        if place.exists():
            return ToolAnswer("the file exists", ok=False)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(arguments["file_text"], "utf-8")
        return ToolAnswer("created")

    def _edit(self, arguments: dict[str, Any]) -> ToolAnswer:
        place = self._inside(arguments["path"])
        text = place.read_text("utf-8")
        if text.count(arguments["old_str"]) != 1:
            return ToolAnswer("old_str must be there exactly once", ok=False)
        place.write_text(text.replace(arguments["old_str"], arguments["new_str"]), "utf-8")
        return ToolAnswer("edited")

    def _inside(self, path: str) -> Path:
        place = (self._workspace / path).resolve()
        place.relative_to(self._workspace.resolve())  # raises ValueError: a playbook is ours, and so is the mistake
        return place
