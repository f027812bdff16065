"""`interlock bench impact`: which tests a history changed with its code, of which commits, and why some were not named."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bot.bench import impact
from tests.cli.commands import said


def commit(repo: Path, message: str, **files: str) -> None:
    for name, text in files.items():
        path = repo / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "-C", repo, "add", "--all"], check=True)
    subprocess.run(["git", "-C", repo, *who, "commit", "-q", "-m", message], check=True)


def test_the_share_of_tests_named_is_that_of_a_history_known_by_hand(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    subprocess.run(["git", "init", "-q", repo], check=True)
    commit(
        repo, "start", a="", b="import a\n", c="", tests__test_a="", tests__test_far="import b\n", tests__test_alone="",
        tests__test_c="import c\n",
    )  # fmt: skip
    commit(
        repo,
        "by name, through b, and by chance",
        a="1",
        tests__test_a="1",
        tests__test_far="import b  # 1\n",
        tests__test_alone="1",
    )
    commit(repo, "elsewhere", a="2", tests__test_c="import c  # 2\n")
    commit(repo, "only code", a="3")
    commit(repo, "only tests", tests__test_a="4")
    commit(repo, "a new test", a="5", tests__test_new="import a\n")
    before = subprocess.run(["git", "-C", repo, "status", "--porcelain"], capture_output=True, check=True).stdout
    found = said("bench", "impact", "--repo", repo)["cochange"]
    assert (found["commits"], found["tests"], found["named"], found["share"]) == (2, 4, 2, 0.5)
    assert found["share_within_steps"] == {"0": 0.25, "1": 0.25, "2": 0.5, "3": 0.5}
    missed = {why: [example.split()[1] for example in one["examples"]] for why, one in found["misses"].items()}
    assert [missed[why] for why in sorted(missed)] == [["tests/test_alone.py"], ["tests/test_c.py"]]
    assert "imports nothing" in min(missed) and "imports other code" in max(missed)
    assert (
        subprocess.run(["git", "-C", repo, "status", "--porcelain"], capture_output=True, check=True).stdout == before
    )
    assert not (repo / ".git" / "interlock").exists()
    assert said("bench", "impact", "--repo", repo, "--commits", "1")["cochange"]["commits"] == 1


@pytest.mark.slow
def test_two_thousand_files_are_read_and_one_of_them_again(tmp_path: Path) -> None:
    git_dir = impact.synthetic(tmp_path / "repo.git")
    found = impact.speed(git_dir, tmp_path)
    assert found["sources"] >= impact.FILES and not found["unread"] and found["bytes"] > 5_000_000
    assert found["warm_seconds"] < found["cold_seconds"]
    assert found["warm_cpu_seconds"] < 1, "far above what is promised on a machine of one's own"
    assert "cold" in impact.text({"speed": found})
