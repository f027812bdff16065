"""What happens while the demo runs, from the bot's own log lines, in words for people."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bot.cli.local_github import LocalGitHub

QUIET = {"nothing to do", ""}


async def follow(log: Path, say: Callable[[str], None]) -> None:
    """Say each new line that means something. Ends by cancellation only."""
    position, rest = 0, ""
    while True:
        with log.open(encoding="utf-8", errors="replace") as file:
            file.seek(position)
            text = rest + file.read()
            position = file.tell()
        *lines, rest = text.split("\n")
        for line in lines:
            if words := spoken(line):
                say(words)
        await asyncio.sleep(0.2)


def spoken(line: str) -> str:
    """A log line for people; empty if it says nothing to them."""
    try:
        found: dict[str, Any] = json.loads(line)
    except ValueError:
        return line.strip()
    event, why = found.get("event"), str(found.get("why", ""))
    if event == "ticket.decided" and why not in QUIET and found.get("kind") != "comment_added":
        return f"{found.get('ticket')}: {why}"
    if event == "lane.step" and found.get("step") == "land":
        return f"merge queue, {str(found.get('lane')).split(':', 1)[-1].removeprefix('refs/heads/')}: {why}"
    if found.get("level") in ("warning", "error", "critical"):
        details = {key: value for key, value in found.items() if key not in ("at", "level", "event")}
        return f"{found.get('level')}: {event} {json.dumps(details, default=str)[:300]}"
    return ""


async def until_quiet(github: LocalGitHub, seconds: float = 1.0) -> None:
    """Until nothing has changed on GitHub for a moment: last check runs and comments are still under way at the end."""
    sequence = 0
    while (now := await github.wait(sequence, seconds)) != sequence:
        sequence = now
