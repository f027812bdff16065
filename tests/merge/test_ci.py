"""Trains that wait for the repository's own CI: stored, looked at again, parked when nothing reports."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from bot.github.ci import judged
from bot.ports import CheckVerdict
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
        self.says: dict[str, CheckVerdict] = {}
        self.asked: list[tuple[str, bool]] = []

    async def look(self, lane: str, commit: Sha, wanted: Sequence[CiCheck], *, push: bool) -> CheckVerdict:
        """See bot.ports.Ci."""
        self.asked.append((commit, push))
        return self.says.get(commit, CheckVerdict("unknown", summary=f"CI: {wanted[0]} has not reported"))


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
        ci.says[waiting.train.tip] = CheckVerdict("green", summary="CI: build")
        clock.slept += 60
        await lander.drive(LANE)
        assert git(repo, "rev-parse", "main") == waiting.train.tip
        assert {one.state for one in await store.report(LANE)} == {EntryState.LANDED}


async def test_red_ci_halves_on_the_commits_that_are_there(repo: Path) -> None:
    red = CheckVerdict(
        "red", Evidence(reason="CI: build concluded failure", check="github-actions/build", log="fell over")
    )

    class Judge(Scripted):
        async def look(self, lane: str, commit: Sha, wanted: Sequence[CiCheck], *, push: bool) -> CheckVerdict:
            self.asked.append((commit, push))
            files = git(repo, "show", f"{commit}:file5.txt")
            return red if files == "new" else CheckVerdict("green", summary="CI: build")

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
    red = CheckVerdict(
        "red", Evidence(reason="CI: build concluded failure", check="github-actions/build", log="fell over")
    )

    class Broken(Scripted):
        async def look(self, lane: str, commit: Sha, wanted: Sequence[CiCheck], *, push: bool) -> CheckVerdict:
            return red

    async with queue(repo, Listing()) as (store, lander, clock):
        object.__setattr__(lander, "ci", Broken())
        await store.enqueue([entry(repo, n).model_copy(update={"ci": (BUILD,)}) for n in range(2)], clock.wall())
        await lander.drive(LANE)
        lane = await store.lane(LANE)
        assert lane.state is LaneState.FROZEN and "build concluded failure" in lane.why
        assert {one.state for one in await store.report(LANE)} == {EntryState.QUEUED}


@pytest.mark.parametrize(
    ("said", "outcome", "words"),
    [
        ({BUILD: ("success", ""), LINT: ("success", "")}, "green", "github-actions/build, lint"),
        ({BUILD: ("success", ""), LINT: ("skipped", "")}, "green", "lint"),
        ({BUILD: ("neutral", ""), LINT: ("skipped", "")}, "unknown", "only skipped"),
        ({BUILD: ("success", ""), LINT: ("", "")}, "unknown", "lint has not reported"),
        ({BUILD: ("cancelled", ""), LINT: ("success", "")}, "unknown", "github-actions/build (cancelled)"),
        ({BUILD: ("stale", ""), LINT: ("success", "")}, "unknown", "(stale)"),
        ({BUILD: ("", ""), LINT: ("failure", "why")}, "red", "lint concluded failure"),
        ({BUILD: ("timed_out", ""), LINT: ("success", "")}, "red", "timed_out"),
        ({BUILD: ("something new", ""), LINT: ("success", "")}, "unknown", "something new"),
    ],
)
def test_what_counts_as_green(said: dict[CiCheck, tuple[str, str]], outcome: str, words: str) -> None:
    found = judged(said)
    assert found.outcome == outcome
    assert words in (found.evidence.reason if found.evidence else found.summary)
