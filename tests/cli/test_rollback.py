"""`interlock rollback`: the inverse of a landed change, whatever came after it."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bot.merge.commits import create
from bot.merge.objects import Commit, Objects
from bot.merge.rollback import invert, request
from bot.merge.threeway import merge as three_way
from bot.merge.trees import Blob, changes_between, lookup, rewrite
from schemas.base import Evidence
from tests.cli.commands import interlock
from tests.merge.test_merge_command import git, merge, repo, write
from tests.store.parts import T0

assert repo  # the fixture
PATH = "dir0/file0.txt"
SEEDS = int(40 * float(os.environ.get("INTERLOCK_SOAK", "1")))


def landed(repo: Path, folder: Path, name: str, *edits: dict[str, Any]) -> str:
    """One change on today's head, landed; its commit."""
    head = git(repo, "rev-parse", "main")
    for edit in edits:
        if edit["op"] != "add":
            edit["before"] = git(repo, "rev-parse", f"{head}:{edit.get('from', edit['path'])}")
    given = {"version": 1, "id": name, "base": head, "title": f"Change {name}", "patch": list(edits)}
    code, report, errors = merge(repo, write(folder / f"{name.replace('/', '-')}.jsonl", [given]))
    assert code == 0, (errors, report)
    return str(report["head"])


def line(repo: Path, number: int, text: str, path: str = PATH) -> dict[str, Any]:
    lines = git(repo, "show", f"main:{path}").splitlines()
    lines[number] = text
    return {"op": "modify", "path": path, "content": "\n".join(lines) + "\n"}


def rolled(repo: Path, what: str, *more: str) -> tuple[int, dict[str, Any], str]:
    done = interlock("rollback", what, "--repo", repo, "--json", *more)
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


@pytest.mark.slow
def test_the_third_of_ten_changes(tmp_path: Path, repo: Path) -> None:
    for number in range(10):
        landed(repo, tmp_path, f"c{number}", line(repo, 2 * (number if number not in (5, 8) else 2), f"by c{number}"))
    code, report, errors = rolled(repo, "c2")
    assert (
        code == 1 and [one["change"] for one in report["dependants"]] == ["c8", "c5"] and report["state"] == "refused"
    )
    assert "(c5)" in errors and "(c8)" in errors and "--with-dependants" in errors
    before = git(repo, "rev-parse", "main")
    code, report, errors = rolled(repo, "c7")
    assert code == 0 and report["state"] == "landed" and [one["change"] for one in report["taken"]] == ["c7"], errors
    assert (
        git(repo, "show", f"main:{PATH}").splitlines()[14] == "line 14" and git(repo, "rev-parse", "main~1") == before
    )
    code, report, errors = rolled(repo, "c2", "--with-dependants")
    assert code == 0 and [one["change"] for one in report["taken"]] == ["c8", "c5", "c2"], errors
    lines = git(repo, "show", f"main:{PATH}").splitlines()
    assert lines[4] == "line 4" and lines[6] == "by c3" and lines[18] == "by c9"
    assert "Change-Request: rollback/c2" in git(repo, "log", "-1", "--format=%B", "main")
    code, report, _ = rolled(repo, "c2")
    assert code == 0 and report["state"] == "noop" and "rolled back already" in report["reason"]
    code, report, _ = rolled(repo, "rollback/c7")
    assert code == 0 and report["id"] == "rollback/rollback/c7"
    code, report, _ = rolled(repo, "c7")
    assert code == 0 and report["id"] == "rollback/c7.2"
    assert interlock("replay", "--repo", repo).returncode == 0


def test_added_deleted_moved_binary_and_executable_files(tmp_path: Path, repo: Path) -> None:
    first = git(repo, "rev-parse", "main^{tree}")
    landed(
        repo, tmp_path, "all",
        {"op": "add", "path": "new/größe.txt", "content": "1\n2\n3\n4\n5\n6\n7\n8\n"},
        {"op": "add", "path": "new/b.bin", "content": "AAH/", "encoding": "base64"},
        {"op": "delete", "path": "dir1/file1.txt"}, {"op": "rename", "from": "dir2/file2.txt", "path": "moved.txt"},
        {"op": "chmod", "path": "dir3/file3.txt", "mode": "100755"},
        {"op": "modify", "path": "dir4/file4.txt", "content": "AAH/", "encoding": "base64"},
    )  # fmt: skip
    landed(repo, tmp_path, "else", line(repo, 3, "kept"))
    code, report, errors = rolled(repo, "all")
    assert code == 0 and report["state"] == "landed", (errors, report)
    assert git(repo, "diff", "--stat", first, "main", "--", ":!dir0") == ""
    code, _, errors = rolled(repo, "rollback/all")
    assert code == 0, errors
    content = "1\n2\n3\n4\n5\nsix\n7\n8\n"
    landed(repo, tmp_path, "edit", {"op": "modify", "path": "new/größe.txt", "content": content})
    code, report, _ = rolled(repo, "all")
    assert code == 1 and [one["change"] for one in report["dependants"]] == ["edit"]
    code, report, errors = rolled(repo, "all", "--with-dependants")
    assert code == 0 and git(repo, "diff", "--stat", first, "main", "--", ":!dir0") == "", errors


def test_a_ticket_s_commits_are_one_request_and_a_foreign_commit_may_be_in_the_way(tmp_path: Path, repo: Path) -> None:
    head = git(repo, "rev-parse", "main")
    for number in (1, 2):
        tree = git(repo, "rev-parse", "main^{tree}")
        file = tmp_path / f"t{number}"
        file.write_text(f"task {number}\n")
        blob = git(repo, "hash-object", "-w", str(file))
        listed = f"{git(repo, 'ls-tree', tree)}\n100644 blob {blob}\tt{number}.txt\n"
        made = subprocess.run(
            ["git", "-C", str(repo), "mktree"], input=listed, text=True, capture_output=True, check=True
        )
        said = f"T{number}\n\nTicket: o/r#1\nTask: o/r#1/{number}\nChange-Request: o/r#1/{number}.1"
        new = git(repo, "commit-tree", made.stdout.strip(), "-p", "main", "-m", said)
        git(repo, "update-ref", "refs/heads/main", new)
    landed(repo, tmp_path, "between", line(repo, 3, "kept"))
    code, report, errors = rolled(repo, "o/r#1")
    assert code == 0 and len(report["taken"]) == 2 and report["id"] == "rollback/o/r#1", errors
    assert git(repo, "diff", "--stat", head, "main", "--", ":!dir0") == ""
    landed(repo, tmp_path, "own", line(repo, 9, "ours"))
    git(repo, "switch", "-q", "main")
    (repo / PATH).write_text(git(repo, "show", f"main:{PATH}").replace("ours", "a person's") + "\n")
    git(repo, "commit", "-q", "-a", "-m", "By hand")
    git(repo, "switch", "-q", "--detach")
    code, report, errors = rolled(repo, "own")
    assert code == 1 and report["dependants"][0]["change"] == "By hand" and "(By hand)" in errors


def test_what_cannot_be_rolled_back(tmp_path: Path, repo: Path) -> None:
    landed(repo, tmp_path, "one", line(repo, 3, "x"))
    code, _, errors = rolled(repo, "on")
    assert code == 1 and "did you mean one?" in errors
    assert rolled(repo, "one", "--target", "other")[0] == 2
    on_a_bot = interlock("rollback", "octo/app#1", DATA_DIR=tmp_path)
    assert on_a_bot.returncode == 2 and "/interlock rollback" in on_a_bot.stderr
    git(repo, "switch", "-q", "main")
    checked_out = rolled(repo, "one")
    assert checked_out[0] == 2 and "is checked out" in checked_out[2]


@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_rest_is_as_if_it_had_landed_alone(tmp_path: Path, repo: Path, seed: int) -> None:
    rng = random.Random(seed)
    objects, start = Objects(repo / ".git"), git(repo, "rev-parse", "main")
    head, made = start, []
    for number in range(12):
        tree = objects.tree_of(head)
        changes: dict[str, Blob | None] = {}
        for path in rng.sample([f"dir{n}/file{n}.txt" for n in range(3)], rng.choice((1, 1, 2))):
            known = lookup(objects, tree, path)
            if known is None or rng.random() < 0.1:
                lines = [f"line {n} of {number}" for n in range(20)] if known is None else []
            else:
                lines = objects.blob(known.oid).decode().splitlines()
                lines[rng.randrange(0, len(lines), 4)] = f"by {number}"
            text = "".join(f"{one}\n" for one in lines).encode()
            changes[path] = Blob(objects.add_blob(text), 0o100644) if lines else None
        new = create(
            objects, head, rewrite(objects, tree, changes), f"Change {number}\n\nChange-Request: c{number}\n", T0
        )
        made.append(objects.commit(new))
        head = new
    target = rng.choice(made)
    found = invert(objects, head, [target])
    taken = {commit.oid for commit in found.taken}
    if found.gone:
        return
    assert target.oid in taken and found.tree is not None
    alone: str | None = objects.tree_of(start)
    for commit in made:
        if commit.oid not in taken and alone is not None:
            alone = _onto(objects, commit, alone)
    if alone is not None:
        assert found.tree == alone
        if found.tree != objects.tree_of(head):
            assert request(objects, "rollback/x", head, found).base == head


def _onto(objects: Objects, commit: Commit, tree: str) -> str | None:
    before = objects.tree_of(commit.parents[0])
    merged = three_way(objects, before, tree, changes_between(objects, before, commit.tree))
    return None if isinstance(merged, Evidence) else merged.tree


def test_a_change_that_was_rolled_back_is_gone_whatever_came_later_on_its_lines(tmp_path: Path, repo: Path) -> None:
    landed(repo, tmp_path, "one", line(repo, 3, "x"))
    assert rolled(repo, "one")[0] == 0
    head = landed(repo, tmp_path, "later", line(repo, 3, "y"))
    code, report, errors = rolled(repo, "one")
    assert code == 0 and report["state"] == "noop" and git(repo, "rev-parse", "main") == head, errors
