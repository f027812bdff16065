"""`interlock replay` of a local queue: the same commits from the records alone, and the first one that is not."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

from tests.cli.commands import interlock, said
from tests.merge.test_merge_command import change, git, merge, repo, write

assert repo  # the fixture
MANY = int(100 * float(os.environ.get("INTERLOCK_SOAK", "1")))


def queue_of(repo: Path) -> sqlite3.Connection:
    return sqlite3.connect(repo / ".git" / "interlock" / "queue.db")


def test_a_whole_lane_comes_out_the_same_and_the_repository_is_not_written_to(tmp_path: Path, repo: Path) -> None:
    some = [change(repo, f"c{n}", f"dir{n % 5}/file{n % 40}.txt", n // 40 * 3, f"by c{n}") for n in range(40)]
    requests = [{**some[n % 40], "id": f"c{n}"} if n < 40 else _adding(some[0]["base"], n) for n in range(MANY)]
    code, report, errors = merge(repo, write(tmp_path / "r.jsonl", requests))
    assert code == 0, errors
    git(repo, "commit", "-q", "--allow-empty", "-m", "Foreign")
    git(repo, "update-ref", "refs/heads/main", git(repo, "commit-tree", "main^{tree}", "-p", "main", "-m", "Foreign"))
    merge(repo, write(tmp_path / "more.jsonl", [_adding(some[0]["base"], 10_000)]))
    before = sorted((path, path.stat().st_size) for path in (repo / ".git").rglob("*") if "interlock" not in path.parts)
    found = said("replay", "--repo", repo)
    assert (
        found["difference"] is None and found["commits"] == len(report["landed"]) + 1 and found["trains"] > MANY // 33
    )
    assert before == sorted(
        (path, path.stat().st_size) for path in (repo / ".git").rglob("*") if "interlock" not in path.parts
    )
    assert interlock("replay", "--repo", repo, "--lane", "local:refs/heads/mian").returncode == 1


def _adding(base: str, number: int) -> dict[str, object]:
    edit = {"op": "add", "path": f"new/{number % 7}/{number}.txt", "content": f"{number}\n", "encoding": "utf-8"}
    return {"version": 1, "id": f"c{number}", "base": base, "title": f"Add {number}", "patch": [edit]}


def test_what_was_changed_in_the_records_is_the_first_difference(tmp_path: Path, repo: Path) -> None:
    requests = [change(repo, name, f"dir{n}/file{n}.txt", 2, name) for n, name in enumerate(("one", "two"))]
    merge(repo, write(tmp_path / "r.jsonl", requests))
    with queue_of(repo) as conn:
        conn.execute("""UPDATE entry_bodies SET change = replace(change, 'Change two', 'Change 2')
            WHERE seq = (SELECT seq FROM entries WHERE id = 'two')""")
    conn.close()
    done = interlock("replay", "--repo", repo, "--json")
    difference = json.loads(done.stdout)["difference"]
    assert done.returncode == 1 and "two" in difference["where"] and "message differ" in difference["what"]
    with queue_of(repo) as conn:
        conn.execute(
            "UPDATE entry_bodies SET body = '{}', change = '' WHERE seq = (SELECT seq FROM entries WHERE id = 'one')"
        )
    conn.close()
    erased = interlock("replay", "--repo", repo)
    assert erased.returncode == 1 and "its content was erased: it cannot be replayed" in erased.stderr
