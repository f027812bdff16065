"""What happens while the demo runs, from the bot's own log lines, in words for people."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


async def follow(log: Path, say: Callable[[str], None]) -> None:
    """Say each new line that means something. Ends by cancellation only."""
    rest = ""
    with log.open(encoding="utf-8", errors="replace") as file:
        while True:
            *lines, rest = (rest + file.read()).split("\n")
            for words in filter(None, map(spoken, lines)):
                say(words)
            await asyncio.sleep(0.2)


def spoken(line: str) -> str:
    """A log line for people; empty if it says nothing to them."""
    try:
        found: dict[str, Any] = json.loads(line)
    except ValueError:
        return line.strip()
    event, level, why = found.get("event"), found.get("level"), str(found.get("why", ""))
    if event == "ticket.decided" and why not in ("", "nothing to do") and found.get("kind") != "comment_added":
        return f"{found.get('ticket')}: {why}"
    if event == "lane.step" and found.get("step") == "land":
        return f"merge queue, {str(found.get('lane')).split(':', 1)[-1].removeprefix('refs/heads/')}: {why}"
    if level in ("warning", "error", "critical"):
        details = {key: value for key, value in found.items() if key not in ("at", "level", "event")}
        return f"{level}: {event} {json.dumps(details, default=str)[:300]}"
    return ""
