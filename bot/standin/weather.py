"""What goes wrong on the stand-in, and how much content the App has made: plain values that its state holds."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

CONTENT = re.compile(r"/(comments|check-runs|pulls|issues|reviews|git/(blobs|trees|commits|refs))$")
BUDGET = ((60, 80), (3600, 500))
KINDS = ("500", "502", "reset", "401", "403", "429", "404")
FRESH = timedelta(seconds=6)
MINUTE = timedelta(seconds=60)
"""How long all of a repository answers 404, and then"""
QUIET = timedelta(minutes=10)
"""not again for so long: two such minutes together would be an answer."""


@dataclass
class Weather:
    """What goes wrong, how often, and what has come in: each call of the App's, with the fault that it met."""

    dice: random.Random = field(default_factory=random.Random)
    share: float = 0.0
    kinds: tuple[str, ...] = KINDS
    limits: bool = False
    missing_until: datetime | None = None
    calls: list[dict[str, Any]] = field(default_factory=list)
    created: list[datetime] = field(default_factory=list)
    over: int = 0

    def over_budget(self, now: datetime) -> bool:
        """Count one request that creates content; whether it was one too many."""
        self.created.append(now)
        return any(sum(at > now - timedelta(seconds=s) for at in self.created) > most for s, most in BUDGET)
