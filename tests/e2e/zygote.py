"""A process that has imported the bot and forks a server for each line on stdin: a restart costs no import.

A line is JSON: {"env", "walk": file of points already died at or null, "share": [k, n], "only": points, "seen": file,
"hours": clock offset, "pace": [began, factor] of a faster clock, "broken": names of recovery checks that are off}. The
answer is one JSON line with the child's pid. A child writes where it listens, or why it does not, to `ready`.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zlib import crc32

from bot import logs, loop
from bot.app import Ports, running
from bot.cli.configuration import read_model, read_settings
from bot.clock import SystemClock
from bot.github.forge import Forge
from bot.merge import ci, commits, landing
from bot.rules import landing as rules
from bot.rules.sanitise import redacted


class LaterClock(SystemClock):
    """The machine's clock, some hours ahead."""

    def __init__(self, hours: float) -> None:
        self._ahead = timedelta(hours=hours)

    def wall(self) -> datetime:
        return super().wall() + self._ahead


class PacedClock(SystemClock):
    """A wall clock that runs `pace` times as fast as the machine's since `began` (seconds), as the stand-in's does."""

    def __init__(self, began: float, pace: float) -> None:
        self._began, self._pace = datetime.fromtimestamp(began, UTC), pace

    def wall(self) -> datetime:
        return self._began + (super().wall() - self._began) * self._pace

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / self._pace)


class Walk:
    """Dies by SIGKILL at each fault point of its share once, over all starts that share `died_at`."""

    def __init__(self, died_at: Path | None, share: tuple[int, int], seen: Path | None, only: list[str] | None) -> None:
        self._died_at, self._share, self._seen, self._only = died_at, share, seen, only
        self._done = set(died_at.read_text().split("\n")) if died_at and died_at.exists() else set()
        self._noted: set[str] = set()

    def reach(self, point: str) -> None:
        if self._seen is not None and point not in self._noted:
            self._noted.add(point)
            _append(self._seen, point)
        mine = crc32(point.encode()) % self._share[1] == self._share[0] and (not self._only or point in self._only)
        if self._died_at is not None and mine and point not in self._done:
            _append(self._died_at, point)
            os.kill(os.getpid(), signal.SIGKILL)


def _append(path: Path, line: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(handle, f"{line}\n".encode())
    os.close(handle)


async def _never_found(*_: Any) -> None:
    return None


def _break(broken: list[str]) -> None:
    """Switch a recovery check off, to see that a test would notice."""
    if "lookup" in broken:
        Forge._find_comment = _never_found  # type: ignore[method-assign,assignment]
    if "trailers" in broken:
        commits.Landed.upto = lambda *_: {}  # type: ignore[method-assign]


def child(order: dict[str, Any]) -> None:
    """Never returns."""
    os.environ.clear()
    os.environ.update(order["env"])
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 2)
    faulthandler.enable()
    logs.start(redacted)
    _break(order.get("broken", []))
    ci.SECONDS = order.get("ci_seconds", ci.SECONDS)
    landing.LOOK_SECONDS = order.get("queue_seconds", landing.LOOK_SECONDS)
    rules.CLOSED_SECONDS = order.get("closed_seconds", rules.CLOSED_SECONDS)
    died_at = Path(order["walk"]) if order.get("walk") else None
    seen = Path(order["seen"]) if order.get("seen") else None
    k, n = order.get("share", (0, 1))
    clock: SystemClock = LaterClock(order.get("hours", 0))
    if "pace" in order:
        clock = PacedClock(*order["pace"])
        loop.IDLE_SECONDS = loop.POSTPONED_SECONDS = 1.0  # these are of the machine's clock
    ports = Ports(clock=clock, faults=Walk(died_at, (k, n), seen, order.get("only")))

    async def serve() -> None:
        settings = read_settings()
        provider = read_model()
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        async with running(settings, ports, provider) as addresses:
            ready = Path(order["ready"])
            ready.with_suffix(".new").write_text(f"{addresses.public} {addresses.admin}")
            ready.with_suffix(".new").rename(ready)
            await stop.wait()

    try:
        asyncio.run(serve())
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os.setsid()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            child(order)
        print(json.dumps({"pid": pid}), flush=True)


if __name__ == "__main__":
    main()
