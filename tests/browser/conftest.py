"""A real browser for pages of ours: Chromium without root, from `dev.py setup` (see ADR 1)."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright, expect

TOOLS = Path(__file__).parents[2] / ".tools" / "tests"
SCREENSHOTS = "SCREENSHOTS"
"""Names a folder: each page that a test looks at is kept there, in light and in dark."""
FLAGS = ("--no-sandbox", "--no-zygote", "--disable-gpu", "--disable-quic", "--disable-sync")
SECONDS = 30.0

expect.set_options(timeout=SECONDS * 1000)

Look = Callable[[Page, str], Awaitable[None]]


@pytest_asyncio.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    """Chromium; skipped where there is none for this machine (the package is for x86_64)."""
    chromium = TOOLS / "chromium"
    if not chromium.exists():
        pytest.skip(f"there is no {chromium}: python3 dev.py setup unpacks it on x86_64")
    env: dict[str, str | float | bool] = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "LD_LIBRARY_PATH": str(TOOLS / "al2023" / "lib"),
        "FONTCONFIG_PATH": str(TOOLS / "fonts"),
    }  # fmt: skip
    async with async_playwright() as playwright:
        made = await playwright.chromium.launch(executable_path=chromium, args=FLAGS, env=env)
        yield made
        await made.close()


@pytest_asyncio.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A tab. What its pages' scripts, policies or links get wrong is an error of the test."""
    context = await browser.new_context(viewport={"width": 1200, "height": 800})
    context.set_default_timeout(SECONDS * 1000)
    made = await context.new_page()
    wrong: list[str] = []
    made.on("pageerror", lambda error: wrong.append(str(error)))
    made.on("console", lambda line: wrong.append(line.text) if line.type == "error" else None)
    yield made
    await context.close()
    expected = ("status of 4", "net::ERR_CONNECTION")  # pages of errors are asked for; a demo ends under an open page
    assert not [line for line in wrong if not any(words in line for words in expected)]


@pytest.fixture
def look() -> Look:
    """Keep what a page looks like, if somebody wants to see it."""
    folder = os.environ.get(SCREENSHOTS)

    async def keep(page: Page, name: str) -> None:
        if folder is None:
            return
        Path(folder).mkdir(parents=True, exist_ok=True)
        for scheme in ("light", "dark"):
            await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            path = Path(folder) / f"{re.sub(r'[^a-z0-9]+', '-', name.lower())}-{scheme}.png"
            await page.screenshot(path=path, full_page=True)
        await page.emulate_media(color_scheme="light")

    return keep
