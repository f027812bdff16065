"""Deliveries that we missed: GitHub never repeats one by itself, so at start and now and then we ask for them."""

from collections.abc import Awaitable, Callable
from typing import Any

from bot.github.app import GitHubApp

PAGES = 20


async def catch_up(app: GitHubApp, known: Callable[[str], Awaitable[bool]]) -> int:
    """Ask for every listed delivery that never reached us; returns how many. Raises Transient."""
    path: str | None = "/app/hook/deliveries?per_page=100"
    listed: list[dict[str, Any]] = []
    for _ in range(PAGES):
        if path is not None:
            found, path = await app.as_app("GET", path)
            listed += found
    reached = {one["guid"] for one in listed if one["status"] == "OK"}
    newest = {one["guid"]: one["id"] for one in reversed(listed)}  # the newest is listed first
    missed = [number for guid, number in newest.items() if guid not in reached and not await known(guid)]
    for delivery_id in missed:
        await app.as_app("POST", f"/app/hook/deliveries/{delivery_id}/attempts")
    return len(missed)
