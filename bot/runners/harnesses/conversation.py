"""What every harness does alike: ask, remind once, end in time, and answer the calls of our tools."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bot.ports import Tool, ToolAnswer
from bot.rules.sanitise import redacted
from schemas.agent import Activity, AgentEnd, AgentJob, AgentOutcome, Usage

OnActivity = Callable[[Activity], None]


@dataclass(eq=False)
class Conversation(ABC):
    """One run's conversation with one agent. A harness says how to begin it and how to ask."""

    job: AgentJob
    workspace: Path
    tools: Sequence[Tool]
    on_activity: OnActivity
    usage: Usage = field(default=Usage(), init=False)
    text: str = field(default="", init=False)

    @property
    def writes(self) -> bool:
        """Whether this role changes files; the others only read."""
        return self.job.role in ("developer", "rework")

    async def begin(self) -> AgentOutcome | None:
        """Before the first prompt. An outcome if it cannot be begun."""
        return None

    @abstractmethod
    async def ask(self, prompt: str) -> AgentOutcome | None:
        """One prompt to its end. None: it ended with text, without an answer."""

    async def run(self) -> AgentOutcome:
        """Begin, ask, remind once, end."""
        try:
            async with asyncio.timeout(self.job.deadline_seconds):
                end = await self.begin()
                for prompt in (self.job.prompt, self.job.nudge):
                    end = end or await self.ask(prompt)
                return end or self.outcome(AgentEnd.TEXT)
        except TimeoutError:
            return self.outcome(AgentEnd.DEADLINE, f"no end after {self.job.deadline_seconds:g} seconds")

    def outcome(self, end: AgentEnd, error: str = "") -> AgentOutcome:
        """The end, with what was consumed so far."""
        return AgentOutcome(end=end, text=self.text, error=redacted(error), usage=self.usage)


async def call(tool: Tool, arguments: dict[str, Any]) -> ToolAnswer:
    """What a tool answers; wrong arguments come back as its error, naming the fields."""
    try:
        parameters = tool.parameters.model_validate(arguments)
    except ValidationError as error:
        wrong = [(".".join(map(str, item["loc"])) or "arguments", item["msg"]) for item in error.errors()[:8]]
        return ToolAnswer("; ".join(f"{field}: {message}" for field, message in wrong), ok=False)
    return await tool.answer(parameters)
