"""`interlock merge` as its users run it: a real repository, a process, kill -9 in the middle."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bot.clock import SystemClock
from bot.store.store import open_store
from schemas.change_request import ChangeRequest
from schemas.lane import NewEntry

ROOT = Path(__file__).parents[2]
INTERLOCK = [sys.executable, "-m", "bot.cli.main"]


def git(repo: Path, *args: str) -> str:
    command = ["git", "-C", str(repo), "-c", "user.name=A", "-c", "user.email=a@example.org", *args]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    made = tmp_path / "repo"
    made.mkdir()
    git(made, "init", "-q", "--initial-branch=main")
    for number in range(40):
        place = made / f"dir{number % 5}" / f"file{number}.txt"
        place.parent.mkdir(exist_ok=True)
        place.write_text("".join(f"line {line}\n" for line in range(20)))
    git(made, "add", "--all")
    git(made, "commit", "-q", "-m", "Begin")
    git(made, "switch", "-q", "--detach")
    return made


def change(repo: Path, name: str, path: str, line: int, text: str) -> dict[str, Any]:
    base = git(repo, "rev-parse", "main")
    before = git(repo, "rev-parse", f"{base}:{path}")
    lines = git(repo, "show", f"{base}:{path}").splitlines()
    lines[line] = text
    edit = {"op": "modify", "path": path, "before": before, "content": "\n".join(lines) + "\n"}
    return {"version": 1, "id": name, "base": base, "title": f"Change {name}", "patch": [edit]}


def merge(repo: Path, requests: Path, *more: str) -> tuple[int, dict[str, Any], str]:
    command = [
        *INTERLOCK,
        "merge",
        "--repo",
        str(repo),
        "--target",
        "main",
        "--requests",
        str(requests),
        "--json",
        *more,
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


def write(place: Path, requests: list[dict[str, Any]]) -> Path:
    place.write_text("".join(json.dumps(request) + "\n" for request in requests))
    return place


def test_what_fits_lands_in_order_and_what_conflicts_comes_back(tmp_path: Path, repo: Path) -> None:
    requests = [
        change(repo, "one", "dir0/file0.txt", 2, "first"),
        change(repo, "two", "dir0/file0.txt", 15, "second"),
        change(repo, "rival", "dir0/file0.txt", 2, "other"),
        change(repo, "same", "dir0/file0.txt", 2, "first"),
        {"version": 1, "id": "bad", "base": requests_base(repo), "patch": [{"op": "delete", "path": ".git/config"}]},
    ]
    code, report, _ = merge(repo, write(tmp_path / "r.jsonl", requests))
    assert code == 1
    assert [row["id"] for row in report["landed"]] == ["one", "two"]
    assert report["noop"] == ["same"]
    assert [row["id"] for row in report["rework"]] == ["rival"]
    assert report["rework"][0]["evidence"]["path"] == "dir0/file0.txt"
    assert [(row["id"], row["class"]) for row in report["quarantined"]] == [("bad", "invalid")]
    assert report["submitted"] == 5
    text = git(repo, "show", "main:dir0/file0.txt").splitlines()
    assert (text[2], text[15]) == ("first", "second")
    assert report["head"] == git(repo, "rev-parse", "main")
    assert "Change-Request: two" in git(repo, "log", "-1", "--format=%B", "main")
    git(repo, "fsck", "--strict")


def test_a_linked_work_tree_means_its_repository(tmp_path: Path, repo: Path) -> None:
    linked = tmp_path / "linked"
    git(repo, "worktree", "add", "-q", "--detach", str(linked))
    requests = [change(repo, "one", "dir0/file0.txt", 1, "first")]
    code, report, errors = merge(linked, write(tmp_path / "r.jsonl", requests))
    assert code == 0 and report["head"] == git(repo, "rev-parse", "main"), errors
    assert (repo / ".git" / "interlock" / "queue.db").exists()


def requests_base(repo: Path) -> str:
    return git(repo, "rev-parse", "main")


def test_a_second_run_lands_nothing_twice(tmp_path: Path, repo: Path) -> None:
    requests = [change(repo, f"c{n}", f"dir{n % 5}/file{n}.txt", 3, f"text {n}") for n in range(40)]
    source = write(tmp_path / "r.jsonl", requests)
    code, report, _ = merge(repo, source)
    head = git(repo, "rev-parse", "main")
    assert code == 0 and len(report["landed"]) == 40
    code, again, _ = merge(repo, source)
    assert code == 0 and git(repo, "rev-parse", "main") == head and again["landed"] == report["landed"]
    code, fresh, _ = merge(repo, source, "--db", str(tmp_path / "other.db"))
    assert code == 0 and git(repo, "rev-parse", "main") == head and len(fresh["landed"]) == 40


@pytest.mark.slow
def test_killed_at_any_time_it_goes_on(tmp_path: Path, repo: Path) -> None:
    requests = [change(repo, f"c{n}", f"dir{n % 5}/file{n % 40}.txt", n // 40, f"text {n}") for n in range(200)]
    source = write(tmp_path / "r.jsonl", requests)
    command = [*INTERLOCK, "merge", "--repo", str(repo), "--target", "main", "--requests", str(source)]
    for delay in (0.7, 0.9, 1.0, 1.1):
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
            time.sleep(delay)  # the kill is meant to come at no particular moment
            child.kill()
    code, report, _ = merge(repo, source)
    ids = [row["id"] for row in report["landed"]] + report["noop"] + [row["id"] for row in report["rework"]]
    assert sorted(ids) == sorted(f"c{n}" for n in range(200)) and report["submitted"] == 200
    trailers = git(repo, "log", "--format=%(trailers:key=Change-Request,valueonly)", "main").split()
    assert sorted(trailers) == sorted(row["id"] for row in report["landed"])
    assert code == (1 if report["rework"] else 0)


def test_a_check_gates_what_lands(tmp_path: Path, repo: Path) -> None:
    requests = [
        change(repo, "good", "dir0/file0.txt", 1, "fine"),
        change(repo, "bad", "dir1/file1.txt", 1, "broken"),
        change(repo, "late", "dir2/file2.txt", 1, "fine"),
    ]
    code, report, _ = merge(repo, write(tmp_path / "r.jsonl", requests), "--check", "! grep -rq broken .")
    assert code == 1
    assert {row["id"] for row in report["landed"]} == {"good", "late"}
    assert report["rework"][0]["evidence"]["exit_code"] == 1


async def test_what_waits_for_another_branch_holds_nothing_up(tmp_path: Path, repo: Path) -> None:
    """As after a run for another --target that was killed: its entries are still in the database."""
    waiting = ChangeRequest.model_validate(change(repo, "waiting", "dir0/file0.txt", 1, "x"))
    clock = SystemClock()
    async with open_store(tmp_path / "q.db", clock) as store:
        lane = "local:refs/heads/other"
        await store.enqueue([NewEntry(id=waiting.id, lane=lane, change=waiting)], clock.wall())
    source = write(tmp_path / "r.jsonl", [change(repo, "one", "dir1/file1.txt", 1, "x")])
    code, report, _ = merge(repo, source, "--db", str(tmp_path / "q.db"))
    assert code == 0 and [row["id"] for row in report["landed"]] == ["one"] and report["submitted"] == 1


def test_wrong_usage_is_exit_2_in_one_line(tmp_path: Path, repo: Path) -> None:
    source = write(tmp_path / "r.jsonl", [change(repo, "one", "dir0/file0.txt", 1, "x")])
    code, _, errors = merge(repo, tmp_path / "nothing")
    assert code == 2 and errors.count("\n") == 1
    git(repo, "switch", "-q", "main")
    code, _, errors = merge(repo, source)
    assert code == 2 and "checked out" in errors and errors.count("\n") == 1
    git(repo, "switch", "-q", "--detach")
    assert merge(repo, source, "--db", str(tmp_path / "q.db"))[0] == 0
    other = tmp_path / "copy"
    git(tmp_path, "clone", "-q", "--bare", str(repo), str(other))
    code, _, errors = merge(other, source, "--db", str(tmp_path / "q.db"))
    assert code == 2 and "--db" in errors


def touching(repo: Path) -> list[dict[str, Any]]:
    """Two changes of neighbouring lines: they touch, and do not overlap."""
    return [change(repo, f"line{line}", "dir0/file0.txt", line, f"by line{line}") for line in (2, 3)]


def test_what_a_higher_rung_merged_lands_behind_a_check_alone(tmp_path: Path, repo: Path) -> None:
    source = write(tmp_path / "r.jsonl", touching(repo))
    for number, (more, landed) in enumerate([
        ((), ["line2"]),
        (("--rungs", "safe"), ["line2"]),
        (("--rungs", "safe", "--check", "true"), ["line2", "line3"]),
    ]):  # fmt: skip
        start = git(repo, "rev-parse", "main")
        code, report, errors = merge(repo, source, *more, "--db", str(tmp_path / f"{number}.db"))
        assert [row["id"] for row in report["landed"]] == landed, errors
        assert code == (0 if len(landed) == 2 else 1)
        if more and code:
            assert "'safe'" in report["rework"][0]["reason"] and "check" in report["rework"][0]["reason"]
        git(repo, "update-ref", "refs/heads/main", start)


def test_the_driver_is_the_operators_setting(tmp_path: Path, repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = [change(repo, name, "dir0/file0.txt", 2, name) for name in ("ours", "theirs")]
    source = write(tmp_path / "r.jsonl", both)
    code, _, errors = merge(repo, source, "--rungs", "driver", "--check", "true")
    assert code == 2 and "INTERLOCK_MERGE_DRIVER" in errors
    driver = tmp_path / "driver"
    driver.write_text('#!/bin/sh\ncat "$3" >> "$2"\n')
    driver.chmod(0o755)
    monkeypatch.setenv("INTERLOCK_MERGE_DRIVER", f"{driver} %O %A %B")
    code, report, errors = merge(repo, source, "--rungs", "driver", "--check", "true")
    assert code == 0 and len(report["landed"]) == 2, errors
    assert git(repo, "show", "main:dir0/file0.txt").splitlines().count("theirs") == 1


def test_a_policy_holds_and_a_broken_one_is_named(tmp_path: Path, repo: Path) -> None:
    source, policy = write(tmp_path / "r.jsonl", touching(repo)), tmp_path / "policy.yml"
    policy.write_text("protectd: [a]\n")
    code, _, errors = merge(repo, source, "--policy", str(policy))
    assert code == 2 and errors.startswith(f"interlock: {policy}: protectd:") and errors.count("\n") == 1
    policy.write_text("protected: ['dir0/**']\nchecks: [{name: fine, command: 'true'}]\nrungs: safe\n")
    code, report, _ = merge(repo, source, "--policy", str(policy))
    assert code == 1 and not report["landed"] and report["submitted"] == len(report["quarantined"]) == 2
    assert all(row["class"] == "policy" and "protected" in row["reason"] for row in report["quarantined"])
    policy.write_text("checks: [{name: fine, command: 'true'}]\nrungs: safe\n")
    code, report, errors = merge(repo, source, "--policy", str(policy), "--db", str(tmp_path / "other.db"))
    assert code == 0 and len(report["landed"]) == 2, errors
