"""The rungs above the line merge, cheapest first: changes that only touch, union files, the operator's merge driver.

None of them is sure to mean what both sides meant, so what they made lands only behind a green check. Each says which
rung it was, in which version, and which contents went in and came out.
"""

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from bot.merge.lines import Conflict, Part
from bot.merge.objects import Objects
from bot.merge.trees import Blob
from bot.rules import globs
from schemas.lane import Resolution, Rungs

DRIVER_SECONDS: Final = 60
_ENV: Final = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}


class Ladder(NamedTuple):
    """How far a merge may climb. `driver` is the operator's command, with git's %O, %A, %B and %P; '' for none."""

    rungs: Rungs
    driver: str = ""


LINE: Final = Ladder(Rungs())


class Sides(NamedTuple):
    """A path that lines alone do not settle: its three files and, if they are text, the parts of the line merge."""

    was: Blob | None
    now: Blob | None
    theirs: Blob | None
    parts: tuple[Part, ...] = ()
    mode: int = 0


def climb(objects: Objects, path: str, sides: Sides, ladder: Ladder) -> Resolution | None:
    """The first rung that settles the path; None if none may or can."""
    if ladder.rungs.upto == "line" or not sides.parts:
        return None
    rungs: list[tuple[str, str, Callable[[], bytes | None]]] = [("safe", "1", lambda: _joined(sides.parts))]
    if globs.matches(ladder.rungs.union, path):
        rungs.append(("union", "1", lambda: _union(sides.parts)))
    if ladder.rungs.upto == "driver" and ladder.driver:
        rungs.append(("driver", ladder.driver, lambda: _driven(objects, path, sides, ladder.driver)))
    for rung, version, settle in rungs:
        data = settle()
        if data is not None:
            was, now, theirs = (blob.oid if blob else None for blob in sides[:3])
            result = objects.add_blob(data, now or "")
            return Resolution(
                path=path, rung=rung, version=version, base=was, ours=now, theirs=theirs, result=result
            )  # fmt: skip
    return None


def _joined(parts: tuple[Part, ...]) -> bytes | None:
    """Both sides' changes one behind the other, if none overlap."""
    out: list[bytes] = []
    for part in parts:
        lines = [part] if isinstance(part, bytes) else part.joined
        if lines is None or (isinstance(part, Conflict) and not _complete(lines)):
            return None
        out += lines
    return b"".join(out)


def _union(parts: tuple[Part, ...]) -> bytes | None:
    """Ours, then theirs, as git's union does."""
    out: list[bytes] = []
    for part in parts:
        if isinstance(part, bytes):
            out.append(part)
        elif not _complete(part.ours):
            return None
        else:
            out += [*part.ours, *part.theirs]
    return b"".join(out)


def _complete(lines: list[bytes]) -> bool:
    """Whether no line but the last lacks its line feed: two lines must not become one."""
    return all(line.endswith(b"\n") for line in lines[:-1])


def _driven(objects: Objects, path: str, sides: Sides, command: str) -> bytes | None:
    """What the operator's command leaves in %A when it exits 0, within a minute and a sane size."""
    contents = [objects.blob(blob.oid) for blob in sides[:3] if blob is not None]
    with tempfile.TemporaryDirectory(prefix="interlock-driver-") as directory:
        places = [Path(directory, name) for name in ("base", "ours", "theirs")]
        for place, data in zip(places, contents, strict=True):
            place.write_bytes(data)
        names = dict(zip(("%O", "%A", "%B"), map(str, places), strict=True)) | {"%P": path}
        words = [names.get(word, word) for word in command.split()]
        try:
            done = subprocess.run(
                words, cwd=directory, env=_ENV, stdin=subprocess.DEVNULL, capture_output=True,
                timeout=DRIVER_SECONDS, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return None
        merged = places[1]
        if done.returncode or merged.is_symlink() or merged.stat().st_size > 4 * (1 + sum(map(len, contents))):
            return None
        return merged.read_bytes()
