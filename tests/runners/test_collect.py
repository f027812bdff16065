"""Workspaces and what is collected from them: honest edits, ignored by-products, and everything hostile."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
from pathlib import Path

import pytest

from bot.runners import workspace
from bot.runners.collect import Collected, collect, tree_of
from bot.runners.workspace import Workspace
from schemas.change_request import Add, Chmod, Delete, Modify
from schemas.plan import Limits

ENV = {
    "PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@b",
    "GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@b",
}  # fmt: skip


def git(place: Path, *args: str) -> str:
    return subprocess.run(["git", *args], cwd=place, env=ENV, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    source = tmp_path / "source"
    (source / "dir").mkdir(parents=True)
    for name, text in {
        "a.txt": "one\r\ntwo\n", "dir/b.txt": "b\n", "dir/gone.txt": "g\n", "run.sh": "true\n",
        ".gitignore": "*.log\nbuild/\n", ".gitattributes": "* text=auto eol=lf\n", "bin": "\0\1\2",
    }.items():  # fmt: skip
        (source / name).write_bytes(text.encode())
    (source / "link").symlink_to("a.txt")
    (source / "dirlink").symlink_to("dir")
    (source / "out").symlink_to("/etc/hostname")
    git(source, "init", "-q", "-b", "main")
    git(source, "-c", "core.autocrlf=false", "add", "--all")
    git(source, "commit", "-q", "-m", "x")
    git(tmp_path, "clone", "-q", "--bare", "source", "mirror.git")
    return workspace.prepare(tmp_path / "mirror.git", git(source, "rev-parse", "HEAD"), tmp_path / "work")


def found(space: Workspace) -> Collected:
    return collect(space, Limits())


def test_an_untouched_workspace_has_no_edits(space: Workspace) -> None:
    assert found(space) == Collected()
    assert (space.folder / "link").read_bytes() == (space.folder / "a.txt").read_bytes()
    assert (space.folder / "dirlink" / "b.txt").read_text() == "b\n"
    assert not (space.folder / "out").exists()
    assert git(space.folder, "status", "--porcelain") == ""


def test_honest_edits(space: Workspace) -> None:
    work = space.folder
    (work / "a.txt").write_bytes(b"one\r\nthree\n")
    (work / "dir" / "gone.txt").unlink()
    (work / "run.sh").chmod(0o755)
    (work / "new" / "deep").mkdir(parents=True)
    (work / "new" / "deep" / "ä.txt").write_text("ä")
    (work / "new" / "raw").write_bytes(b"\xff\0")
    (work / "debug.log").write_text("ignored by the base's rules")
    (work / "build").mkdir()
    (work / "build" / "x").write_text("ignored")
    (work / "__pycache__").mkdir()
    (work / "__pycache__" / "x.pyc").write_text("a by-product")
    git(work, "add", "--all")
    git(work, "commit", "-q", "-m", "an agent may commit in there: nobody reads it back")
    edits = {edit.path: edit for edit in found(space).edits}
    assert {path: type(edit) for path, edit in edits.items()} == {
        "a.txt": Modify, "dir/gone.txt": Delete, "run.sh": Chmod, "new/deep/ä.txt": Add, "new/raw": Add,
    }  # fmt: skip
    modified, raw = edits["a.txt"], edits["new/raw"]
    assert isinstance(modified, Modify) and modified.data() == b"one\r\nthree\n"
    assert isinstance(raw, Add) and raw.encoding == "base64" and raw.data() == b"\xff\0"


def test_changed_ignore_rules_do_not_count(space: Workspace) -> None:
    (space.folder / ".gitignore").write_text("hidden.txt\n")
    (space.folder / "hidden.txt").write_text("x")
    (space.folder / "shown.log").write_text("still ignored by the base")
    assert found(space).paths == (".gitignore", "hidden.txt")


def test_a_file_becomes_a_folder(space: Workspace) -> None:
    (space.folder / "a.txt").unlink()
    (space.folder / "a.txt").mkdir()
    (space.folder / "a.txt" / "inner").write_text("x")
    assert found(space).paths == ("a.txt", "a.txt/inner")


@pytest.mark.parametrize("kind", ["link", "fifo", "socket", "hard link", "non-UTF-8", "huge", "newline"])
def test_what_can_be_no_part_of_a_change_is_named_and_never_opened(tmp_path: Path, space: Workspace, kind: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("canary")
    place = space.folder / "odd"
    match kind:
        case "link":
            place.symlink_to(secret)
        case "fifo":
            os.mkfifo(place)
        case "socket":
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(str(place))
        case "hard link":
            os.link(secret, place)
        case "non-UTF-8":
            Path(os.fsdecode(os.fsencode(space.folder) + b"/\xff\xfe")).write_text("x")
        case "newline":
            (space.folder / "a\nb").write_text("x")
        case _:
            with place.open("wb") as file:
                file.truncate(10 * 2**20)
    collected = found(space)
    assert collected.problems and not collected.edits
    assert "canary" not in str(collected)


def test_a_replaced_git_dir_is_not_read(tmp_path: Path, space: Workspace) -> None:
    ran = tmp_path / "ran"
    subprocess.run(["rm", "-rf", ".git"], cwd=space.folder, check=True)
    (space.folder / ".git").write_text(f"gitdir: {tmp_path}/source/.git\n")
    config = "[core]\n\tfsmonitor = touch " + str(ran) + "\n\thooksPath = /tmp\n"
    (tmp_path / "source" / ".git" / "config").write_text(config)
    (space.folder / "a.txt").write_text("x")
    assert found(space).paths == ("a.txt",)
    assert not ran.exists()


def test_what_was_locked_is_seen_all_the_same(space: Workspace) -> None:
    (space.folder / "dir" / "b.txt").write_text("changed")
    (space.folder / "dir").chmod(0o400)
    space.folder.chmod(0)
    assert found(space).paths == ("dir/b.txt",)


def test_a_wide_or_deep_workspace_needs_few_descriptors(space: Workspace) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for number in range(300):
        (space.folder / f"wide{number}").mkdir()
        (space.folder / f"wide{number}" / "x").write_text("")
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 150, hard))
    try:
        assert len(found(space).edits) == 300
        (space.folder / "/".join(["deep"] * 105)).mkdir(parents=True)
        assert "too deep" in found(space).problems[0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_taking_away_a_file_that_no_change_can_name_is_a_problem(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "a\nb").write_text("x")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "-q", "-m", "x")
    space = workspace.prepare(tmp_path / ".git", git(tmp_path, "rev-parse", "HEAD"), tmp_path / "work")
    (space.folder / "a\nb").unlink()
    (problem,) = found(space).problems
    assert problem.startswith("a\nb: ") and "a path holds no control characters" in problem


def test_the_tree_of_the_edits_is_what_lies_there(space: Workspace) -> None:
    work = space.folder
    (work / "a.txt").unlink()
    (work / "a.txt").mkdir()
    (work / "a.txt" / "inner").write_text("x")
    (work / "run.sh").chmod(0o755)
    (work / "dir" / "b.txt").write_text("other\n")
    made = workspace.export(space.git_dir, tree_of(space, found(space).edits), work.parent / "again")
    assert {name for name in made.files if name not in space.files} == {b"a.txt/inner"}
    assert b"a.txt" not in made.files and made.odd == space.odd
    assert (made.folder / "dir" / "b.txt").read_text() == "other\n"
    assert made.files[b"run.sh"].mode == 0o100755 and made.files[b"run.sh"].oid == space.files[b"run.sh"].oid


def test_limits(space: Workspace) -> None:
    for number in range(25):
        (space.folder / f"new{number}").write_text("x\n")
    problems = collect(space, Limits(files=20)).problems
    assert problems == ("25 files are changed, 20 are allowed",)


def test_an_unreadable_leftover_is_removed(space: Workspace) -> None:
    locked = space.folder / "locked"
    locked.mkdir()
    (locked / "x").write_text("x")
    locked.chmod(0)
    space.folder.chmod(0)
    workspace.remove(space.folder)
    assert not space.folder.exists()
