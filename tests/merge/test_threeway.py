"""The path-level merge against `git merge-tree`: the same verdict, and the same tree where both are clean."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pygit2
import pytest

from bot.merge.objects import Objects
from bot.merge.threeway import merge_commits
from schemas.base import Evidence

ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
NAMES = ["a.txt", "dir/b.txt", "dir/c.txt", "dir/sub/d.txt", "e.bin", "Übung/ä.txt", "x.sh"]


def random_files(dice: random.Random) -> dict[str, tuple[bytes, int]]:
    found: dict[str, tuple[bytes, int]] = {}
    for name in NAMES:
        if dice.random() < 0.85:
            text = "".join(f"{name} line {n}\n" for n in range(dice.choice([0, 3, 12]))).encode()
            found[name] = (b"\0\1" + text if name.endswith("bin") else text, 0o100644)
    return found


def mutate(files: dict[str, tuple[bytes, int]], dice: random.Random) -> dict[str, tuple[bytes, int]]:
    found = dict(files)
    for _ in range(dice.randint(1, 4)):
        name = dice.choice(NAMES)
        data, mode = found.get(name, (b"", 0o100644))
        match dice.randint(0, 6):
            case 0:
                found.pop(name, None)
            case 1:
                found[name] = (f"new {dice.randint(0, 2)}\n".encode(), mode)
            case 2:
                found[name] = (data, 0o100755)
            case 3:
                found[name] = (data + f"tail {dice.randint(0, 2)}".encode(), mode)
            case _:
                lines = data.split(b"\n")
                lines[dice.randrange(len(lines))] = f"changed {dice.randint(0, 3)}".encode()
                found[name] = (b"\n".join(lines), mode)
    return found


def commit(repo: pygit2.Repository, files: dict[str, tuple[bytes, int]], parents: list[str]) -> str:
    index = pygit2.Index()
    for name, (data, mode) in files.items():
        index.add(pygit2.IndexEntry(name, repo.create_blob(data), pygit2.enums.FileMode(mode)))
    who = pygit2.Signature("A", "a@example.org", 1, 0)
    return str(repo.create_commit(None, who, who, "x", index.write_tree(repo), [pygit2.Oid(hex=p) for p in parents]))


@pytest.mark.parametrize("seed", range(8))
def test_as_git_says(tmp_path: Path, seed: int) -> None:
    repo = pygit2.init_repository(str(tmp_path / "r.git"), bare=True)
    clean = conflicts = 0
    for number in range(60):
        dice = random.Random(seed * 1000 + number)
        files = random_files(dice)
        base = commit(repo, files, [])
        ours, theirs = (commit(repo, mutate(files, dice), [base]) for _ in range(2))
        told = subprocess.run(
            ["git", f"--git-dir={repo.path}", "-c", "merge.renames=false", "merge-tree", "--write-tree", ours, theirs],
            capture_output=True, text=True, env=ENV, check=False,
        )  # fmt: skip
        found = merge_commits(Objects(Path(repo.path)), base, ours, theirs)
        if isinstance(found, Evidence):
            conflicts += 1
            assert told.returncode == 1, (seed, number)
            assert found.path
        else:
            clean += 1
            assert told.returncode == 0, (seed, number, told.stdout)
            assert found.tree == told.stdout.split()[0], (seed, number)
    assert clean > 10 and conflicts > 5


def test_a_submodule_with_the_name_of_the_attributes_is_read_by_nobody(tmp_path: Path) -> None:
    repo = pygit2.init_repository(str(tmp_path / "r.git"), bare=True)

    def tree(text: bytes) -> str:
        builder = repo.TreeBuilder()
        builder.insert(".gitattributes", "1" * 40, pygit2.enums.FileMode.COMMIT)
        builder.insert("a.txt", repo.create_blob(text), pygit2.enums.FileMode.BLOB)
        return str(builder.write())

    found = merge_commits(Objects(Path(repo.path)), tree(b"a\n"), tree(b"b\n"), tree(b"c\n"))
    assert isinstance(found, Evidence) and found.path == "a.txt"


@pytest.mark.parametrize(
    ("ours", "theirs", "met"),
    [
        ({"Read.md": "x"}, {"read.md": "y"}, "Read.md"),
        ({"Docs/a.md": "x"}, {"docs/b.md": "y"}, "Docs"),
        ({"e\u0301.md": "x"}, {"\u00e9.md": "y"}, "e\u0301.md"),
        ({"Read.md": "x"}, {"Read.md": "x"}, None),
        ({"odd.md": "x"}, {"ODD.md": "y"}, None),
        ({}, {"keep/new.md": "y"}, None),
    ],
    ids=["file", "folder", "composition", "same", "as before", "neighbour"],
)
def test_two_sides_never_make_names_that_are_one_to_many_file_systems(
    tmp_path: Path, ours: dict[str, str], theirs: dict[str, str], met: str | None
) -> None:
    """Git merges them without a conflict. A twin that the base had already is nobody's news."""
    repo = pygit2.init_repository(str(tmp_path / "r.git"), bare=True)
    start = {"keep/a.md": (b"a", 0o100644), "odd.md": (b"odd", 0o100644)}

    def side(files: dict[str, str]) -> str:
        return commit(repo, start | {name: (text.encode(), 0o100644) for name, text in files.items()}, [base])

    base = commit(repo, start, [])
    found = merge_commits(Objects(Path(repo.path)), base, side(ours), side(theirs))
    assert (met is None) == (not isinstance(found, Evidence))
    if met is not None:
        assert isinstance(found, Evidence)
        assert found.path == next(iter(theirs)) and f": {met}, which differs in case" in found.reason
