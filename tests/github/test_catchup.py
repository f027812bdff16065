"""Deliveries that did not reach us: asked for again, read from the API, or made up for by what stands on GitHub."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import handlers
from bot.clock import SystemClock
from bot.errors import Transient
from bot.github import catchup
from bot.github.catchup import CatchUp
from bot.store.store import SqliteStore, open_store
from schemas import events as e
from schemas.base import Person, RepoRef
from schemas.ticket import PullRequest, Ticket, TicketState
from tests.standin.scene import Scene, scene

NOBODY = "http://127.0.0.1:9/nobody"
ISSUES = "/repos/octo/app/issues"


class Ahead(SystemClock):
    """The machine's clock, so far ahead."""

    ahead = timedelta()

    def wall(self) -> datetime:
        return super().wall() + self.ahead


@dataclass
class Records:
    """The store, and tickets that nobody had to work for."""

    store: SqliteStore
    open: list[Ticket] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def tickets(self) -> Sequence[Ticket]:
        return self.open


@dataclass
class Away:
    """A bot that nobody can reach, with a stand-in that it can."""

    scene: Scene
    records: Records
    clock: Ahead
    rings: int = 0

    def look(self, *, poll: bool = False) -> CatchUp:
        def arrived() -> None:
            self.rings += 1

        app = self.scene.as_the_bot()
        app._clock = self.clock  # tokens expire by the same clock as GitHub's
        return CatchUp(app, self.records, self.clock, handlers.concerns, arrived, "interlock", poll)

    async def ask(self, path: str) -> Any:
        return (await self.scene.call("GET", path, self.scene.app_jwt()))[1]

    async def tried(self, count: int) -> list[dict[str, Any]]:
        """The listed attempts, once there are so many."""
        async with asyncio.timeout(20):
            found: list[dict[str, Any]] = []
            while len(found) < count:
                found = await self.ask("/app/hook/deliveries?per_page=100")
                await asyncio.sleep(0.02)
        return found

    async def person(self, who: str, method: str, path: str, body: Any = None) -> Any:
        return await self.scene.github.as_user(who, method, path, body)

    async def told(self) -> list[e.Event]:
        """What the stored deliveries mean, in order."""
        found: list[e.Event] = []
        while (delivery := await self.records.store.next_delivery(self.clock.wall())) is not None:
            read = handlers.translate(delivery.event, json.loads(delivery.body), slug="interlock", app_id=1)
            found += [item.event for item in read]
            await self.records.store.take_delivery(delivery.seq, (), self.clock.wall())
        return found

    async def after_a_week(self) -> list[e.Event]:
        """What a look finds that comes a week after the last one, when GitHub lists nothing of it any more."""
        await self.records.store.set_meta("catch-up: deliveries", self.clock.wall().isoformat())
        self.clock.ahead += timedelta(days=7)
        await self.scene.github.control("clock", {"advance": 7 * 86400})
        assert await self.look().look() == 0
        return await self.told()

    async def issue(self, who: str, title: str = "x", label: str = "alice") -> int:
        number = int((await self.person(who, "POST", ISSUES, {"title": title, "body": "as it was"}))["number"])
        if label:
            await self.person(label, "POST", f"{ISSUES}/{number}/labels", {"labels": ["interlock"]})
        return number

    def ticket(self, issue: int, **more: Any) -> Ticket:
        alice = Person(id=1, login="alice")
        made = Ticket(
            id=f"octo/app#{issue}", repo=RepoRef(id=self.scene.repo.id, full_name="octo/app"), issue=issue,
            installation=self.scene.app["installation"], requester=alice, author=alice, title="x", body="",
            opened_at=self.clock.wall(), **more,
        )  # fmt: skip
        self.records.open.append(made)
        return made


@pytest_asyncio.fixture
async def away(tmp_path: Path) -> AsyncIterator[Away]:
    clock = Ahead()
    async with scene(tmp_path) as found, open_store(tmp_path / "x.db", clock) as store:
        await found.github.control("app", {"webhook_url": NOBODY})
        yield Away(found, Records(store), clock)


async def test_what_failed_is_asked_for_again_and_what_fails_again_is_read(away: Away) -> None:
    await away.issue("alice")
    await away.tried(2)  # opened, which says nothing to us, and labelled
    assert await away.look().look() == 1 and await away.told() == []
    assert [one["redelivery"] for one in await away.tried(3)] == [True, False, False]
    assert await away.look().look() == 1 and away.rings == 1
    assert [event.kind for event in await away.told()] == ["issue_labelled"]
    assert await away.look().look() == 0


async def test_polling_reads_page_after_page_in_order_and_nothing_twice(
    away: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catchup, "PER_PAGE", 10)
    number = await away.issue("alice")
    for count in range(23):
        await away.person("alice", "POST", f"{ISSUES}/{number}/comments", {"body": f"{count}"})
    last = (await away.tried(25))[0]
    by_webhook = await away.ask(f"/app/hook/deliveries/{last['id']}")
    body = json.dumps(by_webhook["request"]["payload"]).encode()
    await away.records.store.keep_delivery(last["guid"], last["event"], body, away.clock.wall())
    assert await away.look(poll=True).look() == 23  # the label, and all comments but the one that came by webhook
    told = [event.body for event in await away.told() if isinstance(event, e.CommentAdded)]
    assert told == ["22", *(str(count) for count in range(22))]
    assert await away.look(poll=True).look() == 0


async def test_a_new_server_does_not_do_again_what_another_one_has_taken(away: Away, tmp_path: Path) -> None:
    from aiohttp import web

    async def ok(request: web.Request) -> web.Response:
        return web.Response(status=202)

    app = web.Application()
    app.router.add_post("/", ok)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        await away.scene.github.control("app", {"webhook_url": f"http://127.0.0.1:{runner.addresses[0][1]}/"})
        await away.issue("alice")
        await away.tried(2)
        assert await away.look(poll=True).look() == 0
        await away.issue("alice", "y")
        await away.tried(4)
        assert await away.look(poll=True).look() == 2  # from then on what is not stored here is missing here
    finally:
        await runner.cleanup()


async def test_it_waits_as_long_as_github_asks_and_goes_on(away: Away, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    class Told(Exception):
        pass

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 5:
            raise Told

    monkeypatch.setattr(away.clock, "sleep", sleep)
    looks: list[int | Exception] = [Transient("slow down", 77.0), 1, 0, 0, 0]

    async def look(self: CatchUp) -> int:
        found = looks.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(CatchUp, "look", look)
    with pytest.raises(Told):
        await away.look(poll=True).run()
    first = catchup.POLL_SECONDS[0]
    assert waits == [77.0, first, first * 1.5, first * 1.5**2, first * 1.5**3]


# --- after a week -----------------------------------------------------------------------------------------------------
async def test_a_label_put_while_we_were_away_is_found_once(away: Away) -> None:
    for count in range(2):
        await away.issue("alice", f"number {count}")
    await away.issue("alice", label="")
    (one, other) = await away.after_a_week()
    assert isinstance(one, e.IssueLabelled) and isinstance(other, e.IssueLabelled)
    assert {one.issue, other.issue} == {1, 2} and one.by.login == "alice" and one.by.permission is None
    assert one.body == "as it was" and one.installation == away.scene.app["installation"]
    assert await away.after_a_week() == []


async def test_an_issue_that_has_had_its_ticket_since_the_label_is_left_alone(away: Away) -> None:
    stopped = away.ticket(await away.issue("alice"), state=TicketState.DECLINED)
    assert await away.after_a_week() == []
    await away.person("alice", "DELETE", f"{ISSUES}/{stopped.issue}/labels/interlock")
    await away.person("bob", "POST", f"{ISSUES}/{stopped.issue}/labels", {"labels": ["interlock"]})
    (again,) = await away.after_a_week()
    assert isinstance(again, e.IssueLabelled) and again.by.login == "bob"


async def test_a_stranger_s_text_that_changed_after_the_label_is_not_taken_for_what_was_vouched_for(away: Away) -> None:
    changed, unchanged = await away.issue("eve"), await away.issue("eve")
    await away.scene.github.control("clock", {"advance": 60})
    await away.person("eve", "PATCH", f"{ISSUES}/{changed}", {"body": "something else"})
    (found,) = await away.after_a_week()
    assert isinstance(found, e.IssueLabelled) and found.issue == unchanged


async def test_what_people_did_to_open_tickets_is_heard_and_edits_are_not(away: Away) -> None:
    answered = away.ticket(await away.issue("alice"))
    closed, unlabelled = away.ticket(await away.issue("alice")), away.ticket(await away.issue("alice"))
    comments = f"{ISSUES}/{answered.issue}/comments"
    await away.person("alice", "POST", comments, {"body": "an answer"})
    edited = await away.person("alice", "POST", comments, {"body": "harmless"})
    await away.scene.github.control("clock", {"advance": 5})
    await away.person("alice", "PATCH", f"{ISSUES}/comments/{edited['id']}", {"body": "/interlock approve"})
    await away.person("bob", "PATCH", f"{ISSUES}/{closed.issue}", {"state": "closed"})
    await away.person("bob", "DELETE", f"{ISSUES}/{unlabelled.issue}/labels/interlock")
    said, ended, taken = sorted(await away.after_a_week(), key=lambda event: event.kind)
    assert isinstance(said, e.CommentAdded) and said.body == "an answer" and said.by.login == "alice"
    assert isinstance(ended, e.IssueClosed) and ended.by.login == "bob"
    assert isinstance(taken, e.IssueUnlabelled) and (taken.by.login, taken.label) == ("bob", "interlock")


async def test_a_review_and_the_end_of_a_pull_request_are_heard(away: Away) -> None:
    number = await away.issue("alice")
    away.scene.git("checkout", "-q", "-b", f"interlock/{number}")
    away.scene.git("commit", "-q", "--allow-empty", "-m", "Work")
    assert await away.scene.push(await away.scene.token(), f"HEAD:refs/heads/interlock/{number}") == 0
    pull = await away.person(
        "alice", "POST", "/repos/octo/app/pulls", {"title": "x", "head": f"interlock/{number}", "base": "main"}
    )
    head = pull["head"]["sha"]
    away.ticket(number, pull_request=PullRequest(number=pull["number"], head=head))
    await away.person("bob", "POST", f"/repos/octo/app/pulls/{pull['number']}/reviews", {"event": "APPROVE"})
    await away.person("bob", "PATCH", f"/repos/octo/app/pulls/{pull['number']}", {"state": "closed"})
    review, ended = await away.after_a_week()
    assert isinstance(review, e.ReviewSubmitted) and (review.state, review.head) == ("approved", head)
    assert review.by.login == "bob"
    assert isinstance(ended, e.PullRequestClosed) and ended.by.login == "bob" and not ended.merged
