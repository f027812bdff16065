"""What goes into an agent's session and what comes out of it, whatever the agent."""

from enum import StrEnum
from typing import Literal, Self

from schemas.base import Frozen, Role


class AgentJob(Frozen):
    """One agent session. `prompt` and `nudge` start with the marker line; times are seconds."""

    run: str
    role: Role
    prompt: str
    nudge: str
    model: str | None = None
    deadline_seconds: float = 1800.0
    idle_seconds: float = 300.0
    max_model_calls: int = 200
    max_tokens: int = 2_000_000


class Context(Frozen):
    """What the repository adds to a prompt: the files that fit, as (path, text), and the names of those that did not."""

    files: tuple[tuple[str, str], ...] = ()
    left_out: tuple[str, ...] = ()


class Prompt(Frozen):
    """The first message of a session, and the one that is sent when the agent ends without an answer."""

    text: str
    nudge: str


class Usage(Frozen):
    """What a run consumed, as the model's side counted it."""

    input_tokens: int = 0
    output_tokens: int = 0
    model_calls: int = 0

    def plus(self, other: Self) -> Self:
        """The sum of two."""
        return type(self)(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            model_calls=self.model_calls + other.model_calls,
        )


class AgentEnd(StrEnum):
    """How a session ended; only TOOL is an answer."""

    TOOL = "tool"
    TEXT = "text"
    DEADLINE = "deadline"
    IDLE = "idle"
    BUDGET = "budget"
    MODEL_ERROR = "model_error"
    DIED = "died"


class AgentOutcome(Frozen):
    """The end of a session; the answers themselves went through the tools."""

    end: AgentEnd
    text: str = ""
    error: str = ""
    usage: Usage = Usage()


class Activity(Frozen):
    """One line of what an agent is doing, for `interlock logs`."""

    kind: Literal["text", "tool_start", "tool_end", "shell", "usage", "error", "note"]
    text: str
