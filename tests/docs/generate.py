"""Writes the generated pages and blocks of docs/; test_docs.py compares them with what is committed."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from bot.metrics import Metrics
from bot.rules import states
from bot.rules.policy import TIGHTER
from schemas import answers, ticket
from schemas import lane as queue
from schemas.policy import Policy, ServerPolicy
from schemas.settings import Settings
from tests.docs import messages

DOCS = Path(__file__).parents[2] / "docs"
TOOLS: dict[str, type[BaseModel]] = {
    "ask_questions": answers.AskQuestions, "submit_scope": answers.SubmitScope, "decline": answers.Decline,
    "submit_plan": answers.SubmitPlan, "finish": answers.Finish, "request_file": answers.RequestFile,
    "give_up": answers.GiveUp,
}  # fmt: skip
MACHINES: list[tuple[str, type[StrEnum], Mapping[tuple[Any, str], Any]]] = [
    ("Ticket", ticket.TicketState, states.TICKET_MOVES),
    ("Task", ticket.TaskState, states.TASK_MOVES),
    ("Run", ticket.RunState, states.RUN_MOVES),
    ("Entry of the merge queue", queue.EntryState, states.ENTRY_MOVES),
    ("Train", queue.TrainState, states.TRAIN_MOVES),
    ("Lane", queue.LaneState, states.LANE_MOVES),
]


def states_page() -> str:
    parts = ["# States\n\nDrawn from the tables in `bot/rules/states.py` (`python3 dev.py docs`).\n"]
    for name, kind, table in MACHINES:
        doc = (kind.__doc__ or "").strip().splitlines()[0]
        parts.append(f"## {name}\n\n{doc}\n\n```mermaid\nstateDiagram-v2")
        parts += [
            f"    {source} --> {target}: {action.replace(':', ' ')}" for (source, action), target in table.items()
        ]
        parts.append("```\n\n| from | move | to |\n| --- | --- | --- |")
        parts += [f"| {source} | {action} | {target} |" for (source, action), target in table.items()]
        final = [str(state) for state in kind if not any(source == state for source, _ in table)]
        parts.append(f"\nAt rest for good: {', '.join(final) or 'none'}.\n")
    return "\n".join(parts)


def settings_page() -> str:
    lines = [
        "# Settings\n",
        "From the environment (`INTERLOCK_` and the name), then `settings.yml` in the working directory (the name in",
        "lower case), then the default. An unknown name is an error. The model is set by Copilot's own variables",
        "(`COPILOT_PROVIDER_BASE_URL`, `COPILOT_PROVIDER_TYPE`, `COPILOT_PROVIDER_API_KEY`, `COPILOT_MODEL`, or",
        "`COPILOT_GITHUB_TOKEN`); a secret among them may be given as a file by the name with `_FILE` behind it.\n",
        "| name | default | what it is |\n| --- | --- | --- |",
    ]
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else str(field.default).replace("*", "")
        meaning = " ".join((field.description or "").split())  # a row is one line
        lines.append(f"| {name.upper()} | {f'`{default}`' if default else ''} | {meaning} |")
    return "\n".join(lines) + "\n"


def policy_page() -> str:
    lines = [
        "# Policy\n",
        "`.github/interlock.yml` in the repository, read from the base branch when a ticket opens, and again when a push changes",
        "it. A file that cannot be read is not used: the last one on that branch that can be is, and the status comment names",
        "the key.\n",
        "| key | default | what it is |\n| --- | --- | --- |",
        *_policy_rows(Policy, ""),
        "\n## The server's policy\n",
        "The operator may give defaults and ceilings for all repositories in a file that the setting POLICY names:\n",
        "    defaults:\n      approve: {reviews: 2}\n    ceilings:\n      limits: {tokens: 500000}",
        '      protected: ["deploy/**"]\n    models: [gpt-4.1, gpt-4.1-mini]\n',
        "| key | what it is |\n| --- | --- |",
        *(f"| {name} | {field.description} |" for name, field in ServerPolicy.model_fields.items()),
        f"\nKeys that have a ceiling: {', '.join(f'`{key}`' for key in sorted(TIGHTER))}. Of two numbers the lower holds",
        "(of `approve.reviews` the higher), of two words the stricter; lists hold what both name, and a check of the",
        "server's stands over one of the same name. When a repository asks for more than it gets, its status comment and its",
        "plans say so; `interlock doctor` prints every key's value with who set it.",
    ]
    return "\n".join(lines) + "\n"


def _policy_rows(model: type[BaseModel], prefix: str) -> list[str]:
    rows = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            rows += _policy_rows(kind, f"{prefix}{name}.")
            continue
        default = json.dumps(field.get_default(call_default_factory=True), default=str)
        meaning = " ".join((field.description or "").split())  # a row is one line
        rows.append(f"| {prefix}{name} | `{default}` | {meaning} |")
    return rows


def metrics_page() -> str:
    lines = [
        "# Metrics\n",
        "`GET /metrics` on the admin listener.\n",
        "| name | type | what it counts |\n| --- | --- | --- |",
    ]
    for found in Metrics().registry.collect():
        name = f"{found.name}_total" if found.type == "counter" else found.name
        lines.append(f"| {name} | {found.type} | {found.documentation} |")
    return "\n".join(lines) + "\n"


def tools_block() -> str:
    parts = []
    for name, model in TOOLS.items():
        parts.append(f"`{name}`\n\n```json\n{json.dumps(model.model_json_schema(), indent=1)}\n```\n")
    return "\n".join(parts)


def pages() -> dict[Path, str]:
    """Every generated file, whole."""
    harness = (DOCS / "harness.md").read_text("utf-8")
    block = f"<!-- generated: tools -->\n{tools_block()}<!-- end -->"
    harness = re.sub(r"<!-- generated: tools -->.*<!-- end -->", lambda _: block, harness, flags=re.DOTALL)
    return {
        DOCS / "states.md": states_page(), DOCS / "settings.md": settings_page(), DOCS / "policy.md": policy_page(),
        DOCS / "metrics.md": metrics_page(), DOCS / "harness.md": harness, DOCS / "messages.md": messages.page(),
    }  # fmt: skip


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, "utf-8")
        print(f"wrote {path.name}", file=sys.stderr)
