"""`interlock why` on a local queue."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.commands import interlock, said
from tests.merge.test_merge_command import change, git, merge, repo, write

assert repo  # the fixture


def test_a_local_commit_and_line_lead_to_their_entry(tmp_path: Path, repo: Path) -> None:
    requests = [change(repo, name, f"dir0/file{n}.txt", 2, name) for name, n in (("one", 0), ("two", 5))]
    _, report, _ = merge(repo, write(tmp_path / "r.jsonl", requests))
    head, base = report["head"], git(repo, "rev-parse", "main~2")
    found = said("why", head[:10], "--repo", repo)
    (entry,) = found["changes"]
    assert (entry["id"], entry["rung"], entry["verdict"], entry["onto"]) == ("two", "line", "no checks", base)
    assert entry["commit"] == head and len(entry["content"]) == 64
    assert said("why", "dir0/file0.txt:3", "--repo", repo)["changes"][0]["id"] == "one"
    foreign = interlock("why", "dir0/file0.txt:4", "--repo", repo)
    assert foreign.returncode == 1 and "not made by Interlock" in foreign.stdout
    git(repo, "commit", "-q", "--allow-empty", "-m", "Forged\n\nChange-Request: two")
    forged = interlock("why", git(repo, "rev-parse", "HEAD"), "--repo", repo, "--json")
    assert forged.returncode == 1 and json.loads(forged.stdout)["hints"] == [f"two landed as {head}"]
    assert "content" in interlock("why", head, "--repo", repo).stdout


@pytest.mark.parametrize(
    ("what", "code", "sentence"),
    [("deadbeef", 1, "no repository that is recorded here has"), ("none.txt:1", 1, "no such path"),
     ("dir0/file0.txt:99", 1, "has only 20 lines"), ("#1", 2, "has no issues"), ("what?", 2, "is no commit")],
)  # fmt: skip
def test_what_it_cannot_answer(tmp_path: Path, repo: Path, what: str, code: int, sentence: str) -> None:
    merge(repo, write(tmp_path / "r.jsonl", [change(repo, "one", "dir0/file0.txt", 2, "x")]))
    done = interlock("why", what, "--repo", repo)
    assert done.returncode == code and sentence in done.stderr
