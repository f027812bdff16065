"""A harness without an agent, for tests and kill walks: plays a playbook in the workspace, step by step.

The playbook's format is docs/harness.md's; the same file drives the real CLI through a scripted model server.
"""

import asyncio
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot.ports import Tool, ToolAnswer
from bot.runners.harnesses.conversation import Conversation, OnActivity, call
from bot.runners.sandbox import Sandbox
from schemas.agent import Activity, AgentEnd, AgentJob, AgentOutcome, Usage

TOKENS_A_STEP = Usage(input_tokens=100, output_tokens=20, model_calls=1)


@dataclass(frozen=True)
class ScriptedHarness:
    """See bot.ports.Harness. Deterministic: the first rule that fits the prompt says what happens."""

    playbook: dict[str, Any]
    sandbox: Sandbox

    async def run(self, job: AgentJob, workspace: Path, tools: Sequence[Tool], on_activity: OnActivity) -> AgentOutcome:
        """See bot.ports.Harness."""
        return await _Played(job, workspace, tools, on_activity, self).run()


@dataclass(eq=False)
class _Played(Conversation):
    harness: ScriptedHarness

    def _steps(self, prompt: str) -> list[dict[str, Any]]:
        attempt = int(self.job.run.rsplit(".", 1)[1])
        for rule in self.harness.playbook["rules"]:
            meant = rule.get("role") in (None, self.job.role) and rule.get("attempt") in (None, attempt)
            if meant and re.search(rule.get("match", ""), prompt, re.DOTALL | re.IGNORECASE):
                return list(rule["steps"])
        return [{"error": "no rule of the playbook fits this prompt"}]

    async def ask(self, prompt: str) -> AgentOutcome | None:
        """See Conversation."""
        for step in self._steps(prompt):
            self.usage = self.usage.plus(TOKENS_A_STEP)
            if self.usage.model_calls > self.job.max_model_calls:
                return self.outcome(AgentEnd.BUDGET, f"the run's {self.job.max_model_calls} model calls are used up")
            if "error" in step or "http_error" in step:
                return self.outcome(AgentEnd.MODEL_ERROR, str(step.get("error") or step["http_error"]))
            if "hang" in step:
                await asyncio.sleep(min(step["hang"], self.job.idle_seconds))
                if step["hang"] >= self.job.idle_seconds:
                    return self.outcome(AgentEnd.IDLE)
            if step.get("say"):
                self.text = step["say"]
                self.on_activity(Activity(kind="text", text=self.text))
            for called in step.get("calls", ()):
                args = json.loads(json.dumps(called["args"]).replace("{cwd}", json.dumps(str(self.workspace))[1:-1]))
                self.on_activity(Activity(kind="tool_start", text=f"{called['tool']} {args}"[:2000]))
                answer = await self._call(called["tool"], args)
                self.on_activity(Activity(kind="tool_end", text="ok" if answer.ok else answer.text))
                if answer.ends:
                    return self.outcome(AgentEnd.TOOL)
            if not step.get("calls"):
                return None
        return None

    async def _call(self, name: str, arguments: dict[str, Any]) -> ToolAnswer:
        for tool in self.tools:
            if tool.name == name:
                return await call(tool, arguments)
        match name:
            case "view" | "grep" | "rg" | "glob":
                return ToolAnswer("(not looked at)")
            case "create" | "edit" | "bash" if not self.writes:
                return ToolAnswer("This role only reads.", ok=False)
            case "create" | "edit":
                return self._write(arguments)
            case "bash":
                done = await self.harness.sandbox.run(arguments["command"], self.workspace, timeout=120)
                return ToolAnswer(done.output, ok=done.exit_code == 0)
        return ToolAnswer(f"there is no tool {name!r}", ok=False)

    def _write(self, arguments: dict[str, Any]) -> ToolAnswer:
        name = (self.workspace / arguments["path"]).resolve().relative_to(self.workspace.resolve())
        # Raises ValueError: a playbook is ours, and so is the mistake.
        layers = self.harness.sandbox.layers.get(self.workspace)
        places = [layers.upper, *reversed(layers.lower)] if layers else [self.workspace]
        there = next((place / name for place in places if os.path.lexists(place / name)), None)
        if "file_text" in arguments:
            text, answer = arguments["file_text"], "created"
            if there:
                return ToolAnswer("the file exists", ok=False)
        else:
            text, answer = there.read_text("utf-8") if there else "", "edited"
            if text.count(arguments["old_str"]) != 1:
                return ToolAnswer("old_str must be there exactly once", ok=False)
            text = text.replace(arguments["old_str"], arguments["new_str"])
        (places[0] / name).parent.mkdir(parents=True, exist_ok=True)
        (places[0] / name).write_text(text, "utf-8")
        self.harness.sandbox.give(places[0])
        return ToolAnswer(answer)
