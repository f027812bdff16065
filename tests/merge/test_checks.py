"""Checks of the queue on real repositories: who a red train blames, after how many runs, and what a red base does."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from bot.cli.merge import Everybody, drive
from bot.clock import SystemClock
from bot.merge.lander import Lander
from bot.merge.local import LocalRemote
from bot.ports import CheckVerdict, Remote, no_faults
from bot.runners.checks import evidence
from bot.runners.sandbox import Finished
from bot.store.store import SqliteStore, open_store
from schemas.base import CheckCommand, Environment, Evidence
from schemas.change_request import ChangeRequest
from schemas.lane import EntryState, ErrorClass, NewEntry
from tests.merge.duel import Duel, Wanted, Zygote, modify, scene
from tests.merge.test_merge_command import change, git, merge, write

LANE = "local:refs/heads/main"
TESTS = CheckCommand(name="tests", command="make test", standing=True)
RED = Evidence(reason="the check 'tests' exited 1", check="tests", command="make test", exit_code=1, log="it broke\n")


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    made = tmp_path / "repo"
    made.mkdir()
    git(made, "init", "-q", "--initial-branch=main")
    (made / "state.txt").write_text("fine\n")
    for number in range(32):
        (made / f"file{number}.txt").write_text("old\n")
    git(made, "add", "--all")
    git(made, "commit", "-q", "-m", "Begin")
    git(made, "switch", "-q", "--detach")
    return made


class Listing:
    """A Checker that reads which files of the tree are changed. It keeps each run: (tree, what is changed in it)."""

    def __init__(self, *red: set[str], flake: Callable[[], bool] = bool) -> None:
        self.red, self.flake, self.trouble = red, flake, False
        self.runs: list[tuple[str, frozenset[str]]] = []

    async def check(
        self, git_dir: Path, tree: str, commands: Sequence[CheckCommand], environment: Environment
    ) -> CheckVerdict:
        if self.trouble:
            return CheckVerdict("unknown", Evidence(reason="no room"))
        grep = ["git", f"--git-dir={git_dir}", "grep", "-l", "new", tree]
        listed = subprocess.run(grep, capture_output=True, text=True, check=False).stdout.split()
        changed = frozenset(name.split(":")[1].removeprefix("file").removesuffix(".txt") for name in listed)
        again = tree in {tree for tree, _ in self.runs}
        self.runs.append((tree, changed))
        red = any(one <= changed for one in self.red) or (not again and self.flake())
        return CheckVerdict("red", RED) if red else CheckVerdict("green", summary="tests passed")

    @property
    def trees(self) -> set[str]:
        return {tree for tree, _ in self.runs}


class Hurried(SystemClock):
    """Sleeping costs nothing here."""

    slept = 0.0

    def wall(self) -> datetime:
        return super().wall() + timedelta(seconds=self.slept)

    async def sleep(self, seconds: float) -> None:
        self.slept += seconds


@asynccontextmanager
async def queue(
    repo: Path, checker: Listing, prober: Listing | None = None
) -> AsyncIterator[tuple[SqliteStore, Lander, Hurried]]:
    clock, local = Hurried(), LocalRemote(repo, "refs/heads/main")

    async def remote(_: str) -> Remote:
        return local

    async with open_store(repo / ".git" / "q.db", clock) as store:
        yield store, Lander(
            queue=store, remote=remote, checker=checker, confirmer=Everybody(), clock=clock, owner=store.owner,
            faults=no_faults, looks_again=True, prober=prober,
        ), clock  # fmt: skip


def entry(repo: Path, number: int) -> NewEntry:
    request = ChangeRequest.model_validate(change(repo, str(number), f"file{number}.txt", 0, "new"))
    return NewEntry(id=request.id, lane=LANE, change=request, checks=(TESTS,))


async def landed(repo: Path, checker: Listing, size: int = 32) -> tuple[list[str], list[str]]:
    """Who is on the branch, in order and by git, and who was sent back."""
    async with queue(repo, checker) as (store, lander, clock):
        await store.enqueue([entry(repo, number) for number in range(size)], clock.wall())
        assert await drive(store, lander, LANE, clock) == ""
        back = [one for one in await store.report(LANE) if one.state is EntryState.REWORK]
    assert all(one.error_class is ErrorClass.CHECK and one.evidence == RED for one in back)
    there = git(repo, "log", "--reverse", "--format=%(trailers:key=Change-Request,valueonly)", "main").split()
    return there, [one.id for one in back]


@pytest.mark.parametrize("bad", [0, 15, 16, 31])
async def test_one_bad_of_32_costs_12_runs_at_most(repo: Path, bad: int) -> None:
    checker = Listing({str(bad)})
    there, back = await landed(repo, checker)
    assert back == [str(bad)] and there == [str(number) for number in range(32) if number != bad]
    assert len(checker.trees) <= 12
    assert max(checker.runs.count(run) for run in checker.runs) <= 2
    assert checker.runs[-1][1] == {*there}, "what is on the branch was checked last"


async def test_a_search_has_slots_of_its_own(repo: Path) -> None:
    checker, prober = Listing({"3"}), Listing({"3"})
    async with queue(repo, checker, prober) as (store, lander, clock):
        await store.enqueue([entry(repo, number) for number in range(8)], clock.wall())
        assert await drive(store, lander, LANE, clock) == ""
    whole = frozenset(map(str, range(8)))
    assert [changed for _, changed in checker.runs] == [whole, whole - {"3"}], "whole trains, the second one green"
    assert [len(changed) for _, changed in prober.runs] == [8, 4, 4, 2, 3], "red once more, then whose it is"


@pytest.mark.parametrize(
    ("red", "back"),
    [([{"3"}, {"20"}], ["3", "20"]), ([{"4", "21"}], ["21"]), ([{"0"}, {"31"}], ["0", "31"]), ([{"7"}, {"8"}], ["7", "8"])],
    ids=["two", "together", "ends", "neighbours"],
)  # fmt: skip
async def test_several_are_all_found_and_of_two_the_later(repo: Path, red: list[set[str]], back: list[str]) -> None:
    there, found = await landed(repo, Listing(*red))
    assert found == back and there == [str(number) for number in range(32) if str(number) not in back]


@pytest.mark.parametrize("seed", range(3))
async def test_a_flaky_check_sends_nobody_back_and_is_named(repo: Path, seed: int) -> None:
    dice = random.Random(seed)
    checker = Listing({"5"}, flake=lambda: dice.random() < 0.5)
    there, back = await landed(repo, checker, 12)
    assert back == ["5"] and len(there) == 11
    flaked = {tree for tree, _ in checker.runs if [run[0] for run in checker.runs].count(tree) == 2}
    async with queue(repo, checker) as (store, _, _):
        rows = await store.database.rows("SELECT tree, body FROM verdicts")
    assert rows and all('"green"' in row["body"] for row in rows)
    assert {row["tree"] for row in rows if "'tests' failed once" in row["body"]} == flaked & {r["tree"] for r in rows}


async def test_a_kept_verdict_is_reused_and_a_red_one_is_asked_anew(repo: Path) -> None:
    """Sent again without a change (the machine was at fault), a change gets another run and no remembered red."""
    checker = Listing({"0"})
    assert await landed(repo, checker, 1) == ([], ["0"])
    before, checker.red = len(checker.runs), ()
    async with queue(repo, checker) as (store, lander, clock):
        await store.retry(LANE, ["0"], clock.wall())
        await drive(store, lander, LANE, clock)
    assert len(checker.runs) == before + 1
    git(repo, "update-ref", "refs/heads/main", "main~1")
    async with queue(repo, checker) as (store, lander, clock):
        await store.enqueue([entry(repo, 0).model_copy(update={"id": "other"})], clock.wall())
        await drive(store, lander, LANE, clock)
    assert len(checker.runs) == before + 1 and git(repo, "show", "main:file0.txt") == "new"
    git(repo, "update-ref", "refs/heads/main", "main~1")
    async with queue(repo, checker) as (store, lander, clock):
        older = "UPDATE verdicts SET body = replace(body, 'green', 'red')"  # a release that kept red ones too
        await store.database.write("meta", lambda conn: conn.execute(older))
        await store.enqueue([entry(repo, 0).model_copy(update={"id": "third"})], clock.wall())
        await drive(store, lander, LANE, clock)
    assert len(checker.runs) == before + 2 and git(repo, "show", "main:file0.txt") == "new"


async def test_an_infra_failure_that_stays_comes_to_an_end(repo: Path) -> None:
    checker = Listing()
    checker.trouble = True
    async with queue(repo, checker) as (store, lander, clock):
        await store.enqueue([entry(repo, number) for number in range(3)], clock.wall())
        assert await drive(store, lander, LANE, clock) == ""
        found = await store.report(LANE)
    assert {(one.state, one.error_class, one.error) for one in found} == {
        (EntryState.QUARANTINED, ErrorClass.INFRA, "no room")
    }
    assert 0 < clock.slept < 60


async def test_a_base_that_was_mended_without_a_move_is_looked_at_again(repo: Path) -> None:
    """A tool was missing, say: whoever runs the command again asks for another look, and waits for nothing."""
    checker = Listing(set())
    async with queue(repo, checker) as (store, lander, clock):
        await store.enqueue([entry(repo, number) for number in range(3)], clock.wall())
        assert "is red without any of the waiting changes" in await drive(store, lander, LANE, clock)
        assert len(checker.trees) == 3
        assert "is red" in await drive(store, lander, LANE, clock)
        checker.red = ()
        assert await drive(store, lander, LANE, clock) == "" and clock.slept == 0
        assert {one.state for one in await store.report(LANE)} == {EntryState.LANDED}


def test_a_red_base_is_exit_1_and_nobodys_fault(tmp_path: Path, repo: Path) -> None:
    requests = [change(repo, f"c{number}", f"file{number}.txt", 0, "new") for number in range(3)]
    source, check = write(tmp_path / "r.jsonl", requests), ("--check", "cat state.txt; grep -q fine state.txt")
    assert merge(repo, source, *check, "--db", str(tmp_path / "fine.db"))[0] == 0
    git(repo, "update-ref", "refs/heads/main", "main~3")
    break_it(repo, "broken \N{SNOWMAN}")
    head = git(repo, "rev-parse", "main")
    for _ in range(2):
        code, report, errors = merge(repo, source, *check)
        assert code == 1 and errors.count("\n") == 1
        assert "refs/heads/main is red" in errors and "'check' exited 1 (broken \N{SNOWMAN})" in errors
        assert "mend that first" in errors
        assert report["open"] == ["c0", "c1", "c2"] and report["submitted"] == 3 and report["head"] == head
        assert report["landed"] == report["noop"] == report["rework"] == report["quarantined"] == []
    break_it(repo, "fine")
    code, report, errors = merge(repo, source, *check)
    assert code == 0 and errors == "" and report["open"] == []
    assert [row["id"] for row in report["landed"]] == ["c0", "c1", "c2"]


def break_it(repo: Path, text: str) -> None:
    git(repo, "switch", "-q", "main")
    (repo / "state.txt").write_text(f"{text}\n")
    git(repo, "commit", "-q", "-a", "-m", f"Make it {text}")
    git(repo, "switch", "-q", "--detach")


def test_a_log_of_any_bytes_is_text_and_its_end_is_kept(tmp_path: Path, repo: Path) -> None:
    noise = r"head -c 300000 /dev/urandom; printf '\377\0\033[31m\033[0Gend\r\n'; exit 3"
    source = write(tmp_path / "r.jsonl", [change(repo, "c", "file0.txt", 0, "new")])
    code, report, _ = merge(repo, source, "--check", f"grep -q old file0.txt || {{ {noise}; }}")
    found = report["rework"][0]["evidence"]
    assert code == 1 and found["exit_code"] == 3
    assert len(found["log"]) <= 4000 and found["log"].endswith("\N{REPLACEMENT CHARACTER}end\n")
    assert not {*map(chr, range(32))} - {"\n", "\t"} & {*found["log"]}
    token = "ghp_" + "x" * 30
    cut = evidence(TESTS, Finished(1, f"{token}\n{'z' * 3980}", timed_out=False)).log
    assert "xxx" not in cut


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote.open() as found:
        yield found


@pytest.mark.slow
async def test_killed_after_each_probe_it_goes_on_behind_it(tmp_path: Path, zygote: Zygote) -> None:
    """Each life ends when one more run of the checks is stored (every second one: just before); none is run twice."""
    world = scene(tmp_path, random.Random(1), plain=0, there=0)
    wanted = Wanted()
    base = git(world.git_dir, "rev-parse", "main")
    old = git(world.git_dir, "show", "main:common/0.txt") + "\n"
    for number in range(6):
        end, text = ("rework", "broken\n") if number == 3 else ("landed", f"{number}\n")
        wanted.add(f"c{number}", base, end, {"op": "add", "path": f"{number}.txt", "content": text})
    wanted.add("edit", base, "landed", modify("common/0.txt", old, old + "more\n"))
    (tmp_path / "left.jsonl").write_text("".join(f"{one}\n" for one in map(json.dumps, wanted.requests)))
    duel = Duel(tmp_path, zygote, world._replace(wanted={"left": wanted}), check="! grep -rqx broken .")
    (side,) = duel.sides.values()
    while side.report is None and side.lives < 40:
        duel.start(side, "land:check:after" if side.lives % 2 else "commit:lane:checked:after")
        duel.gone(side)
        assert side.errors == ""
        await duel.look(side)
    assert side.report is not None, "it does not get on"
    assert [row["id"] for row in side.report["landed"]] == ["c0", "c1", "c2", "c4", "c5", "edit"]
    assert [row["id"] for row in side.report["rework"]] == ["c3"]
    # All red and again, the base, halves (two red and again, one green), the rest: each stored in a life of its own.
    assert side.lives <= 2 * 9 + 1
