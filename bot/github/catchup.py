"""Deliveries that did not reach us. GitHub never repeats one by itself and lists them for three days.

At start and every few minutes the listing is read back to where the last look began; what never arrived is asked for
again, and what fails again is read from the API. Polling reads everything from there. After a longer silence, and once a
day, what stands on GitHub is read as well (bot.github.standing).
"""

import json
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, NoReturn

from bot.errors import InterlockError, Rejected, Transient
from bot.github.app import GitHubApp
from bot.github.standing import Records, Standing
from bot.ports import Clock

log = logging.getLogger("interlock.catchup")

SECONDS: float = 300.0
"""Between two looks."""
POLL_SECONDS: tuple[float, float] = (2.0, 30.0)
"""Between two looks when polling: at first, and at most, half as long again each time that nothing was there."""
KEPT: Final = timedelta(days=3)
"""How long GitHub lists a delivery."""
OVERLAP: Final = timedelta(minutes=15)
"""How far behind the last look the next one begins: an attempt is listed when it has ended, and clocks differ."""
STANDING: Final = timedelta(days=1)
PAGES: Final = 100
PER_PAGE = 100
_LOOKED, _STOOD = "catch-up: deliveries", "catch-up: standing"


class CatchUp(NamedTuple):
    """`concerns` tells whether a delivery of an event and action may mean anything; `arrived` is called for new ones."""

    app: GitHubApp
    records: Records
    clock: Clock
    concerns: Callable[[str, str], bool]
    arrived: Callable[[], None]
    label: str
    poll: bool = False

    async def run(self) -> NoReturn:
        """Look now and again until cancelled."""
        first, last = POLL_SECONDS if self.poll else (SECONDS, SECONDS)
        pause = first
        while True:
            wait = 0.0
            try:
                pause = first if await self.look() else min(pause * 1.5, last)
            except InterlockError as error:
                log.warning("catchup.failed", extra={"error": str(error)})
                wait = (error.retry_after if isinstance(error, Transient) else None) or min(pause * 2, SECONDS)
            await self.clock.sleep(max(pause, wait))

    async def look(self) -> int:
        """Returns how many deliveries were missing. Raises Transient or Rejected; the next look begins where this did."""
        now = self.clock.wall()
        looked, stood = await self._when(_LOOKED), await self._when(_STOOD)
        since = max(looked - OVERLAP, now - KEPT) if looked else now - KEPT
        attempts, whole = await self._attempts(since)
        missing = await self._missing(attempts, first=looked is None)
        for attempt in missing:
            try:
                if self.poll or attempt["redelivery"]:  # one that fails again would fail each time
                    await self._take(attempt)
                else:
                    await self.app.as_app("POST", f"/app/hook/deliveries/{attempt['id']}/attempts")
            except Rejected as error:
                log.warning("delivery.lost", extra={"delivery": attempt["guid"], "error": str(error)})
        if looked and (not whole or now - looked > KEPT or now - (stood or looked) > STANDING):
            await Standing(self.app, self.records, self.clock, self.label).read(since=(stood or looked) - OVERLAP)
            self.arrived()
            stood = None
        if stood is None:
            await self.records.set_meta(_STOOD, now.isoformat())
        if looked is None or now - looked > OVERLAP / 15:
            await self.records.set_meta(_LOOKED, now.isoformat())
        if missing:
            log.info("deliveries.missing", extra={"count": len(missing)})
        return len(missing)

    async def _when(self, key: str) -> datetime | None:
        found = await self.records.meta(key)
        return datetime.fromisoformat(found) if found else None

    async def _attempts(self, since: datetime) -> tuple[list[dict[str, Any]], bool]:
        """Attempts at delivering since then, the newest first, and whether these are all."""
        path: str | None = f"/app/hook/deliveries?per_page={PER_PAGE}"
        listed: list[dict[str, Any]] = []
        for _ in range(PAGES):
            page, path = await self.app.as_app("GET", path or "")
            listed += (one for one in page if datetime.fromisoformat(one["delivered_at"]) >= since)
            if path is None or not page or datetime.fromisoformat(page[-1]["delivered_at"]) < since:
                return listed, True
        return listed, False

    async def _missing(self, attempts: Sequence[dict[str, Any]], *, first: bool) -> list[dict[str, Any]]:
        """The last attempt at each delivery that is not stored here, in the order in which they were first made."""
        newest = {one["guid"]: one for one in reversed(attempts) if self.concerns(one["event"], one["action"] or "")}
        if first:  # what another server, or a lost database, has taken is not ours to do again
            reached = {one["guid"] for one in attempts if one["status"] == "OK"}
            newest = {guid: one for guid, one in newest.items() if guid not in reached}
        known = await self.records.known_deliveries(list(newest))
        return [one for guid, one in newest.items() if guid not in known]

    async def _take(self, attempt: dict[str, Any]) -> None:
        found, _ = await self.app.as_app("GET", f"/app/hook/deliveries/{attempt['id']}")
        body = json.dumps(found["request"]["payload"]).encode()
        await self.records.keep_delivery(attempt["guid"], attempt["event"], body, self.clock.wall())
        self.arrived()
