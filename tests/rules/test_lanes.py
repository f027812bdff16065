"""Lanes: an entry that was withdrawn while its train was under way neither comes back nor stops the lane."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bot.rules import lanes
from bot.rules.states import IllegalMove
from schemas.base import Evidence
from schemas.lane import Carriage, Checked, Confirmed, Entry, EntryState, Lane, LaneEvent, Train, TrainState

OLD, NEW = "a" * 40, "b" * 40
RED = Evidence(reason="it fails")


def given(state: EntryState, train: TrainState, event: LaneEvent) -> tuple[Lane, LaneEvent, dict[str, Entry]]:
    made = Train(state=train, base=OLD, old=OLD, tip=NEW, tree=OLD,
                 carriages=(Carriage(entry="x", commit=NEW, tree=OLD),))  # fmt: skip
    lane = Lane(key="1:refs/heads/main", ref="refs/heads/main", train=made)
    now = datetime(2024, 1, 1, tzinfo=UTC)
    return lane, event, {"x": Entry(id="x", lane=lane.key, ticket="octo/app#1", seq=1, accepted=now, state=state)}


@pytest.mark.parametrize("state", [EntryState.CANCELLED, EntryState.SUPERSEDED])
@pytest.mark.parametrize(
    ("train", "event", "kept"),
    [
        (TrainState.COMPOSED, Checked(outcome="green", length=1), True),
        (TrainState.COMPOSED, Checked(outcome="red", length=1, evidence=RED), True),
        (TrainState.COMPOSED, Checked(outcome="unknown", length=1, evidence=RED), False),
        (TrainState.CHECKED, Confirmed(refused=(("x", "it was withdrawn"),)), False),
    ],
)
def test_a_withdrawn_entry_stays_so_and_the_lane_goes_on(
    state: EntryState, train: TrainState, event: LaneEvent, kept: bool
) -> None:
    decision = lanes.decide(*given(state, train, event))
    assert decision.moves == () and decision.emits == ()
    assert (decision.lane.train is not None) == kept
    if isinstance(event, Checked) and event.outcome == "red":
        believed = lanes.decide(decision.lane, event, given(state, train, event)[2])
        assert believed.moves == () and believed.emits == () and believed.lane.train is None


def test_a_withdrawn_entry_is_never_landed() -> None:
    with pytest.raises(IllegalMove):
        lanes.decide(*given(EntryState.CANCELLED, TrainState.CHECKED, Confirmed()))
