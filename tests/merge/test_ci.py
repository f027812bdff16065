"""Trains that wait for the repository's own CI: stored, looked at again, parked when nothing reports."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from bot.github.ci import Said, judged
from bot.ports import Asked, CiVerdict
from schemas.base import CiCheck, Evidence, Sha
from schemas.commands import Command
from schemas.lane import EntryState, LaneState
from tests.merge.test_checks import LANE, Listing, entry, queue, repo
from tests.merge.test_merge_command import git

BUILD, LINT = CiCheck(app="github-actions", name="build"), CiCheck(name="lint")
__all__ = ["repo"]


class Scripted:
    """`bot.ports.Ci`: what it says is set by the test; which commits were brought to it."""

    def __init__(self) -> None:
        self.says: dict[str, CiVerdict] = {}
        self.asked: list[tuple[str, bool]] = []
        self.brought: list[Asked] = []

    async def look(
        self, lane: str, commit: Sha, wanted: Sequence[CiCheck], *, push: bool, asked: Asked = ()
    ) -> CiVerdict:
        """See bot.ports.Ci."""
        self.asked.append((commit, push))
        if push:
            self.brought.append(asked)
        return self.says.get(commit, CiVerdict("unknown", summary=f"CI: {wanted[0]} has not reported"))


async def test_what_never_reports_parks_the_train_and_blames_nobody(repo: Path) -> None:
    ci = Scripted()
    async with queue(repo, Listing()) as (store, lander, clock):
        object.__setattr__(lander, "ci", ci)
        news = [entry(repo, number).model_copy(update={"ci": (BUILD,), "ci_minutes": 30}) for number in range(3)]
        await store.enqueue(news, clock.wall())
        await lander.drive(LANE)
        lane = await store.lane(LANE)
        assert lane.train is not None and lane.due is not None and lane.due > clock.wall()
        tip = lane.train.tip
        assert ci.asked == [(tip, True)]
        due = await store.next_due()
        assert await store.busy_lanes(clock.wall()) == [] and due and abs(due - lane.due) < timedelta(milliseconds=1)
        await lander.drive(LANE)  # too early: nothing is asked
        assert len(ci.asked) == 1
        clock.slept += 60
        assert await store.busy_lanes(clock.wall()) == [LANE]
        await lander.drive(LANE)
        assert ci.asked == [(tip, True)] * 2
    async with queue(repo, Listing()) as (store, lander, clock):  # another process goes on with the same commit
        object.__setattr__(lander, "ci", ci)
        clock.slept += 31 * 60
        await lander.drive(LANE)
        assert ci.asked == [(tip, True)] * 3
        lane = await store.lane(LANE)
        assert lane.state is LaneState.PAUSED and lane.train is None
        assert "github-actions/build has not reported" in lane.why and tip[:12] in lane.why and "30 minutes" in lane.why
        assert {one.state for one in await store.report(LANE)} == {EntryState.QUEUED}
        assert [one.attempts for one in await store.report(LANE)] == [0, 0, 0]
        await lander.drive(LANE)
        assert len(ci.asked) == 3 and await store.busy_lanes(clock.wall() + timedelta(days=1)) == []
        await store.operate(Command(command="release", lane=LANE, by="bob"), clock.wall())
        await lander.drive(LANE)
        waiting = await store.lane(LANE)
        assert waiting.train is not None
        ci.says[waiting.train.tip] = CiVerdict("green", summary="CI: build")
        clock.slept += 60
        await lander.drive(LANE)
        assert git(repo, "rev-parse", "main") == waiting.train.tip
        assert {one.state for one in await store.report(LANE)} == {EntryState.LANDED}


async def test_red_ci_halves_on_the_commits_that_are_there(repo: Path) -> None:
    red = CiVerdict(
        "red", Evidence(reason="CI: build concluded failure", check="github-actions/build", log="fell over")
    )

    class Judge(Scripted):
        async def look(
            self, lane: str, commit: Sha, wanted: Sequence[CiCheck], *, push: bool, asked: Asked = ()
        ) -> CiVerdict:
            self.asked.append((commit, push))
            files = git(repo, "show", f"{commit}:file5.txt")
            return red if files == "new" else CiVerdict("green", summary="CI: build")

    ci = Judge()
    async with queue(repo, Listing()) as (store, lander, clock):
        object.__setattr__(lander, "ci", ci)
        await store.enqueue([entry(repo, n).model_copy(update={"ci": (BUILD,)}) for n in range(8)], clock.wall())
        await lander.drive(LANE)
        states = {one.id: (one.state, one.evidence) for one in await store.report(LANE)}
    assert states.pop("5") == (EntryState.REWORK, red.evidence)
    assert {state for state, _ in states.values()} == {EntryState.LANDED}
    assert sum(push for _, push in ci.asked) <= 8


async def test_a_red_base_blames_nobody(repo: Path) -> None:
    red = CiVerdict(
        "red", Evidence(reason="CI: build concluded failure", check="github-actions/build", log="fell over")
    )

    class Broken(Scripted):
        async def look(
            self, lane: str, commit: Sha, wanted: Sequence[CiCheck], *, push: bool, asked: Asked = ()
        ) -> CiVerdict:
            return red

    async with queue(repo, Listing()) as (store, lander, clock):
        object.__setattr__(lander, "ci", Broken())
        await store.enqueue([entry(repo, n).model_copy(update={"ci": (BUILD,)}) for n in range(2)], clock.wall())
        await lander.drive(LANE)
        lane = await store.lane(LANE)
        assert lane.state is LaneState.FROZEN and "build concluded failure" in lane.why
        assert {one.state for one in await store.report(LANE)} == {EntryState.QUEUED}


async def test_who_runs_again_has_as_long_again_and_red_once_counts_if_nothing_comes(repo: Path) -> None:
    ci, red = Scripted(), Evidence(reason="CI: build concluded failure", check=str(BUILD), log="fell over")
    async with queue(repo, Listing()) as (store, lander, clock):
        object.__setattr__(lander, "ci", ci)
        await store.enqueue([entry(repo, 0).model_copy(update={"ci": (BUILD,), "ci_minutes": 30})], clock.wall())
        await lander.drive(LANE)
        tip = ci.asked[0][0]
        asked = ((str(BUILD), "failure 1 then"),)
        ci.says[tip] = CiVerdict("unknown", red, "CI: build (failure, to run again) has not reported", asked)
        clock.slept += 29 * 60
        await lander.drive(LANE)
        first = (await store.lane(LANE)).train
        assert first is not None and first.ci_asked == asked
    async with queue(repo, Listing()) as (store, lander, clock):  # another process knows what was asked for
        object.__setattr__(lander, "ci", ci)
        clock.slept += 50 * 60
        await lander.drive(LANE)
        again = (await store.lane(LANE)).train
        assert again is not None and again.ci_since == first.ci_since and ci.brought[-1] == asked
        ci.says[tip] = CiVerdict("unknown", red, "the same", asked)
        clock.slept += 10 * 60
        await lander.drive(LANE)
        (one,) = await store.report(LANE)
        assert (one.state, one.evidence) == (EntryState.REWORK, red)
        assert (await store.lane(LANE)).state is LaneState.OPEN


async def test_whoever_waits_behind_a_parked_train_is_told_too(repo: Path) -> None:
    async with queue(repo, Listing()) as (store, lander, clock):
        object.__setattr__(lander, "ci", Scripted())
        news = [entry(repo, n).model_copy(update={"ci": (BUILD,), "ticket": f"o/r#{n}"}) for n in range(2)]
        await store.enqueue(news[:1], clock.wall())
        await lander.drive(LANE)
        await store.enqueue(news[1:], clock.wall())
        clock.slept += 61 * 60
        await lander.drive(LANE)
        rows = await store.database.rows("SELECT ticket, kind FROM events ORDER BY ticket")
        assert [(row["ticket"], row["kind"]) for row in rows] == [(f"o/r#{n}", "lane_stopped") for n in range(2)]
        assert [one.state for one in await store.report(LANE)] == [EntryState.QUEUED] * 2


async def test_looks_at_slow_ci_grow_apart(repo: Path) -> None:
    async with queue(repo, Listing()) as (store, lander, clock):
        object.__setattr__(lander, "ci", Scripted())
        await store.enqueue([entry(repo, 0).model_copy(update={"ci": (BUILD,), "ci_minutes": 600})], clock.wall())
        pauses = []
        for _ in range(40):
            await lander.drive(LANE)
            due = (await store.lane(LANE)).due
            assert due is not None
            pauses.append(round((due - clock.wall()).total_seconds()))
            clock.slept += pauses[-1] + 1
    assert pauses == sorted(pauses) and (pauses[0], pauses[-1]) == (20, 120)


async def test_what_needs_ci_does_not_land_where_there_is_none(repo: Path) -> None:
    async with queue(repo, Listing()) as (store, lander, clock):
        await store.enqueue([entry(repo, 0).model_copy(update={"ci": (BUILD,)})], clock.wall())
        with pytest.raises(AssertionError, match="only a bot's entries need CI"):
            await lander.drive(LANE)
    assert git(repo, "rev-list", "--count", "main") == "1"


@pytest.mark.parametrize(
    ("build", "lint", "before", "outcome", "words"),
    [
        ("success", "success", None, "green", "github-actions/build, lint"),
        ("success", "skipped", None, "green", "lint"),
        ("neutral", "skipped", None, "unknown", "only skipped"),
        ("success", "", None, "unknown", "lint has not reported"),
        ("cancelled", "success", None, "unknown", "github-actions/build (cancelled)"),
        ("stale", "success", None, "unknown", "(stale)"),
        ("action_required", "success", None, "unknown", "(action_required)"),
        ("", "failure", None, "red", "lint concluded failure"),
        ("timed_out", "success", None, "red", "timed_out"),
        ("something new", "success", None, "unknown", "something new"),
        ("failure", "success", "", "red", "(CI is not run again)"),
        ("failure", "success", "failure 1 then", "red", "failure (twice)"),
        ("failure", "success", "failure 2 now", "red once", "github-actions/build (failure, to run again)"),
        ("cancelled", "success", "cancelled 2 now", "unknown", "(cancelled, to run again)"),
        ("cancelled", "success", "cancelled 1 then", "unknown", "github-actions/build (cancelled)"),
        ("success", "success", "failure 1 then", "green", "github-actions/build was failure at first"),
        ("failure", "failure", "failure 2 now", "red", "lint concluded failure"),
    ],
)
def test_what_counts_as_green(build: str, lint: str, before: str | None, outcome: str, words: str) -> None:
    again = {} if before is None else {str(BUILD): before}
    found = judged({BUILD: Said(build, "why", 2, f"{build} 2 now"), LINT: Said(lint, "why")}, again)
    assert found.outcome == ("unknown" if outcome == "red once" else outcome)
    if outcome == "red once":
        assert found.evidence and found.evidence.check == str(BUILD) and words in found.summary
        return
    assert words in (found.evidence.reason if found.evidence else found.summary)
