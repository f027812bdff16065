"""What GitHub lets one installation do now: pauses that it asks for, one writer, and a budget for what makes content.

One for each installation and one for the App itself, in memory, on the wall clock. A GitHub whose answers carry no
X-RateLimit headers (an Enterprise Server, as it is installed) has no limits, and no budget is kept there.
"""

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from enum import IntEnum
from itertools import count

from bot.errors import Away
from bot.ports import Clock

SECOND = timedelta(seconds=1)
BUDGET = ((61, 80), (3601, 500))
"""GitHub's limits for requests that create content, as (seconds, requests); a second is added for the way there."""
BURST = 60
"""Writes that may go at once; after that one a second, as GitHub asks of whoever writes much."""
PATIENCE = 2.0
"""Seconds that a write waits in the turn; whatever must wait longer makes room and comes again."""
COME_AGAIN = 60.0
DOWN_AFTER = 3
PROBE_SECONDS = 60.0
"""While GitHub does not answer (so many calls one after the other), one call in this time looks whether it does."""
FIRST_PAUSE, LAST_PAUSE = 60.0, 900.0
LONGEST = 3700.0
"""Seconds; no pause is longer (limits are counted anew each hour), so what is seems to come from a clock set back."""
_SLOW_DOWN = re.compile(r"secondary rate|abuse|temporarily blocked from content", re.IGNORECASE)


class Importance(IntEnum):
    """Who goes first. Each step is worth half a minute of waiting, so nothing starves."""

    ACKNOWLEDGE = 0
    LAND = 1
    COSMETIC = 2


_STEP = timedelta(seconds=30)
_SHARE = {Importance.ACKNOWLEDGE: 1.0, Importance.LAND: 0.9, Importance.COSMETIC: 0.75}
"""How much of the budget each may use up: a person is answered even when check runs have had their part."""


class Limits:
    """See the module."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._limited = False
        self._until = self._spaced = clock.wall()
        self._why = ""
        self._failures = self._slowed = 0
        self._made = deque[datetime](maxlen=max(most for _, most in BUDGET))
        self._waiting: list[tuple[datetime, int]] = []
        self._order = count()
        self._busy = False
        self._freed = asyncio.Condition()

    def admit(self) -> None:
        """Before each call. Raises Away while GitHub wants none, or does not answer and has been asked a moment ago."""
        now = self._clock.wall()
        left = (self._until - now).total_seconds()
        if 0 < left <= LONGEST:
            raise Away(self._why, left)
        if self._failures >= DOWN_AFTER:
            self._pause(PROBE_SECONDS, self._why)  # this call is the one that looks

    def heard(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """After each answer. Raises Away if it was none, or if GitHub asks to wait."""
        now = self._clock.wall()
        self._limited = self._limited or "X-RateLimit-Limit" in headers
        used_up = headers.get("X-RateLimit-Remaining") == "0" and headers.get("X-RateLimit-Resource", "core") == "core"
        asked, reset = headers.get("Retry-After", ""), headers.get("X-RateLimit-Reset", "")
        seconds = float(asked) if asked.isdigit() else None
        if seconds is None and used_up and reset.isdigit():
            seconds = max(int(reset) - now.timestamp(), 1.0)
        text = body[:1000].decode("utf-8", "replace")
        slow_down = status == 403 and (seconds is not None or _SLOW_DOWN.search(text))
        if status >= 500:
            self.failed(f"GitHub answered {status}", seconds)
            raise Away(self._why, seconds)
        if status == 429 or slow_down:
            self._slowed += 1
            seconds = seconds or min(FIRST_PAUSE * 2 ** (self._slowed - 1), LAST_PAUSE)
            self._pause(seconds, f"GitHub answered {status} and asks to wait {seconds:.0f} s")
            raise Away(self._why, seconds)
        if self._failures >= DOWN_AFTER:
            self._until = now
        self._failures = 0
        if now >= self._until:
            self._slowed = 0
        if used_up and seconds is not None:
            self._pause(seconds, "GitHub's hourly limit is used up")

    def failed(self, why: str, seconds: float | None = None) -> None:
        """A call that had no answer of GitHub's own."""
        self._failures += 1
        self._why = why
        if seconds is not None or self._failures >= DOWN_AFTER:
            self._pause(max(seconds or 0.0, PROBE_SECONDS if self._failures >= DOWN_AFTER else 0.0), why)

    def _pause(self, seconds: float, why: str) -> None:
        self._until, self._why = self._clock.wall() + seconds * SECOND, why

    def room(self, importance: Importance, *, creates: bool) -> float:
        """Seconds until there is room for such a write. Raises Away if that is longer than a turn may last."""
        now, free = self._clock.wall(), [0.0]
        if self._limited and importance is not Importance.ACKNOWLEDGE:
            free.append((self._spaced - now).total_seconds() - BURST)
        if self._limited and creates:
            for seconds, most in BUDGET:
                if len(self._made) >= (share := int(most * _SHARE[importance])):
                    free.append(min(seconds - (now - self._made[-share]).total_seconds(), seconds))
        if max(free) > PATIENCE:
            raise Away("the budget for writes on GitHub is used up for now", min(max(free), COME_AGAIN))
        return max(free)

    @contextlib.asynccontextmanager
    async def turn(self, importance: Importance, *, creates: bool) -> AsyncIterator[None]:
        """The right to make one write: one at a time, the most important first. Raises Away."""
        mine = (self._clock.wall() + importance * _STEP, next(self._order))
        self._waiting.append(mine)
        async with self._freed:
            try:
                await self._freed.wait_for(lambda: not self._busy and mine == min(self._waiting))
                self._busy = True
            finally:
                self._waiting.remove(mine)
                self._freed.notify_all()
        try:
            if wait := self.room(importance, creates=creates):
                await self._clock.sleep(wait)
            try:
                yield
            finally:  # counted when it is over, whatever came of it: GitHub counts when it arrives there
                now = self._clock.wall()
                self._spaced = max(self._spaced, now) + SECOND
                if creates:
                    self._made.append(now)
        finally:
            self._busy = False
            async with self._freed:
                self._freed.notify_all()
