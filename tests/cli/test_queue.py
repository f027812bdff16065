"""`interlock queue` as its users run it: on a local queue, on a stopped bot, and beside a running one."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from bot import server
from bot.clock import SystemClock
from bot.metrics import Metrics
from bot.store.store import SqliteStore, open_store
from schemas.decision import EntryMove, LaneDecision
from schemas.lane import Composed, EntryState, ErrorClass, LaneState
from tests.cli.commands import INTERLOCK, interlock, process, said
from tests.e2e.world import PEM, ROOT
from tests.merge.test_merge_command import change, git, merge, repo, write
from tests.store.parts import BASE, BRANCH, SHA, entry

assert repo  # the fixture


async def moved(store: SqliteStore, lane: str, *moves: EntryMove, **changes: object) -> None:
    clock = SystemClock()
    lease = await store.lease_lane(lane, "lander", 60)
    assert lease is not None
    known = await store.lane(lane)
    new = known.model_copy(update={"version": known.version + 1, **changes})
    decision = LaneDecision(lane=new, moves=moves, why="step")
    await store.decide(lease, Composed(base=SHA, old=None, results=()), decision, clock.wall())
    await store.release_lane(lease)


def aside(name: str, to: EntryState = EntryState.QUARANTINED) -> EntryMove:
    return EntryMove(entry=name, to=to, error_class=ErrorClass.INFRA, error="disk\x1b[31m full", counts=True)


async def data(folder: Path, many: int = 3) -> Path:
    """A bot's data directory: two lanes, one of them paused; b is in quarantine, same is in both."""
    async with open_store(folder / "interlock.db", SystemClock()) as store:
        now = SystemClock().wall()
        await store.enqueue([entry(n) for n in ("a", "b", "same")], now)
        await store.enqueue([entry("same", BASE), *(entry(f"e{n}", BASE) for n in range(many))], now)
        await moved(store, BRANCH, aside("b"))
        await moved(store, BASE, state=LaneState.PAUSED)
    return folder


# --- a local queue ----------------------------------------------------------------------------------------------------
def test_a_failure_is_still_told_when_the_entry_has_landed(tmp_path: Path, repo: Path) -> None:
    rival = change(repo, "rival", "dir0/file0.txt", 2, "other")
    one = change(repo, "one", "dir0/file0.txt", 2, "first")
    git(repo, "switch", "-q", "-c", "side")
    (repo / "dir0/file0.txt").write_text(one["patch"][0]["content"])
    git(repo, "commit", "-q", "-a", "-m", "Side")
    undo = {**change(repo, "undo", "dir0/file0.txt", 2, "line 2"), "base": git(repo, "rev-parse", "side")}
    undo["patch"][0]["before"] = git(repo, "rev-parse", "side:dir0/file0.txt")
    code, report, errors = merge(repo, write(tmp_path / "r.jsonl", [one, rival, undo]))
    assert code == 0 and len(report["landed"]) == 3, errors
    assert git(repo, "show", "main:dir0/file0.txt").splitlines()[2] == "other"
    (row,) = said("queue", "show", "--repo", repo)["failed"]
    assert (row["id"], row["state"], row["attempts"], row["error_class"]) == ("rival", "landed", 1, "conflict")
    assert "conflict in dir0/file0.txt" in row["error"] and row["failed"] and row["commit"]
    detail = said("queue", "show", "rival", "--repo", repo)
    assert detail["evidence"]["ours"] and detail["deliveries"] >= 2 and detail["next_try"] is None
    text = interlock("queue", "show", "rival", "--repo", repo).stdout
    assert "conflict" in text and ", 1 failed" in text


def test_retry_release_and_drop_of_a_local_queue(tmp_path: Path, repo: Path) -> None:
    requests = [change(repo, name, "dir0/file0.txt", 2, name) for name in ("one", "two", "three")]
    merge(repo, write(tmp_path / "r.jsonl", requests))
    done = interlock("queue", "retry", "two", "--repo", repo)
    assert done.returncode == 0 and "rework -> queued" in done.stdout and "next interlock merge" in done.stdout
    assert said("queue", "drop", "three", "--repo", repo, "--by", "ada")["after"] == "cancelled"
    refused = interlock("queue", "drop", "one", "--repo", repo)
    assert refused.returncode == 1 and "one is landed" in refused.stderr
    near = interlock("queue", "retry", "tow", "--repo", repo)
    assert near.returncode == 1 and "did you mean two" in near.stderr
    (lane,) = said("queue", "list", "--repo", repo)["lanes"]
    assert [row["id"] for row in lane["open"]] == ["two"] and lane["at_rest"] == {"landed": 1, "cancelled": 1}
    rows = said("audit", "show", "--repo", repo, "--last", "2")["rows"]
    assert [(row["kind"], row["actor"], row["after"]) for row in rows] == [
        ("operator_retry", "ops", "queued"), ("operator_drop", "ada", "cancelled"),
    ]  # fmt: skip
    assert interlock("queue", "list", "--db", "x").returncode == 2
    assert "run interlock merge first" in interlock("queue", "list", "--repo", repo, "--db", tmp_path / "no").stderr


# --- a bot ------------------------------------------------------------------------------------------------------------
def test_a_stopped_bot_s_queue(tmp_path: Path) -> None:
    asyncio.run(data(tmp_path, many=30))
    shown = said("queue", "list", DATA_DIR=tmp_path)["lanes"]
    assert [(lane["key"], lane["state"], len(lane["open"]), lane["more"]) for lane in shown] == [
        (BRANCH, "open", 2, 0), (BASE, "paused", 20, 11),
    ]  # fmt: skip
    assert len(said("queue", "list", "--all", DATA_DIR=tmp_path)["lanes"][1]["open"]) == 31
    text = interlock("queue", "list", DATA_DIR=tmp_path).stdout
    assert "11 more wait: --all shows them" in text and "at rest  1 quarantined" in text
    told = interlock("queue", "show", "b", DATA_DIR=tmp_path).stdout
    assert "disk\N{REPLACEMENT CHARACTER}[31m full" in told and "\x1b" not in told
    both = interlock("queue", "drop", "same", DATA_DIR=tmp_path)
    assert both.returncode == 1 and BRANCH in both.stderr and BASE in both.stderr
    assert said("queue", "drop", "same", "--lane", BASE, DATA_DIR=tmp_path)["lane"] == BASE
    released = said("queue", "release", "b", "--by", "ada", DATA_DIR=tmp_path)
    assert (released["before"], released["after"], released["by"]) == ("quarantined", "queued", "ada")
    assert said("queue", "show", "b", DATA_DIR=tmp_path)["released_by"] == "ada"
    assert said("queue", "release", BASE, DATA_DIR=tmp_path)["after"] == "open"
    again = interlock("queue", "release", BASE, DATA_DIR=tmp_path)
    assert again.returncode == 1 and "nothing to resume" in again.stderr
    assert said("audit", "verify", DATA_DIR=tmp_path)["verified"]

    async def land() -> None:
        async with open_store(tmp_path / "interlock.db", SystemClock()) as store:
            await moved(store, BRANCH, EntryMove(entry="a", to=EntryState.LANDING))

    asyncio.run(land())
    landing = interlock("queue", "drop", "a", DATA_DIR=tmp_path)
    assert landing.returncode == 1 and "what is landing is not called back" in landing.stderr


def test_ten_thousand_entries_are_listed_at_once(tmp_path: Path) -> None:
    asyncio.run(data(tmp_path, many=10_000))
    began = time.monotonic()
    done = interlock("queue", "list", DATA_DIR=tmp_path)
    assert time.monotonic() - began < 2.0 and len(done.stdout.splitlines()) < 40


# --- beside a running server ------------------------------------------------------------------------------------------
@contextmanager
def serving(folder: Path, **more: str) -> Iterator[tuple[str, dict[str, object]]]:
    """`interlock serve` without a GitHub; its admin address, and the settings of its commands."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "playbook.json").write_text("{}")
    (folder / "app.pem").write_bytes(PEM)
    settings = {
        "DATA_DIR": folder, "PORT": 0, "ADMIN_PORT": port, "APP_ID": 1, "PRIVATE_KEY_FILE": folder / "app.pem",
        "WEBHOOK_SECRET": "s", "GITHUB_API_URL": "http://127.0.0.1:9", "HARNESS": "scripted",
        "PLAYBOOK": folder / "playbook.json", "SANDBOX": "off", **more,
    }  # fmt: skip
    env = {"PATH": os.environ["PATH"], **{f"INTERLOCK_{name}": str(value) for name, value in settings.items()}}
    server = subprocess.Popen(
        [*INTERLOCK, "serve"], cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert server.stdout is not None and "admin" in server.stdout.readline()
        yield f"http://127.0.0.1:{port}", settings
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=10)


def test_commands_go_to_the_running_server(tmp_path: Path) -> None:
    asyncio.run(data(tmp_path))
    with serving(tmp_path, API_TOKEN="t0ken") as (_, settings):
        done = json.loads(process("queue", "release", "b", "--by", "ada", "--json", **settings).stdout)
        assert (done["after"], done["by"]) == ("queued", "ada")
        assert said("queue", "show", "b", **settings)["state"] == "queued"
        unknown = interlock("queue", "drop", "bb", **settings)
        assert unknown.returncode == 1 and "there is no bb here" in unknown.stderr
        assert interlock("queue", "drop", "same", **settings).returncode == 1
        for wrong in ({"API_TOKEN": "x"}, {"API_TOKEN": ""}, {"ADMIN_PORT": 9}):
            refused = interlock("queue", "drop", "a", **{**settings, **wrong})
            assert refused.returncode == 2 and next(iter(wrong)) in refused.stderr
        assert said("queue", "show", "a", **settings)["state"] == "queued"
        assert said("queue", "release", BASE, **settings)["after"] == "open"


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"[]", 400), (b'{"command": "explode", "entry": "a", "by": "x"}', 400),
     (b'{"command": "drop", "by": "x"}', 400), (b'{"command": "drop", "entry": "a"}', 400),
     (b'{"command": "drop", "entry": "a", "by": "x", "more": 1}', 400),
     (b'{"command": "drop", "entry": "none", "by": "x"}', 404), (b'{"command": "drop", "entry": "same", "by": "x"}', 409),
     (b'{"command": "retry", "entry": "a", "by": "x"}', 409), (b'{"command": "drop", "entry": "a", "by": "x"}', 200)],
)  # fmt: skip
async def test_what_the_listener_answers(tmp_path: Path, body: bytes, status: int) -> None:
    await data(tmp_path)
    rung: list[None] = []
    async with open_store(tmp_path / "interlock.db", SystemClock()) as store:
        app = server.admin(store, SystemClock(), Metrics(), "t0ken", asyncio.Event(), lambda: rung.append(None))
        async with TestClient(TestServer(app)) as client:
            assert (await client.post("/commands", data=body)).status == 401
            for wrong in ("Bearer", "Bearer ", "Bearer wrong"):
                assert (await client.post("/commands", data=body, headers={"Authorization": wrong})).status == 401
            answer = await client.post("/commands", data=body, headers={"Authorization": "Bearer t0ken"})
            assert answer.status == status and len(rung) == (status == 200)
            assert "message" in await answer.json() or status == 200
        app = server.admin(store, SystemClock(), Metrics(), "", asyncio.Event(), lambda: None)
        async with TestClient(TestServer(app)) as client:
            for headers in ({}, {"Authorization": "Bearer "}):
                assert (await client.post("/commands", data=body, headers=headers)).status == 401
