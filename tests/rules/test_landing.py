"""What a lane makes of its way: made commits, rules that are closed, and each answer of GitHub's merge queue."""

from __future__ import annotations

from datetime import UTC, datetime

from bot.rules import lanes
from bot.rules.landing import CLOSED_SECONDS
from schemas import events as e
from schemas import lane as q
from schemas.base import Evidence
from schemas.decision import LaneDecision
from schemas.landing import Merging

A, B, C, D, T, X = (letter * 40 for letter in "abcdef")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
E = q.EntryState


def lane(
    *names: str, state: q.TrainState, entry_state: q.EntryState, **train: object
) -> tuple[q.Lane, dict[str, q.Entry]]:
    carriages = tuple(
        q.Carriage(entry=name, commit=commit, tree=T, commits=((f"{name}/1.1", commit),), digest=name)
        for name, commit in zip(names, (B, C, D), strict=False)
    )
    made = q.Train(state=state, base=A, old=A, tip=carriages[-1].commit, tree=T, carriages=carriages)
    series = {name: q.Series(fork=A, tip=one.commit, digest=name, branch=f"interlock/{name}")
              for name, one in zip(names, carriages, strict=True)}  # fmt: skip
    entries = {
        name: q.Entry(
            id=name, lane="1:refs/heads/main", ticket=name, series=series[name], seq=1, accepted=NOW, state=entry_state
        )
        for name in names
    }
    key = "1:refs/heads/main"
    return q.Lane(key=key, ref="refs/heads/main", train=made.model_copy(update=train)), entries


def confirmed(event: q.Confirmed, *names: str) -> LaneDecision:
    found, entries = lane(*names, state=q.TrainState.CHECKED, entry_state=E.CHECKING)
    return lanes.decide(found, event, entries)


def read(*results: Merging, names: tuple[str, ...] = ("x", "y", "z")) -> LaneDecision:
    found, entries = lane(*names, state=q.TrainState.LANDING, entry_state=E.LANDING, way="merge_queue", verdict="ours")
    return lanes.decide(found, q.QueueRead(results=results, since=NOW, look_at=NOW, head=X), entries)


def test_the_commits_that_github_made_are_what_is_intended() -> None:
    decided = confirmed(q.Confirmed(way="api", made=((B, D), (C, X))), "x", "y")
    train = decided.lane.train
    assert train is not None and train.tip == X and train.way == "api" and train.tree == T
    assert [(one.commit, one.commits) for one in train.carriages] == [(D, (("x/1.1", D),)), (X, (("y/1.1", X),))]
    assert [one.new_oid for one in train.intents] == [X] and "GitHub made and signed" in decided.why


def test_a_closed_way_blames_nobody_and_is_tried_again_later() -> None:
    refused = q.HeadRead(ref="refs/heads/main", head=A, contains=False, refusal="GH006: no", allowed=True)
    found, entries = lane("x", "y", state=q.TrainState.LANDING, entry_state=E.LANDING,
                          intents=(q.Intent(ref="refs/heads/main", expected_old=A, new_oid=C),))  # fmt: skip
    for decided in (confirmed(q.Confirmed(refusal="GH006: no"), "x", "y"), lanes.decide(found, refused, entries)):
        assert decided.lane.train is None and decided.lane.state is q.LaneState.OPEN
        assert [(one.to, one.counts, one.delay_seconds) for one in decided.moves] == [
            (E.QUEUED, False, CLOSED_SECONDS)
        ] * 2
        assert all(
            isinstance(one, e.LaneStopped) and one.ask and "branch protection" in one.why for one in decided.emits
        )
        assert len(decided.emits) == 2
    decided = lanes.decide(found, refused.model_copy(update={"again": True}), entries)
    assert [one.delay_seconds for one in decided.moves] == [0, 0] and not decided.emits
    decided = lanes.decide(found, refused.model_copy(update={"allowed": False}), entries)
    assert {one.to for one in decided.moves} == {E.QUARANTINED}


def test_each_answer_of_githubs_queue_has_its_outcome_and_the_rest_waits() -> None:
    waiting = Merging(entry="z", state="waiting")
    merged = Merging(entry="x", state="merged", commit=X, tree=D, commits=(("x/1.1", X),), said="verified")
    why = Evidence(reason="let go")
    decided = read(merged, Merging(entry="y", state="check", evidence=why), waiting)
    train = decided.lane.train
    assert train is not None and [one.entry for one in train.carriages] == ["z"]
    assert (train.ci_since, decided.lane.due, decided.lane.head) == (NOW, NOW, X)
    landed, returned = decided.emits
    assert isinstance(landed, e.EntryLanded) and isinstance(returned, e.EntryReturned)
    assert (landed.commit, landed.tree, landed.commits, landed.digest) == (X, D, (("x/1.1", X),), "x")
    assert (landed.way, landed.verdict) == ("merge_queue", "ours; verified")
    assert (returned.state, returned.error_class) == (E.REWORK, q.ErrorClass.CHECK)
    outcomes = {"conflict": (E.REWORK, q.ErrorClass.CONFLICT), "policy": (E.REWORK, q.ErrorClass.POLICY),
                "person": (E.QUARANTINED, q.ErrorClass.POLICY), "closed": (E.QUEUED, None)}  # fmt: skip
    for state, outcome in outcomes.items():
        one = Merging.model_validate({"entry": "x", "state": state, "evidence": why})
        decided = read(one, names=("x",))
        assert (decided.moves[0].to, decided.moves[0].error_class) == outcome
        assert decided.lane.train is None and decided.lane.due is None
    (asked,) = read(Merging(entry="x", state="closed", evidence=why), names=("x",)).emits
    assert isinstance(asked, e.LaneStopped) and asked.ask and asked.ticket == "x"
