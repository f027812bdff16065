"""A process that has imported `interlock merge` and forks one for each line on stdin: a restart costs no import.

A line is JSON: {"args": the command's, "out" and "err": files for what it prints, "die_at": a fault point or null, "wait_at": a
fault point and a FIFO until whose end it waits there, or null, "seen": a file for the fault points that were reached
or null, "broken": names of recovery checks that are off}. The answer is the child's pid.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

from bot.cli import merge as command
from bot.cli.main import main as interlock
from bot.merge import commits, landing
from bot.store.store import open_store


class Watch(command.Stopwatch):
    """The command's own faults object, which also notes the points that it is told of, waits or dies at one."""

    def __init__(self, order: dict[str, Any]) -> None:
        super().__init__()
        self._die_at, self._seen, self._wait_at = order["die_at"], order["seen"], order["wait_at"]

    def reach(self, point: str) -> None:
        if self._seen is not None:
            with Path(self._seen).open("a") as notes:
                notes.write(f"{point}\n")
        if point == self._die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if self._wait_at and point == self._wait_at[0]:
            gate, self._wait_at = Path(self._wait_at[1]), None
            gate.read_bytes()
        super().reach(point)


def child(order: dict[str, Any]) -> None:
    """The command as its users run it, except that store and lander are given this faults object. Never returns."""
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
    watch = Watch(order)
    command.Stopwatch = lambda: watch  # type: ignore[misc,assignment]
    command.open_store = partial(open_store, faults=watch)  # type: ignore[attr-defined]
    if "trailers" in order["broken"]:
        commits.Landed.upto = lambda *_: {}  # type: ignore[method-assign]
    if "ancestors" in order["broken"]:
        landing._contains = lambda remote, head, commit: head == commit
    code = 0
    try:
        interlock(["merge", *order["args"]])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os.setsid()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            child(json.loads(line))
        os.write(1, f"{pid}\n".encode())


if __name__ == "__main__":
    main()
