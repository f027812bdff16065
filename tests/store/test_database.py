"""One file: its lock, its versions, its one writer that commits in groups, and a disk that is full."""

from __future__ import annotations

import asyncio
import os
import sqlite3 as interpreters
import sys
import threading
from pathlib import Path

import pytest

from bot.errors import Misconfigured, Transient
from bot.store import connection, database
from bot.store.store import SqliteStore
from tests.store.parts import T0, ManualClock, label, opened, value

ROOT = Path(__file__).parents[2]


async def test_the_writer_is_durable_and_its_sqlite_is_free_of_the_wal_reset_bug(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        pragmas = await store.database.write(
            "look",
            lambda conn: [
                conn.execute(f"PRAGMA {p}").fetchone()[0] for p in ("journal_mode", "synchronous", "foreign_keys")
            ],
        )
        version = await value(store.database, "SELECT sqlite_version()")
    assert pragmas == ["wal", 2, 1]
    assert tuple(int(part) for part in version.split(".")) >= (3, 51, 3)


async def test_a_reader_cannot_write(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        with pytest.raises(Transient, match="readonly"):
            await store.database.rows("INSERT INTO meta VALUES ('a', 'b')")


# --- one process a database ---------------------------------------------------------------------------------
async def test_a_second_process_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys; from pathlib import Path\n"
        "from bot.clock import SystemClock; from bot.store.store import open_store\n"
        "async def main():\n"
        f"    async with open_store(Path({str(tmp_path)!r}) / 'interlock.db', SystemClock()):\n"
        "        print('open', flush=True); sys.stdin.read()\n"
        "asyncio.run(main())\n"
    )
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert child.stdout and await child.stdout.readline() == b"open\n"
    with pytest.raises(Misconfigured, match=f"process {child.pid}: stop that one"):
        async with opened(tmp_path):
            pass
    child.kill()
    await child.communicate()
    async with opened(tmp_path) as store:  # the lock died with its process
        assert await store.meta("x") is None


async def test_another_process_may_read_meanwhile_and_not_write(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.set_meta("repository", "/srv/app.git")
        async with opened(tmp_path, exclusive=False) as other:
            assert await other.meta("repository") == "/srv/app.git"
            with pytest.raises(Misconfigured, match="send the command to the running server"):
                await other.set_meta("repository", "x")


async def test_reading_makes_no_database(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="there is no database at"):
        async with opened(tmp_path, exclusive=False):
            pass
    assert not os.listdir(tmp_path)


# --- versions -----------------------------------------------------------------------------------------------
async def test_a_newer_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.set_meta("a", "b")
    with interpreters.connect(tmp_path / "interlock.db") as conn:
        conn.execute("PRAGMA user_version = 99")
    for exclusive in (True, False):
        with pytest.raises(Misconfigured, match="schema 99"):
            async with opened(tmp_path, exclusive=exclusive):
                pass
    with interpreters.connect(tmp_path / "interlock.db") as conn:
        assert conn.execute("SELECT value FROM meta WHERE key = 'a'").fetchone() == ("b",)


async def test_an_older_database_is_copied_before_it_is_upgraded(tmp_path: Path) -> None:
    path = tmp_path / "interlock.db"
    async with opened(tmp_path) as store:
        await store.set_meta("a", "b")
    conn = connection.connect_writer(path)

    def step(conn: connection.Connection) -> None:
        conn.execute("ALTER TABLE lanes ADD COLUMN note TEXT NOT NULL DEFAULT ''")

    database.migrate(conn, path, version=database.VERSION + 1, steps={database.VERSION: step})
    assert conn.execute("PRAGMA user_version").fetchone()[0] == database.VERSION + 1
    assert conn.execute("SELECT note FROM lanes").fetchall() == []
    conn.close()
    with interpreters.connect(tmp_path / f"interlock.db.schema-{database.VERSION}") as copy:
        assert copy.execute("PRAGMA user_version").fetchone() == (database.VERSION,)
        assert copy.execute("SELECT value FROM meta WHERE key = 'a'").fetchone() == ("b",)


async def test_an_upgrade_that_fails_leaves_the_old_schema(tmp_path: Path) -> None:
    path = tmp_path / "interlock.db"
    async with opened(tmp_path):
        pass

    def step(conn: connection.Connection) -> None:
        conn.execute("CREATE TABLE half (a)")
        raise ValueError("no")

    conn = connection.connect_writer(path)
    with pytest.raises(ValueError, match="no"):
        database.migrate(conn, path, version=database.VERSION + 1, steps={database.VERSION: step})
    conn.close()
    async with opened(tmp_path) as store:
        assert await value(store.database, "SELECT 1 FROM sqlite_schema WHERE name = 'half'") is None


async def test_a_file_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "interlock.db").write_text("this is no database " * 100)
    with pytest.raises(Misconfigured, match="cannot be opened as a database"):
        async with opened(tmp_path):
            pass
    (tmp_path / "interlock.db").unlink()
    with interpreters.connect(tmp_path / "interlock.db") as conn:
        conn.execute("CREATE TABLE theirs (a)")
    with pytest.raises(Misconfigured, match="another program"):
        async with opened(tmp_path):
            pass


# --- group commit -------------------------------------------------------------------------------------------
class Gate:
    """Holds the writer's thread, so that what is submitted meanwhile shares the next commit."""

    def __init__(self, store: SqliteStore) -> None:
        self._store, self._open = store, threading.Event()

    async def __aenter__(self) -> Gate:
        entered = asyncio.Event()
        loop = asyncio.get_running_loop()

        def wait(conn: connection.Connection) -> None:
            loop.call_soon_threadsafe(entered.set)
            self._open.wait(10)

        self._task = asyncio.create_task(self._store.database.write("gate", wait))
        await entered.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(0)  # let the callers reach the queue
        self._open.set()
        await self._task


class Journal:
    """Fault points, written down as they are reached; one may raise."""

    def __init__(self) -> None:
        self.points: list[str] = []
        self.failing = ""

    def reach(self, point: str) -> None:
        self.points.append(point)
        if point == self.failing:
            raise RuntimeError(point)


async def test_a_group_shares_a_commit_and_reaches_every_name(tmp_path: Path) -> None:
    journal = Journal()
    async with opened(tmp_path, faults=journal) as store:
        async with Gate(store):
            writes = [asyncio.create_task(store.set_meta(str(n), "x")) for n in range(2)]
            writes.append(asyncio.create_task(store.database.write("other", lambda conn: None)))
            journal.points.clear()
        await asyncio.gather(*writes)
    group = ["meta", "meta", "other"]
    assert journal.points == [
        "commit:gate:before",
        "commit:gate:after",
        *(f"commit:{name}:before" for name in group),
        *(f"commit:{name}:after" for name in group),
    ]


async def test_one_failure_in_a_group_undoes_only_itself(tmp_path: Path) -> None:
    def fails(conn: connection.Connection) -> None:
        conn.execute("INSERT INTO meta VALUES ('bad', 'x')")
        raise KeyError("mine")

    def breaks(conn: connection.Connection) -> None:
        conn.execute("INSERT INTO nowhere VALUES (1)")

    async with opened(tmp_path) as store:
        async with Gate(store):
            good = asyncio.create_task(store.set_meta("good", "x"))
            bad = asyncio.create_task(store.database.write("bad", fails))
            broken = asyncio.create_task(store.database.write("broken", breaks))
            last = asyncio.create_task(store.set_meta("last", "x"))
        results = await asyncio.gather(good, bad, broken, last, return_exceptions=True)
        assert results[0] is None and results[3] is None
        assert isinstance(results[1], KeyError) and "no such table" in str(results[2])
        kept = await store.database.rows("SELECT key FROM meta ORDER BY key")
    assert [row["key"] for row in kept] == ["good", "last"]


async def test_nobody_reads_what_is_not_committed(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        async with Gate(store):
            await store.database.row("SELECT 1")
            write = asyncio.create_task(store.set_meta("a", "b"))
            await asyncio.sleep(0)
            assert await store.meta("a") is None
        await write
        assert await store.meta("a") == "b"


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_fault_at_the_commit_reaches_the_caller_and_the_writer_lives_on(tmp_path: Path, when: str) -> None:
    journal = Journal()
    async with opened(tmp_path, faults=journal) as store:
        journal.failing = f"commit:meta:{when}"
        with pytest.raises(RuntimeError, match=when):
            await store.set_meta("a", "b")
        journal.failing = ""
        assert await store.meta("a") == ("b" if when == "after" else None)
        await store.set_meta("a", "c")
        assert await store.meta("a") == "c"


async def test_a_full_disk_fails_the_whole_group_as_transient_and_loses_nothing_else(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.set_meta("kept", "x")
        pages = await value(store.database, "PRAGMA page_count")
        await store.database.write(
            "limit", lambda conn: conn.execute(f"PRAGMA max_page_count = {pages + 2}").fetchone()
        )
        async with Gate(store):
            small = asyncio.create_task(store.set_meta("small", "x"))
            large = asyncio.create_task(store.set_meta("large", "x" * 1_000_000))
        for result in await asyncio.gather(small, large, return_exceptions=True):
            assert isinstance(result, Transient) and "disk is full" in str(result)
        assert await store.meta("small") is None and await store.meta("kept") == "x"
        await store.database.write("limit", lambda conn: conn.execute("PRAGMA max_page_count = 100000").fetchone())
        await store.set_meta("large", "x" * 1_000_000)


async def test_a_cancelled_caller_does_not_undo_the_work(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        async with Gate(store):
            write = asyncio.create_task(store.set_meta("a", "b"))
            await asyncio.sleep(0)
            write.cancel()
        await store.set_meta("later", "x")
        assert write.cancelled() and await store.meta("a") == "b"


async def test_a_closed_store_answers_instead_of_hanging(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        pass
    with pytest.raises(Transient, match="closed"):
        await store.put([label()], T0)


async def test_the_clock_is_never_asked_for_the_wall_time(tmp_path: Path) -> None:
    class NoWall(ManualClock):
        def wall(self) -> object:  # type: ignore[override]
            raise AssertionError("instants come in as arguments")

    async with opened(tmp_path, NoWall()) as store:
        await store.put([label()], T0)
        assert await store.lease(["post_comment"], "me", 5, T0) is None
