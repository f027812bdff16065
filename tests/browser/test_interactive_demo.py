"""`interlock demo --interactive` in a real browser: a person labels, answers, approves the plan and the change; it lands."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from bot.standin.client import stop
from tests.browser.conftest import Look
from tests.browser.test_pages import sign_in

SECONDS = 120.0
COMMAND = Path(sys.executable).with_name("interlock")


@dataclass
class Demo:
    """The running command and what it has said so far."""

    child: asyncio.subprocess.Process
    said: list[str] = field(default_factory=list)

    async def hear(self, pattern: str) -> str:
        """Wait for a line on stderr; its first group."""
        assert self.child.stderr is not None
        async with asyncio.timeout(SECONDS):
            while line := (await self.child.stderr.readline()).decode():
                self.said.append(line)
                if found := re.search(pattern, line):
                    return found[1]
        raise AssertionError("".join(self.said))

    async def end(self) -> dict[str, object]:
        """Its report, once it has ended."""
        async with asyncio.timeout(SECONDS):
            out, error = await self.child.communicate()
        assert out, "".join(self.said) + error.decode()
        return dict(json.loads(out))


@asynccontextmanager
async def demo(*options: str) -> AsyncIterator[Demo]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("INTERLOCK_", "COPILOT_"))}
    child = await asyncio.create_subprocess_exec(
        str(COMMAND), "demo", "--interactive", "--json", *options, env=env, start_new_session=True,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Demo(child)
    finally:
        await stop(child)


async def comment(page: Page, login: str, text: str) -> None:
    await sign_in(page, login)
    await page.get_by_label(f"Comment as {login}").fill(text)
    await page.get_by_role("button", name="Comment", exact=True).click()
    await expect(page.locator("article", has_text=text.splitlines()[0]).last).to_be_visible()


async def seen(page: Page, words: Sequence[str]) -> None:
    for word in words:
        await expect(page.locator("main")).to_contain_text(word, timeout=SECONDS * 1000)


@pytest.mark.cli
@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_from_a_label_to_the_base_branch(page: Page, look: Look) -> None:
    async with demo() as running:
        issue = await running.hear(r"Open (http://\S+/issues/1) ")
        queue = await running.hear(r"(http://\S+/queue)\.")
        await page.goto(issue)
        await sign_in(page, "alice")
        await page.get_by_role("button", name="Add label").click()
        await seen(page, ["before the work starts:"])
        await look(page, "demo 1 questions")
        await comment(page, "alice", "A file in CSV, and sorted by name.")
        await seen(page, ["/interlock approve"])
        await look(page, "demo 2 plan")
        line = await page.locator("pre", has_text="/interlock approve").last.inner_text()
        await comment(page, "bob", line.strip())
        await page.locator("aside").get_by_role("link", name="#2").click(timeout=SECONDS * 1000)
        before = page.get_by_label("Before it lands")
        await expect(before.get_by_role("row", name=re.compile("action required interlock "))).to_be_visible()
        await look(page, "demo 3 pull request")
        await before.get_by_role("link", name="interlock", exact=True).click()
        await look(page, "demo 4 check run")
        await page.go_back()
        await page.get_by_role("link", name=re.compile("^Commits")).last.click()
        await look(page, "demo 5 commits")
        admin = await page.context.new_page()
        await admin.goto(queue)
        await expect(admin.get_by_role("heading", level=1)).to_be_visible()
        await look(admin, "demo 6 queue")
        await admin.close()
        await page.get_by_role("link", name=re.compile("^Files changed")).click()
        await look(page, "demo 7 files")
        await page.get_by_label("What you say, as bob").fill("Reads well.")
        await page.get_by_label("Approve").check()
        await page.get_by_role("button", name="Send the review").click()
        await seen(page, ["Merged at"])
        await look(page, "demo 8 merged")
        report = await running.end()
    assert running.child.returncode == 0, "".join(running.said)
    assert (report["state"], report["reviews"]) == ("done", 1)
    assert report["landed"] and not report["quarantined"]


async def test_whoever_ends_it_early_gets_a_report(page: Page) -> None:
    async with demo() as running:
        await page.goto(await running.hear(r"Open (http://\S+) "))
        await running.hear(r"(/queue)")
        running.child.send_signal(signal.SIGINT)
        report = await running.end()
    assert running.child.returncode == 1
    assert (report["ticket"], report["failure"]) == (None, "you ended it before a change had landed")
