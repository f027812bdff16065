"""The whole durable way of a change: enqueued, leased, composed, pushed by compare-and-swap, read back, settled and
audited, with synchronous=FULL and fsynced packs and refs. It is what `interlock merge` does after it has read its input."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from bot.bench.landing import Lap
from bot.bench.peers import git
from bot.bench.workload import REF, Step, Workload
from bot.clock import SystemClock
from bot.merge.lander import Lander
from bot.merge.local import LocalRemote
from bot.merge.objects import Objects
from bot.ports import CheckVerdict, Confirmation, Remote, no_faults
from bot.store.store import open_store
from schemas import lane as q
from schemas.base import CheckCommand, Environment
from schemas.change_request import ChangeRequest

LANE = f"local:{REF}"


class Nobody:
    """`bot.ports.Confirmer` and `bot.ports.Checker` where nobody is asked and nothing is checked."""

    async def confirm(self, entry: q.Entry, carriage: q.Carriage) -> Confirmation:
        """Always."""
        return Confirmation("ok")

    async def check(
        self, git_dir: Path, tree: str, commands: Sequence[CheckCommand], environment: Environment
    ) -> CheckVerdict:
        """Never called: the entries have no checks."""
        raise AssertionError("no entry has a check")


async def durable_lap(work: Workload, folder: Path, steps: Sequence[Step]) -> Lap:
    """CPU and wall milliseconds a change. Raises AssertionError unless all land on the wanted tree."""
    shutil.rmtree(folder, ignore_errors=True)
    git(work.folder.parent, "clone", "-q", "--bare", "--shared", str(work.folder), str(folder))
    git(folder, "update-ref", REF, work.start)
    changes = [ChangeRequest.model_validate_json(step.line) for step in steps]
    local, clock, nobody = LocalRemote(folder, REF), SystemClock(), Nobody()

    async def remote(_: str) -> Remote:
        return local

    async with open_store(folder / "queue.db", clock) as store:
        lander = Lander(
            queue=store, remote=remote, checker=nobody, confirmer=nobody, clock=clock, owner=store.owner,
            faults=no_faults, threads=1,
        )  # fmt: skip
        cpu, wall = time.process_time(), time.perf_counter()
        await store.enqueue([q.NewEntry(id=one.id, lane=LANE, change=one) for one in changes], clock.wall())
        await lander.drive(LANE)
        used, took = time.process_time() - cpu, time.perf_counter() - wall
        states = [entry.state for entry in await store.report(LANE)]
    head = await local.head(REF)
    if (
        any(state is not q.EntryState.LANDED for state in states)
        or Objects(folder).tree_of(head or "") != steps[-1].wanted
    ):
        raise AssertionError("the durable queue did not land everything as it must")
    return Lap(used / len(steps) * 1000, took / len(steps) * 1000)
