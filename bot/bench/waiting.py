"""A simulated day of a merge queue: changes arrive, a policy asks for check runs on so many CI slots, time passes.

Minutes throughout. A check run is of a set of changes on the branch as it is: red if one of them is bad, and now and
then although none is (a flake); it is never green with a bad one. What lands must have been checked so, to the change:
on a branch that held nothing else, by a green run.
"""

import heapq
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

BAD = 0.10
FLAKY = 0.05
CHECK_MINUTES = 10.0
"""Median of the lognormal duration."""
SIGMA = 0.35
"""Of its logarithm: one run in twenty takes 18 minutes or more."""


@dataclass(frozen=True)
class Change:
    """One that waits to be landed."""

    number: int
    at: float
    bad: bool


@dataclass(eq=False)
class Run:
    """A check run that was asked for; `green` is None until it has ended. It waits for a slot until it has `began`."""

    changes: tuple[Change, ...]
    base: frozenset[Change]
    """What was on the branch."""
    green: bool | None = None
    began: float | None = None
    cancelled: bool = False


class Policy(Protocol):
    """Looks at the world after everything that happens, and starts runs, lands and ejects."""

    def turn(self, world: "World") -> None: ...


def arrivals(rng: random.Random, count: int, per_hour: float | None) -> list[Change]:
    """Changes as a Poisson stream, or all at once."""
    at, made = 0.0, []
    for number in range(count):
        at += rng.expovariate(per_hour / 60) if per_hour else 0.0
        made.append(Change(number, at, rng.random() < BAD))
    return made


@dataclass
class World:
    """Time, the CI and what became of each change. `waiting` is in order of arrival."""

    changes: Sequence[Change]
    slots: int
    rng: random.Random
    now: float = 0.0
    waiting: list[Change] = field(default_factory=list)
    landed: dict[Change, float] = field(default_factory=dict)
    ejected: list[Change] = field(default_factory=list)
    runs: int = 0
    """Check runs that were given a slot, those cancelled later too."""
    minutes: float = 0.0
    """For how long slots were taken."""
    _events: list[tuple[float, int, Run | None]] = field(default_factory=list)
    _queued: list[tuple[int, int, Run]] = field(default_factory=list)
    _count: int = 0
    _busy: int = 0

    def check(self, changes: Sequence[Change], rank: int = 0) -> Run:
        """Ask for a run of the branch with these changes; lower ranks are given a slot first."""
        run = Run(tuple(changes), frozenset(self.landed))
        heapq.heappush(self._queued, (rank, self._next(), run))
        self._fill()
        return run

    def cancel(self, run: Run | None) -> None:
        """Its slot is free at once."""
        if run is None or run.green is not None or run.cancelled:
            return
        run.cancelled = True
        if run.began is not None:
            self._free(run)
            self._fill()

    def wake(self, at: float) -> None:
        """Call the policy again at that minute."""
        heapq.heappush(self._events, (at, self._next(), None))

    def land(self, run: Run) -> None:
        """All that it checked. Raises AssertionError if that is not what the branch would hold then."""
        assert run.green and self.landed.keys() <= {*run.base, *run.changes}
        for change in run.changes:
            if change not in self.landed:
                self.landed[change] = self.now
                self.waiting.remove(change)

    def eject(self, change: Change) -> None:
        """Back to its author: it does not come again."""
        self.ejected.append(change)
        self.waiting.remove(change)

    def play(self, policy: Policy) -> "World":
        """Until every change has landed or was ejected. Raises AssertionError if the policy leaves some waiting."""
        ahead = list(reversed(self.changes))
        while ahead or self.waiting:
            assert ahead or self._events, f"{len(self.waiting)} changes wait for nothing"
            if ahead and (not self._events or ahead[-1].at <= self._events[0][0]):
                self.now = ahead[-1].at
                while ahead and ahead[-1].at == self.now:
                    self.waiting.append(ahead.pop())
            elif not self._finished(*heapq.heappop(self._events)):
                continue
            policy.turn(self)
        return self

    def _finished(self, at: float, _: int, run: Run | None) -> bool:
        """Move to an event; False for one of a run that was cancelled."""
        if run is not None and run.cancelled:
            return False
        self.now = at
        if run is not None:
            run.green = not any(change.bad for change in run.changes) and self.rng.random() >= FLAKY
            self._free(run)
            self._fill()
        return True

    def _fill(self) -> None:
        while self._busy < self.slots and self._queued:
            run = heapq.heappop(self._queued)[2]
            if not run.cancelled:
                run.began, self._busy, self.runs = self.now, self._busy + 1, self.runs + 1
                minutes = self.rng.lognormvariate(math.log(CHECK_MINUTES), SIGMA)
                heapq.heappush(self._events, (self.now + minutes, self._next(), run))

    def _free(self, run: Run) -> None:
        assert run.began is not None
        self._busy -= 1
        self.minutes += self.now - run.began

    def _next(self) -> int:
        self._count += 1
        return self._count
