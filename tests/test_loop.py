"""The loop's edges: what a hostile delivery or a defect of ours may not do."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from bot.errors import Away, InterlockError, Rejected, Transient
from bot.loop import LANE_RETRY, LAST_RETRY, Loop, _decided, _readable
from bot.metrics import Metrics
from bot.ports import Due, Lease, Performed
from bot.store.store import SqliteStore
from schemas.effects import Effect
from schemas.events import Ticked
from tests.store.parts import T0, TICKET, ManualClock, open_ticket, opened, outbox_rows, post


class Fails:
    """A performer that fails a number of times, always in the same way, and notes when it was asked."""

    kinds = frozenset({"post_comment"})

    def __init__(self, clock: ManualClock, times: int, error: InterlockError) -> None:
        self.clock, self.times, self.error, self.at = clock, times, error, list[datetime]()

    async def perform(self, effect: Effect, lease: Lease) -> Performed:
        self.at.append(self.clock.wall())
        if len(self.at) <= self.times:
            raise self.error
        return Performed()

    async def drive(self, lane: str) -> None:
        await self.perform(None, None)  # type: ignore[arg-type]


def loop(store: Any, performer: Fails) -> Loop:
    return Loop(
        store=store, queue=store, people=None, translate=lambda *_: [], performers=[performer], drive=performer.drive,  # type: ignore[arg-type]
        clock=performer.clock, metrics=Metrics(), owner="me", slots=1,
    )  # fmt: skip


async def performed(store: SqliteStore, performer: Fails, hours: int) -> str:
    """What has become of the ticket's one effect after some hours of the clock."""
    await open_ticket(store, effects=(post("1"),))
    ours, until = loop(store, performer), performer.clock.wall() + timedelta(hours=hours)
    while performer.clock.wall() < until:
        if (leased := await store.lease(performer.kinds, "me", 60, performer.clock.wall())) is None:
            performer.clock.move(2)
        else:
            await ours._settled(performer, *leased)
    return str((await outbox_rows(store, TICKET))[0].state)


async def test_an_effect_that_finds_github_away_is_never_given_up(tmp_path: Path) -> None:
    clock = ManualClock()
    performer = Fails(clock, 20, Away("502"))
    async with opened(tmp_path, clock) as store:
        assert await performed(store, performer, 2) == "done"
    waits = [(b - a).total_seconds() for a, b in zip(performer.at, performer.at[1:], strict=False)]
    assert len(waits) == 20 and max(waits) <= LAST_RETRY + 2 and waits[0] < 5 and waits[-1] >= LAST_RETRY


async def test_what_github_asks_for_is_waited_for_and_other_trouble_is_given_up(tmp_path: Path) -> None:
    clock = ManualClock()
    performer = Fails(clock, 1, Away("429", 1000.0))
    async with opened(tmp_path / "a", clock) as store:
        assert await performed(store, performer, 1) == "done"
    assert 1000 <= (performer.at[1] - performer.at[0]).total_seconds() <= 1002
    for error, tries in ((Transient("the commit is gone"), 8), (Rejected("422"), 1)):
        performer = Fails(clock, 99, error)
        async with opened(tmp_path / type(error).__name__, clock) as store:
            assert await performed(store, performer, 3) == "gave_up"
        assert len(performer.at) == tries


async def test_a_lane_that_cannot_be_driven_is_tried_once_a_minute_at_last() -> None:
    clock = ManualClock()
    performer = Fails(clock, 30, Away("no route"))
    ours = loop(None, performer)
    for _ in range(31):
        await ours._drive("7:refs/heads/main")
    waits = [(b - a).total_seconds() for a, b in zip(performer.at, performer.at[1:], strict=False)]
    assert waits[:6] == [1, 2, 4, 8, 16, 32] and set(waits[6:]) == {LANE_RETRY}
    assert not ours.failures


def test_a_lone_surrogate_in_a_delivery_becomes_a_question_mark() -> None:
    assert _readable(b'{"title": "a\\ud800b", "list": ["\\ud83d\\ude00"]}') == {"title": "a?b", "list": ["\U0001f600"]}


def test_an_event_that_our_code_fails_on_is_said_and_left_behind() -> None:
    broken = Due(seq=1, event=Ticked.model_construct(ticket="octo/app#1", at=None), ticket=object())  # type: ignore[arg-type]
    said = _decided(broken, T0)
    assert isinstance(said, str) and "a defect of Interlock" in said
