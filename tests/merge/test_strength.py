"""The queue in bulk: threads change no commit, preparing does not hold up the event loop, memory is bounded.

INTERLOCK_SOAK multiplies how much is landed.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bot.bench.pipeline import LANE, Nobody
from bot.bench.workload import REF, synthetic
from bot.clock import SystemClock
from bot.merge.compose import Start, compose
from bot.merge.lander import Lander
from bot.merge.local import LocalRemote
from bot.ports import Remote, no_faults
from bot.store.store import open_store
from schemas import lane as q
from schemas.change_request import ChangeRequest
from tests.e2e.world import ROOT

SOAK = int(os.environ.get("INTERLOCK_SOAK", "1"))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


def entries(lines: Sequence[str]) -> list[q.Entry]:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    changes = [ChangeRequest.model_validate_json(line) for line in lines]
    return [q.Entry(id=c.id, lane=LANE, seq=n, accepted=at, change=c) for n, c in enumerate(changes)]


def test_any_number_of_threads_gives_the_same_commits(tmp_path: Path) -> None:
    made = synthetic(tmp_path / "r.git", 200, 96)
    start = Start(made.start, made.start, made.start, {})
    waiting = entries([step.line for step in made.steps])
    one, eight = (compose(made.folder, start, waiting, threads) for threads in (1, 8))
    assert one == eight and len(one.results) > 32
    assert all(result.carriage is not None for result in one.results)


async def test_the_event_loop_stays_free_while_a_thousand_are_prepared(tmp_path: Path) -> None:
    made = synthetic(tmp_path / "r.git", 400, 1000)
    local, clock, nobody = LocalRemote(made.folder, REF), SystemClock(), Nobody()

    async def remote(_: str) -> Remote:
        return local

    async with open_store(tmp_path / "queue.db", clock) as store:
        changes = [ChangeRequest.model_validate_json(step.line) for step in made.steps]
        await store.enqueue([q.NewEntry(id=one.id, lane=LANE, change=one) for one in changes], clock.wall())
        lander = Lander(
            queue=store, remote=remote, checker=nobody, confirmer=nobody, clock=clock, owner=store.owner,
            faults=no_faults, threads=8,
        )  # fmt: skip
        driving = asyncio.create_task(lander.drive(LANE))
        loop, lags = asyncio.get_running_loop(), []
        while not driving.done():
            due = loop.time() + 0.002
            await asyncio.sleep(0.002)
            lags.append(loop.time() - due)
        await driving
        assert {entry.state for entry in await store.report(LANE)} == {q.EntryState.LANDED}
    lags.sort()
    assert len(lags) > 100
    print(f"lag p50 {lags[len(lags) // 2] * 1000:.1f} ms, p99 {lags[len(lags) * 99 // 100] * 1000:.1f} ms")
    assert lags[len(lags) * 99 // 100] < 0.05


def many(base: str, blobs: dict[str, str], count: int) -> Iterator[str]:
    """Changes to lines of their own of a few hundred files, all against one base."""
    for number in range(count):
        path = f"f{number % 250}.txt"
        lines = [f"line {at}\n" for at in range(200)]
        lines[number // 250 * 4] = f"changed by {number}\n"
        patch = [{"op": "modify", "path": path, "before": blobs[path], "content": "".join(lines)}]
        yield json.dumps({"version": 1, "id": f"c{number}", "base": base, "title": f"Change {number}", "patch": patch})


@pytest.mark.slow
def test_memory_is_bounded(tmp_path: Path) -> None:
    """Ten times as many landings with INTERLOCK_SOAK=10; what grows after the first part is next to nothing."""
    count, repo = 1200 * SOAK if SOAK < 9 else 10_000, tmp_path / "repo"
    subprocess.run(["git", "init", "-q", "-b", "main", str(repo)], check=True)
    text = "".join(f"line {at}\n" for at in range(200))
    for number in range(250):
        (repo / f"f{number}.txt").write_text(text)
    git = ["git", "-C", str(repo), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "base"], check=True)
    base = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    listed = subprocess.run([*git, "ls-tree", "HEAD"], check=True, capture_output=True, text=True).stdout
    blobs = {line.split("\t")[1]: line.split()[2] for line in listed.splitlines()}
    source = tmp_path / "r.jsonl"
    with source.open("w") as out:
        out.writelines(f"{line}\n" for line in many(base, blobs, count))
    subprocess.run([*git, "switch", "-q", "--detach"], check=True)
    command = [sys.executable, "-m", "bot.cli.main", "merge", "--repo", str(repo), "--target", "main"]
    command += ["--requests", str(source), "--json"]
    told = tmp_path / "report.json"
    with (
        told.open("w") as out,
        subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.PIPE, text=True) as process,
    ):
        sizes = []
        assert process.stderr is not None
        for line in process.stderr:
            assert "landed of" in line, line
            status = Path(f"/proc/{process.pid}/status").read_text()
            found = re.search(r"VmRSS:\s+(\d+) kB", status)
            assert found is not None
            sizes.append(int(found[1]) / 1024)
    report = json.loads(told.read_text())
    assert len(report["landed"]) == count and process.returncode == 0
    print([round(size) for size in sizes])
    assert sizes[-1] - sizes[1 if SOAK < 9 else 3] < 50, sizes
    packs = list((repo / ".git" / "objects" / "pack").glob("*.pack"))
    assert len(packs) <= 70, len(packs)
