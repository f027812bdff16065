"""The power goes at any moment: what was acknowledged is there, and the queue goes on.

Real processes are recorded once each; then the disk is made as it may be after a crash at many points of the record
(disk.py), and each such image is opened by the product. INTERLOCK_SOAK multiplies the number of images.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pygit2
import pytest

from bot.clock import SystemClock
from bot.rules.lanes import pending_intent
from bot.store.store import open_store
from schemas.lane import EntryState
from tests.power import disk
from tests.store.parts import opened
from tests.store.test_kill import check as check_store

ROOT = Path(__file__).parents[2]
SOAK = int(os.environ.get("INTERLOCK_SOAK", "1"))
IMAGES = 100 * SOAK
"""For each of the two recorded runs."""

RUNS, REQUESTS = 3, 8
ROUNDS = 25
LANE = "local:refs/heads/main"
STORE = "interlock"
"""The directory that the database is in."""

Survives = Callable[[Path, str], Awaitable[None]]
"""Raises unless an image, as a directory, has all that was acknowledged (printed) before the crash."""


class Run(NamedTuple):
    """A recorded run: where it was, the disk as it was before, what was done to it, the repository's first commit."""

    root: Path
    before: disk.Disk
    records: list[disk.Record]
    base: str = ""


def honest(_: disk.Record) -> bool:
    """A disk that ignores no fsync."""
    return False


def images(run: Run, count: int, seed: int, ignores: disk.Ignored = honest) -> Iterator[tuple[str, disk.Image, str]]:
    """So many images of losses of power; with each its name and what had been printed until then.

    Half of the moments are anywhere, half are right after something was acknowledged.
    """
    dice = random.Random(seed)
    says = [number for number, one in enumerate(run.records, 1) if one.op == disk.SAY]
    anywhere = range(len(run.records) + 1)
    moments = sorted(dice.choice(says if number % 2 else anywhere) for number in range(count))
    drive = disk.Disk.load_from(run.before, ignores)
    at, said = 0, b""
    for number, moment in enumerate(moments):
        for one in run.records[at:moment]:
            drive.do(one)
            said += one.data if one.op == disk.SAY else b""
        at = moment
        yield f"image {number} of seed {seed}, after operation {moment}", drive.after(dice), said.decode()


async def survivors(run: Run, place: Path, survives: Survives, ignores: disk.Ignored = honest) -> tuple[int, str]:
    """How many of the images pass, up to the first that does not, and what was wrong with that one."""
    place, there = place / "disk", disk.Image()
    place.mkdir()
    for number, (name, image, said) in enumerate(images(run, IMAGES, 1, ignores)):
        disk.write(image, place, there)
        try:
            await survives(place, said)
        except Exception as problem:
            return number, f"{name}: {type(problem).__name__}: {problem}"
        # The next moment's image differs little; only the store's own directory was written to by opening it.
        shutil.rmtree(place / STORE, ignore_errors=True)
        there = {path: content for path, content in image.items() if path.split("/")[0] != STORE}
    return IMAGES, ""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return disk.build(tmp_path_factory.mktemp("recorder"))


# --- the queue on a local repository ----------------------------------------------------------------------------------
def git(repo: Path, *args: str) -> str:
    command = ["git", "-C", str(repo), "-c", "user.name=A", "-c", "user.email=a@example.org", *args]
    return subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout.strip()


def requests(base: str, run: int) -> str:
    """A run's change requests, all made on the first commit."""
    lines = []
    for number in range(REQUESTS):
        name = f"c{run}.{number}"
        edit = {"op": "add", "path": f"dir{number % 3}/{name}.txt", "content": f"{name}\n" * 40}
        lines.append(json.dumps({"version": 1, "id": name, "base": base, "title": f"Add {name}", "patch": [edit]}))
    return "\n".join(lines) + "\n"


def new_repository(repo: Path) -> str:
    """One with an empty commit on main, which is returned."""
    pygit2.init_repository(repo, bare=True, initial_head="main")
    shutil.rmtree(repo / "hooks")
    base = git(repo, "commit-tree", git(repo, "mktree"), "-m", "Begin")
    git(repo, "update-ref", "refs/heads/main", base)
    return base


@pytest.fixture(scope="module")
def merged(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A few calls of `interlock merge`, one after the other, on a repository with little in it."""
    place = tmp_path_factory.mktemp("merged")
    repo = place / "repo.git"
    base = new_repository(repo)
    calls = []
    for run in range(RUNS):
        source = place / f"{run}.jsonl"
        source.write_text(requests(base, run))
        calls.append(" ".join(merge_command(repo, source)))
    return Run(repo, *disk.record(library, repo, ["sh", "-c", " && ".join(calls)], ROOT), base)


def merge_command(repo: Path, source: Path) -> list[str]:
    called = [sys.executable, "-m", "tests.power.merge_process", "merge"]
    return [*called, "--repo", str(repo), "--target", "main", "--requests", str(source), "--json"]


def acknowledged(said: str) -> tuple[list[dict[str, str]], dict[str, str]]:
    """The steps that were printed, and what was reported as landed: by change request, the commit."""
    steps: list[dict[str, str]] = []
    landed: dict[str, str] = {}
    decoder = json.JSONDecoder()
    while said := said.lstrip():
        try:
            found, end = decoder.raw_decode(said)
        except ValueError:
            break  # cut off
        said = said[end:]
        if "step" in found:
            steps.append(found)
        else:
            landed |= {row["id"]: row["commit"] for row in found["landed"]}
    return steps, landed


async def queue_survives(repo: Path, said: str) -> None:
    """The store opens, its chain is whole, and neither it nor the ref is behind what was acknowledged."""
    steps, landed = acknowledged(said)
    fsck = subprocess.run(
        ["git", f"--git-dir={repo}", "fsck", "--full", "--no-dangling"], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert fsck.returncode == 0, fsck.stderr
    objects = pygit2.Repository(str(repo))
    head = objects.references["refs/heads/main"].peel(pygit2.Commit)
    on_branch = {str(commit.id): commit for commit in objects.walk(head.id)}
    (repo / "interlock").mkdir(exist_ok=True)
    async with open_store(repo / "interlock" / "queue.db", SystemClock()) as store:
        verified = await store.verify()
        lane = await store.lane(LANE)
        entries = {entry.id: entry for entry in await store.report(LANE)}
    assert not verified.faults, verified.faults
    assert verified.records >= len(steps), f"{verified.records} rows, {len(steps)} steps were acknowledged"
    held = [step["why"].rpartition(" ")[2] for step in steps if step["step"] == "land"]
    for commit in held:
        assert any(name.startswith(commit) for name in on_branch), f"the branch lost {commit}"
    for name, commit in landed.items():
        assert entries[name].state is EntryState.LANDED and entries[name].commit == commit, name
    for entry in entries.values():
        if entry.state is EntryState.LANDED:
            assert entry.commit in on_branch, f"{entry.id} is landed in the database alone"
            assert f"Change-Request: {entry.id}" in on_branch[entry.commit].message
    intent = pending_intent(lane)
    known = {lane.head, intent.new_oid if intent else None}
    assert len(on_branch) == 1 or str(head.id) in known, f"the branch is at {head.id}, the lane knows {known}"
    if lane.train is not None:  # what a next start goes on with
        assert all(carriage.commit in objects for carriage in lane.train.carriages), "a train lost its commits"


@pytest.mark.slow
async def test_whatever_landed_is_in_the_database_and_on_the_branch(merged: Run, tmp_path: Path) -> None:
    passed, problem = await survivors(merged, tmp_path, queue_survives)
    assert passed == IMAGES, problem


LIES: dict[str, disk.Ignored] = {
    "the write-ahead log": lambda one: one.path.endswith("-wal"),
    "the database's directory": lambda one: one.path in ("", STORE),
    "packs": lambda one: one.path.startswith("objects/pack/"),
    "packs' names": lambda one: one.path == "objects/pack",
    "the ref": lambda one: one.path.endswith("main.lock"),
    "the ref's name": lambda one: one.path == "refs/heads",
}
"""Fsyncs that the queue cannot do without, each of which a disk may ignore."""


@pytest.mark.parametrize("lie", LIES)
async def test_without_any_one_of_these_fsyncs_something_is_lost(merged: Run, tmp_path: Path, lie: str) -> None:
    """The images and what is asked of them are hard enough to tell."""
    assert any(one.op == disk.SYNC and LIES[lie](one) for one in merged.records)
    passed, problem = await survivors(merged, tmp_path, queue_survives, LIES[lie])
    assert problem, f"{passed} images survived"


@pytest.mark.slow
def test_after_a_loss_of_power_the_queue_goes_on(merged: Run, tmp_path: Path) -> None:
    """Images are continued by new processes until all has landed, each once, what was acknowledged as it was."""
    everything = sorted(f"c{run}.{number}" for run in range(RUNS) for number in range(REQUESTS))
    repo = merged.root  # a database knows the place of its repository
    for name, image, said in images(merged, 3 * SOAK, 2):
        shutil.rmtree(repo)
        repo.mkdir()
        disk.write(image, repo, {})
        _, before = acknowledged(said)
        source = tmp_path / "all.jsonl"
        source.write_text("".join(requests(merged.base, run) for run in range(RUNS)))
        command = merge_command(repo, source)
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        if lock := re.search(r"Unable to create '(\S+\.lock)': File exists", done.stderr):
            assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
            Path(lock[1]).unlink()  # as the message asks for
            done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        assert done.returncode == 0, f"{name}: {done.stderr}"
        _, landed = acknowledged(done.stdout)
        assert sorted(landed) == everything and before.items() <= landed.items(), name
        trailers = git(repo, "log", "--format=%(trailers:key=Change-Request,valueonly)", "main").split()
        assert sorted(trailers) == everything, name
        git(repo, "fsck", "--strict")


def test_a_lock_that_git_left_behind_is_named(tmp_path: Path) -> None:
    """It is left by a loss of power in the middle of a landing; only a person can tell that nobody holds it."""
    repo, source = tmp_path / "repo.git", tmp_path / "r.jsonl"
    source.write_text(requests(new_repository(repo), 0))
    lock = repo / "refs" / "heads" / "main.lock"
    lock.touch()
    command = [sys.executable, "-m", "bot.cli.main", *merge_command(repo, source)[3:]]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1 and str(lock) in done.stderr and done.stderr.count("\n") == 1, done.stderr
    lock.unlink()
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0 and len(json.loads(done.stdout)["landed"]) == REQUESTS


# --- the store alone --------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def stored(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Deliveries, tickets and effects by several callers at once, past the size at which the log is checkpointed."""
    root = tmp_path_factory.mktemp("stored") / "data"
    root.mkdir()
    command = [sys.executable, "-m", "tests.store.kill_writer", str(root / STORE), "1", "", str(ROUNDS)]
    run = Run(root, *disk.record(library, root, command, ROOT))
    assert len(checkpoints(run)) > 1, "the last one is at closing"
    return run


def checkpoints(run: Run) -> list[disk.Record]:
    """The flushes of the database itself after its log was begun."""
    begun = next(number for number, one in enumerate(run.records) if one.path.endswith("-wal"))
    return [one for one in run.records[begun:] if one.op == disk.SYNC and one.path.endswith(".db")]


async def store_survives(data: Path, said: str) -> None:
    """All that was acknowledged is there, and nothing is there by halves."""
    (data / STORE).mkdir(exist_ok=True)
    async with opened(data / STORE) as store:
        await check_store(store, [line.split() for line in said.splitlines(keepends=True) if line.endswith("\n")])


@pytest.mark.slow
async def test_the_store_keeps_whatever_it_acknowledged(stored: Run, tmp_path: Path) -> None:
    passed, problem = await survivors(stored, tmp_path, store_survives)
    assert passed == IMAGES, problem


@pytest.mark.parametrize("lie", ["log", "checkpoints"])
async def test_the_store_needs_the_fsyncs_of_its_log_and_its_checkpoints(stored: Run, tmp_path: Path, lie: str) -> None:
    flushes = checkpoints(stored) if lie == "checkpoints" else [o for o in stored.records if o.path.endswith("-wal")]
    ignored = set(map(id, flushes))
    passed, problem = await survivors(stored, tmp_path, store_survives, lambda one: id(one) in ignored)
    assert problem, f"{passed} images survived"
