"""The chain: every decision is in it, tampering is found, texts can be erased, anybody checks an export."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bot.cli.main import main
from bot.errors import Rejected
from bot.store import connection
from bot.store.audit import GENESIS
from schemas.decision import Decision, LaneDecision
from schemas.events import IssueLabelled
from schemas.lane import Composed, EntryState
from schemas.ticket import TicketState
from tests.store.parts import (
    ALICE,
    BASE,
    BRANCH,
    SHA,
    T0,
    TICKET,
    agent,
    close_ticket,
    comment,
    decide,
    entry,
    history,
    open_ticket,
    opened,
    value,
)


async def filled(path: Path, rows: int = 6) -> None:
    """A database with a ticket's decisions, a prompt that an agent was shown, and a lane's decision."""
    async with opened(path) as store:
        await open_ticket(
            store,
            effects=(agent("a"),),
            enqueue=(entry("a", ticket=TICKET, task="t", content="private file"),),
            change={"note": "private note"},
        )
        lease, _ = await store.lease(("run_agent",), "me", 60, T0)
        await store.settle(lease, None, T0, shown="the secret prompt")
        lane_lease = await store.lease_lane(BRANCH, "lander", 60)
        lane = (await store.lane(BRANCH)).model_copy(update={"version": 1})
        event = Composed(base=SHA, old=None, results=())
        await store.decide(lane_lease, event, LaneDecision(lane=lane, why="composed"), T0)
        await store.put([comment(f"c{n}", body=f"private words {n}") for n in range(rows - 3)], T0)
        for _ in range(rows - 3):
            await decide(store)


def tamper(path: Path, *statements: str) -> None:
    """Change the file past the store, as somebody with a shell could."""
    conn = connection.connect_writer(path / "interlock.db")
    conn.execute("PRAGMA foreign_keys = OFF")
    conn.execute("DROP TRIGGER audit_keeps_its_rows")
    conn.execute("DROP TRIGGER audit_loses_no_row")
    for statement in statements:
        assert conn.execute(statement).rowcount > 0, statement
    conn.close()


async def test_every_decision_is_in_the_chain_and_can_be_read_back(tmp_path: Path) -> None:
    await filled(tmp_path)
    async with opened(tmp_path) as store:
        verified = await store.verify()
        assert (verified.records, verified.faults) == (6, ())
        rows = await history(store)
        assert [row.kind for row, _, _ in rows] == [
            "issue_labelled", "run_agent", "composed", "comment_added", "comment_added", "comment_added",
        ]  # fmt: skip
        row, event, decision = rows[0]
        assert row.at.isoformat() == "2026-03-01T12:00:00.250000+00:00"
        assert IssueLabelled.model_validate_json(event).title == "Greet"
        assert Decision.model_validate_json(decision).ticket.id == TICKET
        assert rows[1][1] == "the secret prompt"
        assert LaneDecision.model_validate_json(rows[2][2]).why == "composed"
        assert (rows[0][0].previous, rows[-1][0].hash) == (GENESIS, verified.head)
        assert [r.seq for r, _, _ in await history(store, BRANCH)] == [3]
        assert await value(store.database, "SELECT body FROM texts WHERE digest = ?", row.event) == event


async def test_a_long_history_is_read_whole(tmp_path: Path) -> None:
    await filled(tmp_path, 120)
    async with opened(tmp_path) as store:
        assert [row.seq for row, _, _ in await history(store)] == list(range(1, 121))


async def test_rows_cannot_be_changed_or_removed_through_the_store(tmp_path: Path) -> None:
    await filled(tmp_path)
    async with opened(tmp_path) as store:
        for statement in ("UPDATE audit SET why = 'x' WHERE seq = 1", "DELETE FROM audit WHERE seq = 1"):
            with pytest.raises(connection.Error, match="append-only"):
                await store.database.write("tamper", lambda conn, s=statement: conn.execute(s).rowcount)
        assert not (await store.verify()).faults


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("UPDATE audit SET why = 'nothing to see' WHERE seq = 3", "row 3 was changed"),
        ("UPDATE audit SET at = at + 1 WHERE seq = 3", "row 3 was changed"),
        ("UPDATE audit SET hash = previous WHERE seq = 3", "row 3 was changed"),
        ("UPDATE audit SET previous = hash WHERE seq = 3", "row 3 was changed"),
        ("UPDATE audit SET seq = 99 WHERE seq = 6", "row 6 is missing"),
        ("DELETE FROM audit WHERE seq = 3", "row 3 is missing"),
        ("DELETE FROM audit WHERE seq > 4", "the rows behind row 4 were cut off"),
        ("DELETE FROM audit", "the rows behind row 0 were cut off"),
        ("UPDATE texts SET body = body || ' ' WHERE body = 'the secret prompt'", "was changed"),
        ("UPDATE texts SET body = NULL WHERE body = 'the secret prompt'", "was changed"),
        ("DELETE FROM texts WHERE body = 'the secret prompt'", "a text of row 2 is missing"),
    ],
)
async def test_tampering_is_found(tmp_path: Path, statement: str, fault: str) -> None:
    await filled(tmp_path)
    tamper(tmp_path, statement)
    async with opened(tmp_path) as store:
        verified = await store.verify()
    assert any(fault in found for found in verified.faults), verified


async def test_a_page_that_was_damaged_on_disk_is_found(tmp_path: Path) -> None:
    await filled(tmp_path, 40)
    path = tmp_path / "interlock.db"
    data = path.read_bytes()
    assert b"secret prompt" in data
    path.write_bytes(data.replace(b"secret prompt", b"SECRET prompt"))
    async with opened(tmp_path) as store:
        assert any("was changed" in fault for fault in (await store.verify()).faults)


async def test_verifying_while_the_store_is_written_finds_no_fault(tmp_path: Path) -> None:
    await filled(tmp_path)
    async with opened(tmp_path) as store:

        async def write() -> None:
            for n in range(60):
                await store.put([comment(f"w{n}")], T0)
                await decide(store)

        writing = asyncio.create_task(write())
        seen = []
        while not writing.done():
            verified = await store.verify()
            assert not verified.faults
            seen.append(verified.records)
        await writing
        assert len(set(seen)) > 1 and (await store.verify()).records == 66


def test_an_export_can_be_checked_without_this_code(tmp_path: Path) -> None:
    async def head_of_filled() -> str:
        await filled(tmp_path)
        async with opened(tmp_path) as store:
            return str((await store.verify()).head)

    head = asyncio.run(head_of_filled())
    command, environment = ["audit", "export", str(tmp_path / "audit.jsonl")], {"INTERLOCK_DATA_DIR": str(tmp_path)}
    done = CliRunner().invoke(main, command, env=environment)
    assert (done.exit_code, done.output) == (0, "6 records\n")
    previous = "0" * 64
    for line in (tmp_path / "audit.jsonl").read_text().splitlines():
        item = json.loads(line)
        row = item["row"]
        content = {name: value for name, value in row.items() if name not in ("previous", "hash")}
        text = previous + "\n" + json.dumps(content, sort_keys=True, separators=(",", ":"))
        assert row["previous"] == previous
        assert row["hash"] == hashlib.sha256(text.encode()).hexdigest()
        for name in ("event", "decision"):
            assert not row[name] or hashlib.sha256(item[name].encode()).hexdigest() == row[name]
        previous = row["hash"]
    assert previous == head


# --- forgetting ---------------------------------------------------------------------------------------------
async def test_forgetting_a_ticket_leaves_the_chain_whole_and_no_word_in_the_file(tmp_path: Path) -> None:
    await filled(tmp_path)
    async with opened(tmp_path) as store:
        await open_ticket(store, 13)
        shared = [entry("t12", BASE, ticket=TICKET), entry("t13", BASE, ticket="octo/app#13")]
        await store.enqueue(shared, T0)
        lease = await store.lease_lane(BASE, "lander", 60)
        lane = (await store.lane(BASE)).model_copy(update={"version": 1})
        event = Composed(base=SHA, old=None, results=())
        await store.decide(lease, event, LaneDecision(lane=lane, why="composed both"), T0)
        with pytest.raises(Rejected, match="still open"):
            await store.forget(TICKET, T0)
        with pytest.raises(Rejected, match="no ticket"):
            await store.forget("octo/app#99", T0)
        await store.put([comment("stop")], T0)
        await decide(store, withdraw=("*",), change={"state": TicketState.CANCELLED})
        before = await store.verify()
        assert "private file" in await dump(store) and "private words" in await dump(store)
        assert await store.forget(TICKET, T0, "bob") > 0
        after = await store.verify()
        assert (after.records, after.faults) == (before.records + 1, ())
        rows = await history(store, TICKET)
        assert all(not event and not decision for _, event, decision in rows)
        assert (rows[-1][0].kind, rows[-1][0].actor) == ("forgotten", "bob")
        for other in ("octo/app#13", BASE):  # and a lane's rows that are about several tickets
            assert all(decision for _, _, decision in await history(store, other))
        assert not any(decision for _, _, decision in await history(store, BRANCH))
        assert [t.title for t in await store.tickets()] == ["", "Greet"]
        assert [e.state for e in await store.report(BRANCH)] == [EntryState.CANCELLED]
        await store.forget(TICKET, T0)  # again: nothing left, nothing broken
        assert not (await store.verify()).faults
        left = await dump(store)
        disk = on_disk(tmp_path)
    for word in ("secret prompt", "private words", "private file", "private note"):
        assert word not in left and word.encode() not in disk
    assert "octo/app#13" in left


def on_disk(path: Path) -> bytes:
    """All bytes of the database: freed pages and the write-ahead log, too."""
    return b"".join(file.read_bytes() for file in path.glob("interlock.db*"))


async def dump(store: Any) -> str:
    """Everything that the tables hold."""
    tables = await store.database.rows("SELECT name FROM sqlite_schema WHERE type = 'table'")
    found = []
    for table in tables:
        found += [str(tuple(row)) for row in await store.database.rows(f"SELECT * FROM {table['name']}")]
    return "\n".join(found)


async def test_a_text_that_comes_again_after_it_was_erased_is_kept_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for issue in (12, 13):
            await open_ticket(store, issue, effects=(agent("a", f"octo/app#{issue}"),))
        for _ in range(2):
            lease, _ = await store.lease(("run_agent",), "me", 60, T0)
            await store.settle(lease, None, T0, shown="the same prompt")
            if "#12" in lease.key:
                await close_ticket(store)
                await store.forget(TICKET, T0)
        texts = [event for row, event, _ in await history(store, "octo/app#13") if row.kind == "run_agent"]
        assert texts == ["the same prompt"] and not (await store.verify()).faults


async def test_a_person_is_named_and_a_name_without_a_person_is_not(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await open_ticket(store)
        rows = [row for row, _, _ in await history(store)]
    assert rows[0].actor == ALICE.login
