"""The stand-in's pages in a real browser: everything that a person does there, and what nobody may do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio
from playwright.async_api import Page, expect

from tests.browser.conftest import Look
from tests.standin.scene import Scene, scene

HOSTILE = """<script>document.title = 'hit'</script><img src=x onerror="document.title='hit'">
[a link](javascript:document.title='hit') ![a picture](http://127.0.0.1:9/x.png) <!-- nobody sees this -->

| a | b |
| --- | --- |
| **1** | `2` |

<details><summary>More</summary>

inside

</details>
"""


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scene(tmp_path) as found:
        yield found


async def sign_in(page: Page, login: str) -> None:
    await page.get_by_role("button", name=login, exact=True).click()
    await expect(page.get_by_role("button", name=login, exact=True)).to_have_attribute("aria-pressed", "true")


async def pull(world: Scene) -> dict[str, Any]:
    """A pull request of the App's, with a check run that waits for a person."""
    await world.github.control("app", {"webhook_url": "http://127.0.0.1:9/nobody"})  # its webhooks are judged
    token = await world.token()
    world.git("switch", "-q", "-c", "interlock/1")
    (world.source / "a.txt").write_text("".join(f"line {n}\n" for n in range(1, 30)))
    (world.source / "read me.md").write_text("# Read <me>\n")
    (world.source / "bin").write_bytes(b"\0\1\2")
    world.git("add", "-A")
    world.git("commit", "-q", "-a", "-m", "Say more\n\nTicket: octo/app#1")
    assert await world.push(token, "interlock/1") == 0
    body = {"title": "Say more", "head": "interlock/1", "base": "main", "body": "Closes nothing.\n\n- one\n- two"}
    made = (await world.call("POST", "/repos/octo/app/pulls", token, body))[1]
    run = {"name": "interlock", "head_sha": made["head"]["sha"], "status": "completed", "conclusion": "action_required",
           "output": {"title": "A review is needed", "summary": "Two files, **one** reader."},
           "actions": [{"label": "Release", "description": "Let it go on", "identifier": "release"}]}  # fmt: skip
    assert (await world.call("POST", "/repos/octo/app/check-runs", token, run))[0] == 201
    return dict(made)


async def test_an_issue_from_opening_to_reopening(world: Scene, page: Page, look: Look) -> None:
    await page.goto(world.github.url)
    await look(page, "home")
    await sign_in(page, "alice")
    await page.get_by_role("link", name="octo/app").click()
    await look(page, "code")
    await page.get_by_role("link", name="Issues").click()
    await page.get_by_role("link", name="New issue").click()
    await page.get_by_label("Title").fill("<b>Bold</b> & brave")
    await page.get_by_label("What is wanted").fill(HOSTILE)
    await look(page, "new issue")
    await page.get_by_role("button", name="Open the issue").click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("<b>Bold</b> & brave #1")
    prose = page.locator(".prose").first
    await expect(prose).to_contain_text("<script>document.title")
    await expect(prose).not_to_contain_text("nobody sees this")
    assert await prose.locator("script, img, b, a[href^=javascript]").count() == 0
    await expect(prose.get_by_role("link", name="a picture")).to_have_attribute("rel", "noopener noreferrer nofollow")
    await expect(prose.locator("details, table")).to_have_count(2)
    await page.get_by_role("button", name="Add label").click()
    await expect(page.get_by_role("button", name="Remove the label interlock")).to_be_visible()
    await sign_in(page, "bob")
    await page.get_by_label("Comment as bob").fill("One\n\n    /interlock help\n")
    await page.get_by_role("button", name="Comment", exact=True).click()
    await expect(page.locator("article").last).to_contain_text("/interlock help")
    await look(page, "issue")
    await page.get_by_role("button", name="Remove the label interlock").click()
    await expect(page.get_by_text("None yet.")).to_be_visible()
    await page.get_by_label("Comment as bob").fill("Enough.")
    await page.get_by_role("button", name="Close").click()
    await expect(page.get_by_role("button", name="Reopen")).to_be_visible()
    await expect(page.locator("article").last).to_contain_text("Enough.")
    await page.get_by_role("button", name="Reopen").click()
    await expect(page.get_by_role("button", name="Close")).to_be_visible()
    issue = await world.github.as_user("alice", "GET", "/repos/octo/app/issues/1")
    assert (issue["user"]["login"], issue["state"], issue["comments"], issue["labels"]) == ("alice", "open", 2, [])
    comments = await world.github.as_user("alice", "GET", "/repos/octo/app/issues/1/comments")
    assert comments[0]["body"] == "One\n\n    /interlock help\n"


async def test_a_pull_request_is_read_and_reviewed_line_by_line(world: Scene, page: Page, look: Look) -> None:
    made = await pull(world)
    await page.goto(f"{world.github.url}/octo/app/pulls")
    await sign_in(page, "bob")
    await look(page, "pulls")
    await page.get_by_role("link", name="Say more").click()
    await expect(page.get_by_label("Before it lands")).to_contain_text("Nobody who may write has approved yet")
    await page.get_by_role("link", name="Commits 1").click()
    await page.get_by_role("link", name="Say more").click()
    await expect(page.locator("pre.message")).to_have_text("Ticket: octo/app#1")
    await look(page, "commit")
    await page.goto(f"{world.github.url}/octo/app/pull/{made['number']}/files")
    await expect(page.locator("tr.add")).to_have_count(30)
    await page.get_by_role("link", name="Comment on a.txt line 7", exact=True).click()
    await page.get_by_label("Comment on line 7").fill("Why *seven*?")
    await look(page, "line comment")
    await page.get_by_role("button", name="Add to the review").click()
    await page.get_by_role("link", name="Comment on a.txt line 1", exact=True).first.click()
    await page.get_by_label("Comment on line 1").fill("Gone?")
    await page.get_by_role("button", name="Add to the review").click()
    await expect(page.locator("tr.said")).to_have_count(2)
    await expect(page.locator("tr.del + tr.said")).to_contain_text("Gone?")
    assert await world.github.as_user("bob", "GET", f"/repos/octo/app/pulls/{made['number']}/reviews") == []
    await page.get_by_label("What you say, as bob").fill("Not yet.")
    await page.get_by_label("Request changes").check()
    await look(page, "files")
    await page.get_by_role("button", name="Send the review").click()
    await expect(page.get_by_label("Before it lands")).to_contain_text("bob asked for changes")
    await look(page, "pull")
    review = (await world.github.as_user("bob", "GET", f"/repos/octo/app/pulls/{made['number']}/reviews"))[0]
    assert (review["state"], review["commit_id"]) == ("CHANGES_REQUESTED", made["head"]["sha"])
    path = f"/repos/octo/app/pulls/{made['number']}"
    for place in (f"{path}/comments", f"{path}/reviews/{review['id']}/comments"):
        found = await world.github.as_user("bob", "GET", place)
        assert sorted((one["line"], one["side"], one["body"]) for one in found) == [
            (1, "LEFT", "Gone?"), (7, "RIGHT", "Why *seven*?"),
        ]  # fmt: skip
    await page.goto(f"{world.github.url}/octo/app/pull/{made['number']}/files")
    await page.get_by_label("Approve").check()
    await page.get_by_role("button", name="Send the review").click()
    await expect(page.get_by_label("Before it lands")).to_contain_text("bob approved")
    assert await world.push(await world.token(), "interlock/1:main") == 0
    await expect(page.get_by_text("Merged at")).to_be_visible()
    await page.get_by_role("link", name="Files changed 3").click()
    await expect(page.locator("tr.add")).to_have_count(30)


async def test_buttons_of_a_check_run_are_for_those_who_may_write(world: Scene, page: Page, look: Look) -> None:
    await pull(world)
    await page.goto(f"{world.github.url}/octo/app/pull/1")
    await page.get_by_role("link", name="interlock", exact=True).click()
    await expect(page.locator(".prose strong")).to_have_text("one")
    await expect(page.get_by_role("button", name="Release")).to_have_count(0)
    await sign_in(page, "eve")
    await page.get_by_role("button", name="Release").click()
    await expect(page.get_by_role("alert")).to_contain_text("push access")
    await look(page, "refused")
    await page.get_by_role("link", name="Back").click()
    await sign_in(page, "bob")
    await look(page, "check run")
    await page.get_by_role("button", name="Release").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("interlock")
    pressed = [one for one in await world.github.control("deliveries") if one["action"] == "requested_action"]
    assert len(pressed) == 1 and '"login": "bob"' in pressed[0]["body"].split('"sender"')[1]


async def test_a_page_follows_what_happens_and_keeps_what_is_being_written(world: Scene, page: Page) -> None:
    await world.github.as_user("alice", "POST", "/repos/octo/app/issues", {"title": "Slow"})
    await page.goto(f"{world.github.url}/octo/app/issues/1")
    await sign_in(page, "alice")
    await world.github.as_user("bob", "POST", "/repos/octo/app/issues/1/comments", {"body": "First"})
    await expect(page.locator("article").last).to_contain_text("First")
    await page.get_by_label("Comment as alice").fill("Half a sen")
    await world.github.as_user("bob", "POST", "/repos/octo/app/issues/1/comments", {"body": "Second"})
    await expect(page.get_by_role("status")).to_contain_text("Something new")
    await expect(page.get_by_label("Comment as alice")).to_have_value("Half a sen")
    await page.get_by_role("link", name="Show it").click()
    await expect(page.locator("article").last).to_contain_text("Second")


async def test_files_branches_and_history(world: Scene, page: Page, look: Look) -> None:
    await pull(world)
    await page.goto(f"{world.github.url}/octo/app/branches")
    await page.get_by_role("link", name="interlock/1").click()
    await expect(page.get_by_role("heading", name="Read <me>")).to_have_count(0)  # "read me.md" is no README.md
    await page.get_by_role("link", name="read me.md").click()
    await expect(page.locator("pre.file")).to_have_text("# Read <me>")
    await look(page, "file")
    await page.goto(f"{world.github.url}/octo/app/tree/interlock/1/bin")
    await expect(page.locator("pre.file")).to_have_text("A binary file.")
    await page.get_by_role("link", name="Commits").click()
    await expect(page.get_by_role("link", name="Begin")).to_be_visible()
    for missing in ("tree/nowhere", "tree/main/no/file", f"commit/{'0' * 40}", "runs/1", "pull/99", "issues/99"):
        answer = await page.goto(f"{world.github.url}/octo/app/{missing}")
        assert answer is not None and answer.status == 404, missing
        await expect(page.get_by_role("alert")).to_be_visible()
