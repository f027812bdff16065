"""A lane whose repository GitHub refuses us: everything is set aside with GitHub's words, once, and can be tried again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bot.errors import Rejected
from bot.merge.local import LocalRemote
from bot.ports import PushResult, Remote
from bot.rules import lanes
from schemas.lane import EntryState, ErrorClass, Series, TrainState, Unreachable
from tests.merge.test_checks import LANE, Listing, entry, queue, repo
from tests.rules.test_lanes import given

__all__ = ["repo"]


@dataclass(frozen=True)
class Gone:
    """A remote that can be read a few times, and then is refused."""

    local: LocalRemote
    reads: list[int]

    @property
    def git_dir(self) -> Path:
        return self.local.git_dir

    async def head(self, ref: str) -> str | None:
        self.reads.append(1)
        if len(self.reads) > 1:
            raise Rejected("the repository cannot be read by git: 404")
        return await self.local.head(ref)

    async def push(self, ref: str, expected_old: str | None, new: str, *, force: bool = False) -> PushResult:
        raise AssertionError("nothing is pushed to what cannot be read")


async def test_a_repository_that_is_gone_is_asked_no_more(repo: Path) -> None:
    async with queue(repo, Listing()) as (store, lander, clock):
        await store.enqueue([entry(repo, number) for number in range(3)], clock.wall())
        gone = Gone(LocalRemote(repo, "refs/heads/main"), [])

        async def remote(_: str) -> Remote:
            return gone

        await replace(lander, remote=remote).drive(LANE)  # composed and checked before it is found out
        assert LANE not in await store.busy_lanes(clock.wall())
        rows = await store.report(LANE)
        assert {(one.state, one.error_class) for one in rows} == {(EntryState.QUARANTINED, ErrorClass.INFRA)}
        assert all("404" in one.error for one in rows) and len(gone.reads) == 2
        await store.retry(LANE, [one.id for one in rows], clock.wall())
        await lander.drive(LANE)
        assert {one.state for one in await store.report(LANE)} == {EntryState.LANDED}


async def test_an_approved_ticket_never_makes_its_base_anew(repo: Path) -> None:
    async with queue(repo, Listing()) as (store, lander, clock):
        tip = (await LocalRemote(repo, "refs/heads/main").head("refs/heads/main")) or ""
        lane = "local:refs/heads/gone"
        series = Series(fork=tip, tip=tip, digest="d", branch="interlock/1")
        wanted = entry(repo, 0).model_copy(update={"lane": lane, "change": None, "series": series, "fork": tip})
        await store.enqueue([wanted], clock.wall())
        await asyncio.wait_for(lander.drive(lane), 30)
        (row,) = await store.report(lane)
        assert row.state is EntryState.QUARANTINED and "gone does not exist any more" in row.error


@pytest.mark.parametrize("state", [EntryState.QUEUED, EntryState.LANDING])
def test_whatever_the_lane_holds_is_set_aside_and_its_tickets_hear_why(state: EntryState) -> None:
    decision = lanes.decide(*given(state, TrainState.LANDING, Unreachable(reason="GitHub answered 404")))
    assert decision.lane.train is None and [move.to for move in decision.moves] == [EntryState.QUARANTINED]
    (told,) = decision.emits
    assert told.ticket == "octo/app#1" and told.kind == "entry_returned"


def test_a_withdrawn_entry_is_left_alone() -> None:
    decision = lanes.decide(*given(EntryState.CANCELLED, TrainState.LANDING, Unreachable(reason="404")))
    assert decision.lane.train is None and not decision.moves and not decision.emits
