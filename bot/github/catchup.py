"""Deliveries that we missed: GitHub never repeats one by itself, so at start and now and then we ask for them."""

from collections.abc import Awaitable, Callable

from bot.github.app import GitHubApp

PAGES = 20


async def catch_up(app: GitHubApp, known: Callable[[str], Awaitable[bool]]) -> int:
    """Ask for every listed delivery that never reached us; returns how many. Raises Transient."""
    path: str | None = "/app/hook/deliveries?per_page=100"
    newest: dict[str, int] = {}
    reached: set[str] = set()
    for _ in range(PAGES):
        if path is None:
            break
        found, path = await app.as_app("GET", path)
        for delivery in found:
            newest.setdefault(delivery["guid"], delivery["id"])
            if delivery["status"] == "OK":
                reached.add(delivery["guid"])
    missed = [one for guid, one in reversed(newest.items()) if guid not in reached and not await known(guid)]
    for delivery_id in missed:
        await app.as_app("POST", f"/app/hook/deliveries/{delivery_id}/attempts")
    return len(missed)
