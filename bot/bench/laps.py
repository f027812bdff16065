"""Stopwatches, and what rounds of laps say together: medians, and ratios within each round with their spread."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from types import TracebackType


@dataclass(frozen=True)
class Lap:
    """One contestant in one round. `wall` and `cpu` are microseconds a change; `p50`, `p99` microseconds a call."""

    wall: float
    cpu: float
    p50: float
    p99: float


@dataclass
class Watch:
    """Seconds of each time that it was entered, and CPU seconds of this process (all threads) meanwhile."""

    walls: list[float] = field(default_factory=list)
    cpu: float = 0.0

    def __enter__(self) -> "Watch":
        self._cpu, self._began = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.walls.append(time.perf_counter() - self._began)
        self.cpu += time.process_time() - self._cpu

    def beside(self, other: "Watch") -> "Watch":
        """Both as one: what was measured in turns is one call."""
        return Watch([one + two for one, two in zip(self.walls, other.walls, strict=True)], self.cpu + other.cpu)

    def lap(self, changes: int) -> Lap:
        """What it comes to for each of so many changes."""
        walls = self.walls
        return Lap(
            sum(walls) / changes * 1e6, self.cpu / changes * 1e6, share(walls, 0.5) * 1e6, share(walls, 0.99) * 1e6
        )


def share(values: Sequence[float], part: float) -> float:
    """The smallest value that so large a part of them does not pass; 0.0 of none."""
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)] if values else 0.0


def row(name: str, laps: Sequence[Lap]) -> dict[str, object]:
    """Medians over the rounds."""
    wall = median(lap.wall for lap in laps)
    return {
        "name": name, "per_second": round(1e6 / wall), "wall_us": round(wall, 1),
        "cpu_us": round(median(lap.cpu for lap in laps), 1), "p50_us": round(median(lap.p50 for lap in laps), 1),
        "p99_us": round(median(lap.p99 for lap in laps), 1),
    }  # fmt: skip


def ratio(slower: Sequence[Lap], faster: Sequence[Lap]) -> dict[str, float]:
    """How many times longer one takes for a change than the other, round by round."""
    found = [one.wall / other.wall for one, other in zip(slower, faster, strict=True)]
    return {"ratio": round(median(found), 2), "lowest": round(min(found), 2), "highest": round(max(found), 2)}
