"""Two queues with a database each that land on one ref of one repository, and what must hold whenever one lies dead.

The witness is git: which commits are on the ref, read by its command line and nothing of ours.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import pygit2

from bot.clock import SystemClock
from bot.errors import Misconfigured
from bot.store.store import open_store
from schemas.lane import Entry, EntryState, Lane

ROOT = Path(__file__).parents[2]
LANE: Final = "local:refs/heads/main"
SIDES: Final = ("left", "right")
LANDED, NOOP, REWORK, QUARANTINED = "landed", "noop", "rework", "quarantined"
OPEN: Final = (EntryState.QUEUED, EntryState.COMPOSED, EntryState.CHECKING, EntryState.LANDING)
LONGEST: Final = 60.0
"""Seconds after which a side that has not ended is taken to hang."""

Json = dict[str, Any]


# --- what both sides ask for --------------------------------------------------------------------------------------------
def lines(word: str, **changed: str) -> str:
    """A text of 120 lines; `changed` are other lines, by `_<number>`."""
    return "".join(f"{changed.get(f'_{number}', f'{word} {number}')}\n" for number in range(120))


def blob(text: str) -> str:
    return str(pygit2.hash(text.encode()))


@dataclass
class Wanted:
    """A side's requests, by id, and the end that each may come to."""

    requests: list[Json] = field(default_factory=list)
    ends: dict[str, set[str]] = field(default_factory=dict)

    def add(self, name: str, base: str, end: str, *patch: Json, **more: Any) -> None:
        self.requests.append({"version": 1, "id": name, "base": base, "title": f"Do {name}", "patch": patch, **more})
        self.ends[name] = set(end.split())

    def shuffle(self, dice: random.Random) -> None:
        """Any order, except that of two requests of which the second needs the first."""
        dice.shuffle(self.requests)
        place = {request["id"]: number for number, request in enumerate(self.requests)}
        for first, second in (("left-own1", "left-own2"), ("right-own1", "right-own2"), ("both-flip", "left-flop")):
            if second in place and place[first] > place[second]:
                one, two = place[first], place[second]
                self.requests[one], self.requests[two] = self.requests[two], self.requests[one]


def modify(path: str, old: str, new: str) -> Json:
    return {"op": "modify", "path": path, "before": blob(old), "content": new}


class Scene(NamedTuple):
    """A bare repository, what the ref is at first, both sides' requests and the files at the end (but the clash's)."""

    git_dir: Path
    begin: str
    wanted: dict[str, Wanted]
    files: dict[str, str]


def commit(repo: pygit2.Repository, files: dict[str, str], parents: list[str], ref: str | None) -> str:
    index = pygit2.Index()
    for path, text in files.items():
        index.add(pygit2.IndexEntry(path, repo.create_blob(text.encode()), pygit2.enums.FileMode.BLOB))
    who = pygit2.Signature("A", "a@example.org", 1_700_000_000, 0)
    return str(repo.create_commit(ref, who, who, "Begin\n", index.write_tree(repo), parents))


def scene(folder: Path, dice: random.Random, plain: int, there: int) -> Scene:
    """`plain` changes of each side to lines of common files, `there` requests that are on the ref from the start, and:

    clash    both sides change one line differently: one of them goes back
    twin     both sides make the same change under two names: one of them has nothing to do
    both     one request, given to both sides: one commit, and both have landed it
    flip     as both, and undone by `flop` behind it: landed a second time it would be a second commit
    own      the second of two conflicts with the first, of the same side
    bad      does not fit its base; `git` is not even a request
    """
    repo = pygit2.init_repository(str(folder / "repo.git"), bare=True, initial_head="main")
    common = [f"common/{number}.txt" for number in range(3)]
    old = {path: lines(path) for path in (*common, "clash.txt", "twin.txt", "both.txt", "flip.txt")}
    old |= {f"there/{number}.txt": lines("there", _7="before") for number in range(there)}
    old |= {f"{side}/{name}.txt": lines(f"{side} {name}") for side in SIDES for name in ("own", "gone", "move")}
    fork = commit(repo, old, [], None)
    begun = {path: lines("there", _7="after") if path.startswith("there/") else text for path, text in old.items()}
    begin = commit(repo, begun, [fork], "refs/heads/main")
    flipped = commit(repo, {**old, "flip.txt": lines("flipped")}, [fork], None)
    end, wanted = dict(begun), {side: Wanted() for side in SIDES}
    changed: dict[str, dict[str, str]] = {path: {} for path in common}
    for shift, (side, into) in enumerate(wanted.items()):
        for number in range(plain):
            path, line, text = common[number % 3], f"_{8 * (number // 3) + 4 * shift}", f"{side} {number}"
            changed[path][line] = text
            into.add(f"{side}-{number}", fork, LANDED, modify(path, old[path], lines(path, **{line: text})))
            end[f"{side}/new{number}.txt"] = f"{text}\n"
            made = {"op": "add", "path": f"{side}/new{number}.txt", "content": f"{text}\n"}
            into.add(f"{side}-new{number}", begin, LANDED, made)
        for path in (path for path in old if path.startswith("there/")):
            into.add(f"{side}-{Path(path).stem}-there", fork, NOOP, modify(path, old[path], begun[path]))
        clash = lines("clash.txt", _9=side)
        into.add(f"{side}-clash", fork, f"{LANDED} {REWORK}", modify("clash.txt", old["clash.txt"], clash))
        end["twin.txt"], end["both.txt"] = lines("twin.txt", _3="twin"), lines("both.txt", _3="both")
        into.add(f"{side}-twin", fork, f"{LANDED} {NOOP}", modify("twin.txt", old["twin.txt"], end["twin.txt"]))
        into.add("both-one", begin, LANDED, modify("both.txt", old["both.txt"], end["both.txt"]))
        into.add("both-flip", fork, LANDED, modify("flip.txt", old["flip.txt"], lines("flipped")))
        own = f"{side}/own.txt"
        end[own] = lines(f"{side} own", _5="first")
        into.add(f"{side}-own1", fork, LANDED, modify(own, old[own], end[own]))
        into.add(f"{side}-own2", fork, REWORK, modify(own, old[own], lines(f"{side} own", _5="second")))
        gone, move = f"{side}/gone.txt", f"{side}/move.txt"
        into.add(f"{side}-gone", fork, LANDED, {"op": "delete", "path": gone, "before": blob(end.pop(gone))})
        moved = {"op": "rename", "from": move, "path": f"{side}/moved.txt", "before": blob(old[move])}
        end[f"{side}/moved.txt"] = end.pop(move)
        into.add(f"{side}-moved", fork, LANDED, moved)
        into.add(f"{side}-bad", fork, QUARANTINED, modify(common[0], "something else", "new\n"))
    wanted["left"].add("left-flop", flipped, LANDED, modify("flip.txt", lines("flipped"), old["flip.txt"]))
    end |= {path: lines(path, **those) for path, those in changed.items()}
    del end["clash.txt"]
    for side, into in wanted.items():
        into.shuffle(dice)
        unreadable = {"version": 1, "id": f"{side}-git", "base": fork, "patch": [{"op": "delete", "path": ".git/x"}]}
        given = [*into.requests, unreadable]
        (folder / f"{side}.jsonl").write_text("".join(f"{json.dumps(request)}\n" for request in given))
    return Scene(folder / "repo.git", begin, wanted, end)


# --- the processes ------------------------------------------------------------------------------------------------------
class Zygote:
    """See duellist.py."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    @classmethod
    @contextlib.contextmanager
    def open(cls) -> Iterator[Zygote]:
        words = [sys.executable, "-m", "tests.merge.duellist"]
        pipe = subprocess.PIPE
        with subprocess.Popen(words, cwd=ROOT, stdin=pipe, stdout=pipe, text=True, start_new_session=True) as process:
            try:
                yield cls(process)
            finally:
                process.kill()

    def fork(self, order: Json) -> int:
        """A file that can be read from when the child has ended."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(order, default=str) + "\n")
        self._process.stdin.flush()
        pid = int(self._process.stdout.readline())
        try:
            return os.pidfd_open(pid)
        except ProcessLookupError:  # it has ended already
            reading, writing = os.pipe()
            os.close(writing)
            return reading


@dataclass
class Side:
    """One `interlock merge` over its lives. `handle` is its process while it may be alive."""

    name: str
    folder: Path
    wanted: Wanted
    handle: int = -1
    report: Json | None = None
    errors: str = ""
    lives: int = 0
    landed: dict[str, str] = field(default_factory=dict)
    known: bool = False

    @property
    def database(self) -> Path:
        return self.folder / f"queue.{self.name}"

    def printed(self, name: str) -> Path:
        return self.folder / f"{self.name}.{name}"


@dataclass
class Duel:
    """`broken` names the recovery checks that are off (see duellist.py)."""

    folder: Path
    zygote: Zygote
    scene: Scene
    check: str = ""
    broken: Sequence[str] = ()
    sides: dict[str, Side] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sides = {name: Side(name, self.folder, wanted) for name, wanted in self.scene.wanted.items()}

    def start(
        self,
        side: Side,
        die_at: str | None = None,
        *,
        seen: Path | None = None,
        wait_at: tuple[str, Path] | None = None,
    ) -> None:
        args: list[object] = [
            "--repo",
            self.scene.git_dir,
            "--target",
            "main",
            "--requests",
            self.folder / f"{side.name}.jsonl",
        ]
        args += ["--db", side.database, "--json", *(("--check", self.check) if self.check else ())]
        order = {"args": args, "die_at": die_at, "wait_at": wait_at, "seen": seen, "broken": self.broken}
        prints = {name: side.printed(name) for name in ("out", "err")}
        for place in prints.values():
            place.write_text("")  # it may be killed before it opens them
        side.handle = self.zygote.fork({**order, **prints})
        side.lives += 1

    def wait(self, *sides: Side, seconds: float = LONGEST) -> list[Side]:
        """Until one of them has ended, or for so long; those that have."""
        ended, _, _ = select.select([side.handle for side in sides], [], [], seconds)
        return [side for side in sides if side.handle in ended]

    def gone(self, side: Side) -> bool:
        """Wait for its end; whether it came to it by itself, with a report."""
        assert self.wait(side), f"{side.name} hangs"
        os.close(side.handle)
        side.handle, side.errors = -1, side.printed("err").read_text()
        with contextlib.suppress(ValueError):  # it died before it had a report, or while it wrote one
            side.report = json.loads(side.printed("out").read_text())
        return side.report is not None

    def killed(self, side: Side) -> bool:
        """kill -9; whether that was before its end."""
        with contextlib.suppress(OSError):  # it has ended already, or this is a pipe in its place
            signal.pidfd_send_signal(side.handle, signal.SIGKILL)
        ended = self.gone(side)
        assert side.errors == ""
        return not ended

    def run(self, side: Side, die_at: str | None = None) -> None:
        """To its end, or to its death at a fault point."""
        self.start(side, die_at)
        ended = self.gone(side)
        assert side.errors == ""
        assert ended == (die_at is None), f"{side.name} never came to {die_at}" if ended else f"{side.name} died"

    # --- what must hold ---------------------------------------------------------------------------------------------
    async def look(self, *dead: Side) -> dict[str, Counter[str]]:
        """Everything that must hold at any moment, for sides that do not run; how many entries are in which state."""
        stored = {side.name: await _stored(side) for side in dead}
        landed = self._landed()  # after the databases: what they say is on the ref must be there by now
        return {side.name: _stand(side, *stored[side.name], landed) for side in dead}

    def _landed(self) -> dict[str, str]:
        """Change request to commit along first parents, by git; one of each, in a line that only ever grows."""
        asked = ("--first-parent", "--reverse", "--no-renames", "--name-only", f"{self.scene.begin}..main")
        shown = "--format=%x01%H%x00%P%x00%(trailers:key=Change-Request,valueonly,separator=%x2C)%x00"
        paths = {
            request["id"]: {edit[key] for edit in request["patch"] for key in ("path", "from") if key in edit}
            for side in self.sides.values()
            for request in side.wanted.requests
        }
        found: dict[str, str] = {}
        head, history = self.scene.begin, []
        for part in _git(self.scene.git_dir, "log", shown, *asked).split("\x01")[1:]:
            oid, parents, change, names = part.split("\0")
            assert parents == head, "the history is not one line"
            assert change not in found, f"{change} landed twice"
            touched = set(names.split())
            assert touched and touched <= paths[change], f"{change} touched {touched}"
            found[change] = head = oid
            history.append(oid)
        assert history[: len(self.history)] == self.history, "what had landed is gone from the ref"
        self.history = history
        return found

    async def end(self) -> None:
        """Both sides came to their end: each request to its own, both databases and the ref say the same."""
        left, right = (self.sides[name] for name in SIDES)
        counts = await self.look(left, right)
        landed = self._landed()
        for side in (left, right):
            assert side.report is not None
            ends = _ends(side.report)
            assert ends.pop(f"{side.name}-git") == [QUARANTINED]
            assert ends.keys() == side.wanted.ends.keys()
            assert {
                name: end for name, end in ends.items() if len(end) > 1 or not side.wanted.ends[name] >= {*end}
            } == {}
            assert side.report["submitted"] == counts[side.name].total() + 1
            assert {row["id"]: row["commit"] for row in side.report["landed"]} == side.landed
            assert side.report["head"] in self.history
        assert left.landed | right.landed == landed
        assert left.landed.keys() & right.landed.keys() == {"both-one", "both-flip"}
        assert [name in landed for name in ("left-clash", "right-clash")].count(True) == 1
        assert [name in landed for name in ("left-twin", "right-twin")].count(True) == 1
        winner = "left" if "left-clash" in landed else "right"
        listed = _git(self.scene.git_dir, "ls-tree", "-r", "main").splitlines()
        tree = {path: words.split()[2] for words, path in (line.split("\t") for line in listed)}
        files = {**self.scene.files, "clash.txt": lines("clash.txt", _9=winner)}
        assert tree == {path: blob(text) for path, text in files.items()}
        _git(self.scene.git_dir, "fsck", "--strict", "--no-dangling")


def _ends(report: Json) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for end in (LANDED, NOOP, REWORK, QUARANTINED):
        for row in report[end]:
            found.setdefault(row if isinstance(row, str) else row["id"], []).append(end)
    return found


def _git(git_dir: Path, *args: str) -> str:
    done = subprocess.run(["git", "-C", str(git_dir), *args], check=True, capture_output=True, text=True)
    return done.stdout


async def _stored(side: Side) -> tuple[Sequence[Entry], Lane | None]:
    """What a dead side's database says, by a copy: what the kill left is what its next life must find."""
    if not side.database.exists():
        return [], None
    copy = side.folder / f"look-{side.name}"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for path in side.folder.glob(f"{side.database.name}*"):
        if path.name in (side.database.name, f"{side.database.name}-wal"):
            shutil.copyfile(path, copy / path.name)
    try:
        async with open_store(copy / side.database.name, SystemClock(), exclusive=False) as store:
            assert not (await store.verify()).faults
            return await store.report(LANE), await store.lane(LANE)
    except Misconfigured as problem:  # killed before its first transaction
        assert "has schema 0" in str(problem)
        return [], None


def _stand(side: Side, entries: Sequence[Entry], lane: Lane | None, landed: dict[str, str]) -> Counter[str]:
    """Nothing lost, nothing doubled: submitted = landed + noop + rework + quarantined + open, and the ref agrees."""
    counts = Counter(str(entry.state) for entry in entries)
    assert entries or not side.known, "the requests are gone"
    if not entries:
        return counts
    side.known = True
    assert Counter(entry.id for entry in entries) == Counter(list(side.wanted.ends))
    under_way = max(entry.deliveries - entry.outcomes for entry in entries)
    assert under_way <= side.lives - (side.report is not None), "more crashes were counted than there were deaths"
    rested = {state: counts[state] for state in (LANDED, NOOP, REWORK, QUARANTINED)}
    assert sum(rested.values()) + sum(counts[state] for state in OPEN) == len(side.wanted.requests), counts
    done = {entry.id: entry.commit for entry in entries if entry.state is EntryState.LANDED}
    assert side.landed.items() <= done.items(), "what had landed is forgotten"
    assert done.items() <= landed.items(), "the database says landed, the ref does not"
    side.landed = {name: oid for name, oid in done.items() if oid}
    train = lane.train if lane else None
    meant = {carriage.entry: carriage.commit for carriage in train.carriages} if train and train.intents else {}
    for entry in entries:
        if entry.id in landed and entry.id not in done:
            assert entry.state in OPEN, f"{entry.id} is on the ref and {entry.state}"
            if not entry.id.startswith("both-"):  # which the other side may have landed
                assert meant.get(entry.id) == landed[entry.id], f"{entry.id} is on the ref without an intent"
        elif entry.id not in done:
            assert str(entry.state) in side.wanted.ends[entry.id] or entry.state in OPEN, (
                f"{entry.id}: {entry.state}, {entry.error}"
            )
    return counts
