"""A lane with checks, over whole queues: who is sent back, after how many runs. Composing and checking are played."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.rules import lanes, probes
from schemas.base import CheckCommand, Evidence
from schemas.events import LaneStopped
from schemas.lane import (
    Carriage,
    Checked,
    Composed,
    ComposeResult,
    Confirmed,
    Entry,
    EntryState,
    ErrorClass,
    HeadRead,
    Lane,
    LaneEvent,
    LaneState,
    Outcome,
    TrainState,
)  # fmt: skip

NOW = datetime(2024, 1, 1, tzinfo=UTC)
TESTS = CheckCommand(name="tests", command="make test", standing=True)
OWN = CheckCommand(name="own", command="make own")


@dataclass
class Played:
    """A queue of numbered entries. `red` says which check, if any, fails on a tree that holds these entries."""

    entries: dict[str, Entry]
    red: Callable[[Sequence[str], Sequence[str]], str]
    flake: Callable[[], bool] = bool
    rungs: dict[str, str] = field(default_factory=dict)
    landed: list[str] = field(default_factory=list)
    runs: int = 0
    reruns: int = 0
    asked: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)
    stopped: list[LaneStopped] = field(default_factory=list)
    lane: Lane = field(default_factory=lambda: Lane(key="1:refs/heads/main", ref="refs/heads/main"))

    @classmethod
    def of(cls, checks: Sequence[Sequence[CheckCommand]], red: Callable[[Sequence[str], Sequence[str]], str]) -> Played:
        made = {
            f"e{number}": Entry(
                id=f"e{number}", lane="1:refs/heads/main", ticket=f"octo/app#{number}", seq=number, accepted=NOW,
                checks=tuple(own),
            )
            for number, own in enumerate(checks, 1)
        }  # fmt: skip
        return cls(made, red)

    def states(self, state: EntryState) -> list[str]:
        return [name for name, entry in self.entries.items() if entry.state is state]

    def play(self, limit: int = 1000) -> Played:
        """Until nothing is queued or the lane stops."""
        for _ in range(limit):
            if self.lane.state is not LaneState.OPEN or not (self.lane.train or self.states(EntryState.QUEUED)):
                return self
            self.decide(self._event())
        raise AssertionError(f"no end: {self.lane}")

    def decide(self, event: LaneEvent) -> None:
        inside = {carriage.entry for carriage in self.lane.train.carriages} if self.lane.train else set()
        inside |= {result.entry for result in event.results} if isinstance(event, Composed) else set()
        decision = lanes.decide(self.lane, event, {name: self.entries[name] for name in sorted(inside)})
        self.lane = Lane.model_validate_json(decision.lane.model_dump_json())  # as after a kill: what is stored is all
        for step in decision.moves:
            changes = {"state": step.to, "error": step.error, "error_class": step.error_class}
            self.entries[step.entry] = self.entries[step.entry].model_copy(update=changes)
            if step.to is EntryState.LANDED:
                self.landed.append(step.entry)
        self.stopped += [event for event in decision.emits if isinstance(event, LaneStopped)]

    def _event(self) -> LaneEvent:
        train = self.lane.train
        if train is None:
            return self._composed(self.states(EntryState.QUEUED)[: self.lane.window])
        inside = [self.entries[carriage.entry] for carriage in train.carriages]
        if train.state is TrainState.COMPOSED:
            return self._checked(inside)
        if train.state is TrainState.CHECKED:
            return Confirmed()
        return HeadRead(ref=self.lane.ref, head=train.tip, contains=True)

    def _composed(self, names: Sequence[str]) -> Composed:
        base = f"{len(self.landed):040x}"
        commits = [f"{len(self.landed) + place:040x}" for place in range(1, len(names) + 1)]
        results = tuple(
            ComposeResult(
                entry=name,
                outcome=Outcome.COMPOSED,
                carriage=Carriage(entry=name, commit=oid, tree=oid, rung=self.rungs.get(name, "line")),
            )
            for name, oid in zip(names, commits, strict=True)
        )
        return Composed(base=base, old=base, results=results)

    def _checked(self, inside: Sequence[Entry]) -> Checked:
        assert self.lane.train is not None
        probe = probes.due(self.lane.train, inside)
        assert probe is not None
        if not probe.checks:
            return Checked(outcome="green", length=probe.length, verdict=probes.NO_CHECKS)
        again = bool(self.lane.train.search.suspects)
        self.reruns += again
        self.runs += not again
        self.asked.append((probe.length, tuple(check.command for check in probe.checks)))
        tree = [*self.landed, *(entry.id for entry in inside[: probe.length])]
        failed = self.red(tree, [check.command for check in probe.checks])
        if not failed and not again and self.flake():
            failed = probe.checks[-1].command
        if not failed:
            return Checked(outcome="green", length=probe.length, verdict="checks passed")
        name = next(check.name for check in probe.checks if check.command == failed)
        evidence = Evidence(reason=f"the check {name!r} exited 1", check=name, command=failed, exit_code=1, log="why\n")
        return Checked(outcome="red", length=probe.length, evidence=evidence)


def red_with(*sets: set[str]) -> Callable[[Sequence[str], Sequence[str]], str]:
    """Red for whoever holds one of these sets whole."""
    return lambda tree, commands: commands[0] if any(one <= {*tree} for one in sets) else ""


@pytest.mark.parametrize("bad", range(1, 33))
def test_one_bad_of_32_is_found_in_12_runs(bad: int) -> None:
    played = Played.of([[TESTS]] * 32, red_with({f"e{bad}"})).play()
    assert played.states(EntryState.REWORK) == [f"e{bad}"] and len(played.landed) == 31
    assert played.runs <= 12, played.asked
    assert played.entries[f"e{bad}"].error == "the check 'tests' exited 1"


@settings(max_examples=300)
@given(
    size=st.integers(1, 40),
    bad=st.lists(st.sets(st.integers(1, 40), min_size=1, max_size=3), max_size=5),
    p=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_nobody_else_goes_back_however_flaky_first_runs_are(
    size: int, bad: list[set[int]], p: float, seed: int
) -> None:
    """Entry by entry, whoever completes a set that is red together is sent back, and nobody besides."""
    sets = [{f"e{number}" for number in one} for one in bad]
    dice = random.Random(seed)
    played = Played.of([[TESTS]] * size, red_with(*sets))
    played.flake = lambda: dice.random() < p
    played.play()
    fine: list[str] = []
    for name in played.entries:
        if not any(one <= {*fine, name} for one in sets):
            fine.append(name)
    assert played.landed == fine
    assert played.states(EntryState.REWORK) == [name for name in played.entries if name not in fine]
    assert played.stopped == []


def test_two_checks_that_flake_in_turn_blame_nobody() -> None:
    failing = iter(["make test", "make own", ""])
    played = Played.of([[TESTS, OWN]], lambda tree, commands: next(failing)).play()
    assert played.landed == ["e1"] and (played.runs, played.reruns) == (1, 2)


def test_a_red_base_blames_nobody_and_is_told_once_to_each() -> None:
    played = Played.of([[TESTS]] * 3, lambda tree, commands: "make test").play()
    assert played.lane.state is LaneState.FROZEN and played.lane.train is None
    assert played.states(EntryState.QUEUED) == ["e1", "e2", "e3"]
    assert (played.runs, played.reruns) == (2, 2) and played.asked[-1] == (0, ("make test",))
    assert [event.ticket for event in played.stopped] == ["octo/app#1", "octo/app#2", "octo/app#3"]
    assert "refs/heads/main is red" in played.lane.why and "'tests' exited 1 (why)" in played.lane.why
    late = played.entries["e3"].model_copy(update={"id": "late", "ticket": "octo/app#9", "error": ""})
    played.entries["late"] = late
    played.decide(played._composed(["e1", "e2", "e3", "late"]))
    assert [event.ticket for event in played.stopped[3:]] == ["octo/app#9"]
    assert played.lane.state is LaneState.FROZEN and played.runs == 2
    played.red = lambda tree, commands: ""
    played.decide(played._composed(["e1", "e2", "e3"]).model_copy(update={"look_again": True}))
    played.play()
    assert played.landed == ["e1", "e2", "e3", "late"]


def test_a_base_that_is_red_only_once_is_not_red() -> None:
    seen: list[int] = []

    def red(tree: Sequence[str], commands: Sequence[str]) -> str:
        seen.append(len(tree))
        return "make test" if "e2" in tree or (not tree and seen.count(0) == 1) else ""

    played = Played.of([[TESTS]] * 2, red).play()
    assert played.landed == ["e1"] and played.states(EntryState.REWORK) == ["e2"] and played.stopped == []


def test_a_tasks_own_check_is_never_asked_of_the_base() -> None:
    played = Played.of([[OWN]], lambda tree, commands: "make own").play()
    assert played.states(EntryState.REWORK) == ["e1"] and [length for length, _ in played.asked] == [1, 1]


def test_the_base_is_asked_anew_for_another_check() -> None:
    """All of them fail the tests; half of them, before the tests run, something that the base fails as well."""
    lint = CheckCommand(name="lint", command="make lint", standing=True)

    def red(tree: Sequence[str], commands: Sequence[str]) -> str:
        if "make lint" in commands and "e2" not in tree:
            return "make lint"
        return "make test" if "e2" in tree and "make test" in commands else ""

    played = Played.of([[lint, TESTS]] * 2, red).play()
    assert played.lane.state is LaneState.FROZEN and "lint" in played.lane.why
    assert played.states(EntryState.REWORK) == [] and played.asked[-1] == (0, ("make lint",))


def test_a_prefix_is_asked_its_own_checks_alone() -> None:
    """The fifth brings a check that fails because of the second: those before it never promised to pass that."""
    played = Played.of(
        [[TESTS]] * 4 + [[TESTS, OWN]], lambda tree, commands: "make own" if "make own" in commands else ""
    ).play()
    assert played.landed == ["e1", "e2", "e3", "e4"] and played.states(EntryState.REWORK) == ["e5"]
    assert all("make own" not in commands for length, commands in played.asked if length < 5)


@pytest.mark.parametrize("first", [[], [TESTS]])
def test_one_command_of_two_entries_is_one_check(first: list[CheckCommand]) -> None:
    """The first's name and time stand, so a longer prefix asks for the same; only a standing one takes the place."""
    mine = TESTS.model_copy(update={"name": "mine", "timeout_seconds": 5, "standing": False})
    played = Played.of([first, [mine], [TESTS]], red_with())
    entries = list(played.entries.values())
    assert probes.checks_of(entries[:2]) == (TESTS if first else mine,)
    assert probes.checks_of(entries) == (TESTS,)


@pytest.mark.parametrize("rung", ["safe", "union", "driver", "unheard-of"])
@pytest.mark.parametrize("place", [1, 2, 3])
def test_a_higher_rung_lands_only_behind_a_green_check(rung: str, place: int) -> None:
    name = f"e{place}"
    played = Played.of([[]] * 3, red_with())
    played.rungs = {name: rung}
    played.play()
    assert played.states(EntryState.REWORK) == [name] and len(played.landed) == 2 and played.runs == 0
    assert repr(rung) in played.entries[name].error and "check" in played.entries[name].error
    assert played.entries[name].error_class is ErrorClass.CONFLICT
    checked = Played.of([[TESTS]] * 3, red_with())
    checked.rungs = {name: rung}
    assert len(checked.play().landed) == 3 and checked.runs == 1


def test_a_prefix_without_a_check_does_not_lend_itself_the_whole_trains() -> None:
    """The second brings the only check, and is sent back by it: for the first nothing has been checked then."""
    played = Played.of([[], [OWN]], red_with({"e2"}))
    played.rungs = {"e1": "safe"}
    played.play()
    assert played.landed == [] and played.states(EntryState.REWORK) == ["e1", "e2"]


@pytest.mark.parametrize("rung", ["line", "merge-tree", "rebase"])
def test_what_is_as_good_as_a_line_merge_needs_none(rung: str) -> None:
    played = Played.of([[]], red_with())
    played.rungs = {"e1": rung}
    assert played.play().landed == ["e1"]
