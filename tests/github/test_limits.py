"""What GitHub allows is kept: pauses, probes, the budget and who goes first, on a clock that is moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from bot.errors import Away, Rejected, Transient
from bot.github.app import GitHubApp
from bot.github.limits import FIRST_PAUSE, LAST_PAUSE, LONGEST, Importance, Limits
from schemas.base import RepoRef
from tests.e2e.test_faults import most_within
from tests.standin.scene import LeapClock, Scene, scene
from tests.store.parts import ManualClock

ACKNOWLEDGE, LAND, COSMETIC = Importance
LIMITED = {"X-RateLimit-Limit": "5000", "X-RateLimit-Remaining": "4000"}


class LoneClock(ManualClock):
    """Moved by whoever sleeps, if nobody else can go on meanwhile."""

    async def sleep(self, seconds: float) -> None:
        self.move(seconds)


def made(clock: ManualClock) -> Limits:
    limits = Limits(clock)
    limits.heard(200, LIMITED, b"")
    return limits


async def write(limits: Limits, clock: ManualClock, importance: Importance, sent: list[datetime]) -> None:
    """As an effect: it comes again as often as it is told to."""
    while True:
        try:
            async with limits.turn(importance, creates=True):
                sent.append(clock.wall())
                return
        except Away as error:
            clock.move(error.retry_after or 1.0)


# --- the budget ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kinds", "a_minute", "an_hour"),
    [([ACKNOWLEDGE], 80, 500), ([LAND], 72, 450), ([COSMETIC], 60, 375), ([COSMETIC, ACKNOWLEDGE, LAND], 80, 500)],
)
async def test_content_stays_within_the_budget(kinds: list[Importance], a_minute: int, an_hour: int) -> None:
    clock = LoneClock()
    limits, sent = made(clock), list[datetime]()
    for number in range(900):
        await write(limits, clock, kinds[number % len(kinds)], sent)
    most = most_within(sent, timedelta(minutes=1)), most_within(sent, timedelta(hours=1))
    assert most[0] <= a_minute and most[1] <= an_hour
    assert len(kinds) > 1 or most == (a_minute, an_hour)


async def test_updates_leave_room_for_answers() -> None:
    clock = LoneClock()
    limits = made(clock)
    for _ in range(60):
        async with limits.turn(COSMETIC, creates=True):
            pass
    with pytest.raises(Away, match="budget") as raised:
        limits.room(COSMETIC, creates=True)
    assert raised.value.retry_after is not None and raised.value.retry_after <= 60
    assert limits.room(ACKNOWLEDGE, creates=True) == 0.0


async def test_after_a_burst_one_write_a_second_but_answers_do_not_wait_for_that() -> None:
    clock = LoneClock()
    limits, began = made(clock), clock.wall()
    for _ in range(90):
        async with limits.turn(COSMETIC, creates=False):
            pass
    assert timedelta(seconds=27) < clock.wall() - began < timedelta(seconds=31)
    assert limits.room(ACKNOWLEDGE, creates=True) == 0.0


async def test_one_at_a_time_the_most_important_first_and_nothing_starves() -> None:
    clock = ManualClock()
    limits, order, inside = made(clock), list[str](), 0
    gate = asyncio.Event()

    async def one(name: str, importance: Importance) -> None:
        nonlocal inside
        async with limits.turn(importance, creates=False):
            inside += 1
            assert inside == 1
            await gate.wait()
            order.append(name)
            inside -= 1

    async def begin(name: str, importance: Importance) -> asyncio.Task[None]:
        task = asyncio.create_task(one(name, importance))
        await asyncio.sleep(0)
        return task

    tasks = [await begin("first", COSMETIC), await begin("old status", COSMETIC), await begin("landing", LAND)]
    left = await begin("gave up waiting", ACKNOWLEDGE)
    left.cancel()
    tasks.append(await begin("answer", ACKNOWLEDGE))
    clock.move(61)
    tasks.append(await begin("late answer", ACKNOWLEDGE))
    gate.set()
    async with asyncio.timeout(5):
        await asyncio.gather(*tasks)
    assert order == ["first", "answer", "landing", "old status", "late answer"]


async def test_a_server_without_limits_has_no_budget() -> None:
    limits = Limits(ManualClock())
    limits.heard(200, {}, b"")
    for _ in range(1000):
        async with limits.turn(COSMETIC, creates=True):
            pass


# --- pauses ----------------------------------------------------------------------------------------------------------
def paused(limits: Limits) -> float:
    try:
        limits.admit()
    except Away as error:
        return error.retry_after or 0.0
    return 0.0


@pytest.mark.parametrize(
    ("status", "headers", "body", "seconds"),
    [
        (403, {"Retry-After": "42"}, b"", 42),
        (429, {"Retry-After": "42"}, b"", 42),
        (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "+1800"}, b"", 1800),
        (200, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "+1800"}, b"", 1800),
        (429, {}, b"", FIRST_PAUSE),
        (403, {}, b"You have exceeded a secondary rate limit", FIRST_PAUSE),
        (403, {}, b"You have been temporarily blocked from content creation", FIRST_PAUSE),
        (403, {}, b"Resource not accessible by integration", 0),
        (200, {"X-RateLimit-Remaining": "0", "X-RateLimit-Resource": "search", "X-RateLimit-Reset": "+9"}, b"", 0),
        (503, {"Retry-After": "42"}, b"", 42),
        (500, {}, b"", 0),
    ],
)
async def test_what_github_asks_for_is_how_long_nothing_is_sent(
    status: int, headers: dict[str, str], body: bytes, seconds: float
) -> None:
    clock = ManualClock()
    limits = Limits(clock)
    now = int(clock.wall().timestamp())
    headers = {name: str(now + int(text)) if text.startswith("+") else text for name, text in headers.items()}
    if status == 200 or (status == 403 and not seconds):
        limits.heard(status, headers, body)
    else:
        with pytest.raises(Away):
            limits.heard(status, headers, body)
    assert seconds - 1 <= paused(limits) <= seconds
    clock.move(seconds)
    assert paused(limits) == 0.0


async def test_pauses_without_a_time_grow_and_have_an_end() -> None:
    clock = ManualClock()
    limits, pauses = Limits(clock), list[float]()
    for _ in range(7):
        with pytest.raises(Away) as raised:
            limits.heard(429, {}, b"")
        pauses.append(raised.value.retry_after or 0.0)
        limits.heard(200, {}, b"")  # another call's, that was under way: it ends no pause and shortens none
        assert paused(limits) == pauses[-1]
        clock.move(pauses[-1])
    assert pauses == [60, 120, 240, 480, LAST_PAUSE, LAST_PAUSE, LAST_PAUSE]
    limits.heard(200, {}, b"")
    with pytest.raises(Away) as raised:
        limits.heard(429, {}, b"")
    assert raised.value.retry_after == FIRST_PAUSE


async def test_a_clock_set_back_ends_a_pause() -> None:
    clock = ManualClock()
    limits = Limits(clock)
    with pytest.raises(Away):
        limits.heard(429, {"Retry-After": "60"}, b"")
    clock.move(-LONGEST)
    assert paused(limits) == 0.0


# --- the same through the door ---------------------------------------------------------------------------------------
class Door:
    def __init__(self, found: Scene) -> None:
        self.scene, self.clock = found, LeapClock(found.github)
        self.app: GitHubApp = found.as_the_bot(self.clock)
        self.repo, self.installation = RepoRef(id=found.repo.id, full_name="octo/app"), int(found.app["installation"])

    async def call(self, method: str, path: str, body: Any = b"", importance: Importance = LAND) -> Any:
        return await self.app.call(self.repo, self.installation, method, path, body, importance)

    async def until_done(self, method: str, path: str, body: Any = b"") -> Any:
        while True:
            try:
                return await self.call(method, path, body)
            except Transient as error:
                await self.clock.sleep(error.retry_after or 1.0)

    async def fault(self, **fault: Any) -> None:
        await self.scene.github.control("faults", fault)

    async def requests(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await self.scene.github.control("requests")
        return [one for one in found if "access_tokens" not in one["path"]]


@pytest_asyncio.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with scene(tmp_path) as found:
        await found.github.as_user("alice", "POST", "/repos/octo/app/issues", {"title": "x"})
        yield Door(found)


async def test_six_hours_of_502_meet_one_probe_a_minute_and_then_all_goes_on(door: Door) -> None:
    await door.call("GET", "")
    before = len(await door.requests())
    await door.fault(match="^/repos", status=502, times=10**6)
    began = door.clock.wall()

    async def one(name: int) -> None:
        while door.clock.wall() - began < timedelta(hours=6):
            with pytest.raises(Away):
                await door.call(*(("GET", "/issues/1") if name % 2 else ("POST", "/issues/1/comments", {"body": "x"})))
            await asyncio.sleep(0)
            if name == 0:
                await door.clock.sleep(30.0)

    await asyncio.gather(*map(one, range(4)))
    asked = [datetime.fromisoformat(one["at"]) for one in (await door.requests())[before:]]
    assert len(asked) <= 6 * 60 + 10
    assert most_within(asked[10:], timedelta(seconds=59)) == 1
    await door.scene.github.control("chaos", {"clear": True})
    assert (await door.until_done("GET", "/issues/1"))["number"] == 1
    assert (await door.call("GET", ""))["name"] == "app"


async def test_the_stand_in_agrees_with_the_budget(door: Door) -> None:
    await door.scene.github.control("limits", {"on": True})
    await door.call("GET", "")
    for number in range(100):
        await door.until_done("POST", "/issues/1/comments", {"body": str(number)})
    said = await door.scene.github.control("calls")
    assert said["over"] == 0 and len(said["created"]) == 100
    assert most_within([datetime.fromisoformat(at) for at in said["created"]], timedelta(minutes=1)) <= 80


async def test_a_renamed_repository_is_followed_and_a_write_stays_a_write(door: Door) -> None:
    path = f"{door.scene.github.url}/_standin/repositories/{door.repo.id}"
    async with door.scene.session.patch(path, json={"name": "renamed"}) as answer:
        assert answer.status == 200
    assert (await door.call("GET", ""))["full_name"] == "octo/renamed"
    made = await door.call("POST", "/issues/1/comments", {"body": "still said"})
    assert (await door.call("PATCH", f"/issues/comments/{made['id']}", {"body": "edited"}))["body"] == "edited"
    assert [c["body"] for c in await door.app.pages(door.repo, door.installation, "/issues/1/comments")] == ["edited"]


@pytest.mark.parametrize("status", [301, 307, 308])
async def test_nothing_is_sent_to_another_host(door: Door, status: int) -> None:
    await door.fault(match="comments$", status=status, headers={"Location": "http://127.0.0.2:9/repos/x"})
    with pytest.raises(Rejected, match="another place"):
        await door.call("POST", "/issues/1/comments", {"body": "x"})


async def test_a_read_that_has_not_changed_is_answered_from_memory_and_asked_for_all_the_same(door: Door) -> None:
    first = await door.call("GET", "/issues/1")
    first["title"] = "whoever changes an answer changes only their own"
    again = await door.call("GET", "/issues/1")
    assert again["title"] == "x"
    said = [one["status"] for one in await door.requests() if one["path"].endswith("/issues/1")]
    assert said == [200, 304]
    await door.scene.github.as_user("alice", "PATCH", "/repos/octo/app/issues/1", {"title": "y"})
    assert (await door.call("GET", "/issues/1"))["title"] == "y"


# --- tokens ----------------------------------------------------------------------------------------------------------
async def test_each_purpose_has_a_token_that_can_do_no_more(door: Door) -> None:
    async def may(purpose: Any, method: str, path: str, body: Any = None) -> int:
        token = await door.app.token(door.repo, door.installation, purpose)
        return (await door.scene.call(method, f"/repos/octo/app{path}", token, body))[0]

    comment = ("POST", "/issues/1/comments", {"body": "x"})
    ref = ("POST", "/git/refs", {"ref": "refs/heads/n", "sha": door.scene.repo.head})
    assert (await may("look", "GET", "/issues/1"), await may("look", *comment)) == (200, 403)
    assert (await may("speak", *comment), await may("speak", *ref)) == (201, 403)
    assert (await may("fetch", *ref), await may("fetch", *comment)) == (403, 403)
    assert (await may("push", *ref), await may("push", *comment)) == (201, 403)


async def test_an_expired_token_is_minted_anew_and_a_fresh_one_is_asked_again(door: Door) -> None:
    async def minted() -> int:
        found = await door.scene.github.control("requests")
        return sum("access_tokens" in one["path"] for one in found)

    await door.call("GET", "/issues/1")
    for message, status in (("Bad credentials", 401), ("Resource not accessible by integration", 403)):
        began = door.clock.wall()
        await door.fault(match="issues/1$", status=status, times=2, message=message)
        if status == 403:
            await door.clock.sleep(3600)
            began = door.clock.wall()
        await door.call("GET", "/issues/1")
        assert door.clock.wall() - began >= timedelta(seconds=3)
    assert await minted() == 2
    await door.clock.sleep(60)
    began = door.clock.wall()
    await door.fault(match="issues/1$", status=401)
    await door.call("GET", "/issues/1")
    assert await minted() == 3 and door.clock.wall() - began < timedelta(seconds=1)
    await door.clock.sleep(60)
    await door.fault(match="issues/1$", status=403, message="Resource not accessible by integration")
    with pytest.raises(Rejected, match="403"):
        await door.call("GET", "/issues/1")


async def test_a_repository_is_not_gone_because_it_is_missing_for_a_minute(door: Door) -> None:
    with pytest.raises(Rejected, match="404"):
        await door.call("GET", "/issues/999")
    await door.fault(match="^/repos", status=404, times=10**6)
    began = door.clock.wall()
    while True:
        try:
            await door.call("GET", "/issues/1")
        except Away as error:
            await door.clock.sleep(error.retry_after or 1.0)
        except Rejected:
            break
    assert timedelta(minutes=2) <= door.clock.wall() - began < timedelta(minutes=3)


async def test_an_app_that_was_uninstalled_is_refused_at_once(door: Door) -> None:
    await door.fault(match="^/app/installations/", status=404, times=10**6)
    with pytest.raises(Rejected, match="the App is not installed there any more"):
        await door.call("POST", "/issues/1/comments", {"body": "late"})
    found = await door.scene.github.control("requests")
    assert [one["path"].split("/")[-1] for one in found[-2:]] == ["access_tokens", str(door.installation)]


async def test_a_signature_that_github_refuses_gives_nothing_up(door: Door) -> None:
    await door.fault(match="access_tokens$", status=401, message="Bad credentials")
    with pytest.raises(Away, match="PRIVATE_KEY_FILE"):
        await door.call("GET", "/issues/1")
    await door.fault(match="access_tokens$", status=403, message="This installation has been suspended")
    with pytest.raises(Away, match="suspended"):
        await door.call("GET", "/issues/1")
    assert (await door.call("GET", "/issues/1"))["number"] == 1
