"""kill -9 while the store is written: whatever was acknowledged is there, and nothing is there by halves."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from bot.store.store import SqliteStore
from tests.store.parts import BRANCH, opened, outbox_rows, value

ROOT = Path(__file__).parents[2]
ROUNDS = 20


def run_and_kill(path: Path, number: int, lines: int, point: str = "") -> list[list[str]]:
    """Let a process write until it has acknowledged so many things or killed itself; what it acknowledged."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.store.kill_writer", str(path), str(number), point],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
    ) as child:  # fmt: skip
        assert child.stdout is not None and child.stderr is not None
        seen = [child.stdout.readline() for _ in range(lines)]
        child.kill()
        seen += child.stdout.readlines()  # what was acknowledged while the signal was on its way
        errors = child.stderr.read().decode()
    assert not errors, errors
    return [line.decode().split() for line in seen if line.endswith(b"\n")]


async def check(store: SqliteStore, acknowledged: list[list[str]]) -> None:
    """Everything acknowledged is there; effects, entries and audit rows are there with their tickets."""
    database = store.database
    states = {row.key: row.state for row in await outbox_rows(store)}
    for what, *names in acknowledged:
        if what == "delivery":
            assert await store.known_deliveries(names[:1]), names
        elif what == "ticket":
            assert await store.ticket(names[0]) is not None, names
        elif what == "leased":
            fence = await value(database, "SELECT fence FROM outbox WHERE key = ?", names[0])
            assert fence >= int(names[1])
        elif what == "settled":
            assert names[0] not in states, names
    assert "leased" not in states.values()
    tickets = {ticket.id for ticket in await store.tickets()}
    assert tickets == {row["ticket"] for row in await database.rows("SELECT ticket FROM outbox")}
    assert tickets == {entry.id for entry in await store.report(BRANCH)}
    done = await value(database, "SELECT COUNT(*) FROM outbox WHERE state = 'done'")
    assert done == await value(database, "SELECT COUNT(*) FROM events WHERE kind = 'ticked'")
    assert done == await value(database, "SELECT COUNT(*) FROM audit WHERE kind = 'post_comment'")
    verified = await store.verify()
    assert not verified.faults and verified.records == len(tickets) + done


@pytest.mark.timeout(60)
async def test_everything_acknowledged_survives_any_number_of_kills(tmp_path: Path) -> None:
    dice = random.Random(5)
    acknowledged: list[list[str]] = []
    for number in range(1, ROUNDS + 1):
        acknowledged += run_and_kill(tmp_path, number, dice.randint(1, 120))
        async with opened(tmp_path) as store:
            await check(store, acknowledged)
    kinds = {what for what, *_ in acknowledged}
    assert kinds == {"open", "delivery", "ticket", "leased", "settled"}


@pytest.mark.parametrize("point", ["decide:issue_labelled", "settle:post_comment", "lease", "delivery"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_kill_at_the_commit_leaves_all_of_it_or_nothing(tmp_path: Path, point: str, when: str) -> None:
    acknowledged = run_and_kill(tmp_path, 1, 10_000, f"commit:{point}:{when}")
    counted = {
        "decide:issue_labelled": "SELECT COUNT(*) FROM tickets WHERE body <> ''",
        "settle:post_comment": "SELECT COUNT(*) FROM outbox WHERE state = 'done'",
        "lease": "SELECT COUNT(*) FROM outbox WHERE fence > 0",
        "delivery": "SELECT COUNT(*) FROM deliveries",
    }
    async with opened(tmp_path) as store:
        await check(store, acknowledged)
        found = await value(store.database, counted[point])
    assert (found > 0) == (when == "after")
