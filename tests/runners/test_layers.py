"""Workspaces through layers: what a run sees, what is collected of it, and what it costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.runners import workspace
from bot.runners.collect import collect
from bot.runners.layers import Trees
from bot.runners.sandbox import Sandbox, area_for, emptied
from schemas.plan import Limits
from tests.runners.test_collect import git


@pytest.fixture
async def trees(tmp_path: Path) -> AsyncIterator[Trees]:
    sandbox = Sandbox("required", area_for(tmp_path / "data"))
    with emptied(sandbox.area):
        assert await sandbox.self_test() == []
        assert sandbox.layered, "this machine's kernel has no overlays for users"
        yield Trees(sandbox)


FILES = {
    "a.txt": "a\n",
    "dir/b.txt": "b\n",
    "dir/sub/c.txt": "c\n",
    "other/d.txt": "d\n",
    "run.sh": "true\n",
    "file": "f\n",
}


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    for name, text in FILES.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    (source / "link").symlink_to("dir")
    git(source, "init", "-q", "-b", "main")
    commit(source)
    git(tmp_path, "clone", "-q", "--mirror", "source", "mirror.git")
    return tmp_path / "mirror.git"


def commit(source: Path) -> str:
    git(source, "add", "--all")
    git(source, "commit", "-q", "-m", "x")
    return git(source, "rev-parse", "HEAD")


async def ran(
    trees: Trees, mirror: Path, at: str, command: str, name: str = "w"
) -> tuple[str, dict[str, str], tuple[str, ...]]:
    """The command's output, the kinds of edits collected, and the problems."""
    folder = trees._sandbox.area / name
    async with trees.workspace(mirror, at, folder, git=True) as space:
        done = await trees._sandbox.run(command, folder, 30)
        found = await asyncio.to_thread(collect, space, Limits())
    assert not folder.exists()
    return done.output, {edit.path: edit.op for edit in found.edits}, found.problems


async def test_a_run_changes_what_it_sees_and_nobody_else_does(trees: Trees, mirror: Path) -> None:
    head = git(mirror, "rev-parse", "main")
    out, edits, problems = await ran(trees, mirror, head, """
        git status --porcelain; git log --oneline | wc -l; cat link/b.txt
        echo more >>a.txt; rm dir/b.txt; chmod +x run.sh; mkdir new; echo n >new/n.txt; git commit -qam theirs""")  # fmt: skip
    assert out.split() == ["1", "b"]
    assert edits == {"a.txt": "modify", "dir/b.txt": "delete", "run.sh": "chmod", "new/n.txt": "add"} and not problems
    out, edits, _ = await ran(trees, mirror, head, "cat a.txt dir/b.txt; ls; touch a.txt; git status --porcelain")
    assert out == "a\nb\na.txt\ndir\nfile\nlink\nother\nrun.sh\n" and edits == {}


@pytest.mark.parametrize(
    ("command", "edits"),
    [
        ("rm -r dir", {"dir/b.txt": "delete", "dir/sub/c.txt": "delete"}),
        ("rm -r dir; mkdir dir; echo x >dir/x", {"dir/b.txt": "delete", "dir/sub/c.txt": "delete", "dir/x": "add"}),
        ("rm -r dir; mkdir -p dir/sub; echo c >dir/sub/c.txt", {"dir/b.txt": "delete"}),
        ("rm -r dir; echo file >dir", {"dir/b.txt": "delete", "dir/sub/c.txt": "delete", "dir": "add"}),
        ("rm file; mkdir file; echo x >file/x", {"file": "delete", "file/x": "add"}),
        ("mv other moved", {"other/d.txt": "delete", "moved/d.txt": "add"}),
        ("rm a.txt; echo a >a.txt", {}),
        ("mv dir/sub/c.txt other/d.txt", {"dir/sub/c.txt": "delete", "other/d.txt": "modify"}),
        ("rm -rf .git link; echo x >link", {}),
    ],
)
async def test_what_is_gone_moved_or_of_another_kind(
    trees: Trees, mirror: Path, command: str, edits: dict[str, str]
) -> None:
    _, found, problems = await ran(trees, mirror, git(mirror, "rev-parse", "main"), command)
    assert found == edits and not problems


async def test_what_an_agent_may_not_leave(trees: Trees, mirror: Path) -> None:
    head = git(mirror, "rev-parse", "main")
    for command, what in (
        ("ln -s /etc/passwd l", "is a link"),
        ("mkfifo p", "plain file"),
        ("ln a.txt h", "plain file"),
    ):
        assert what in str((await ran(trees, mirror, head, command))[2])
    # What it says itself about layers is not believed.
    out, edits, _ = await ran(trees, mirror, head, """mknod dir/b.txt.gone c 0 0; mknod z c 0 0; mkdir dir/q
        python3 -c "import os; os.setxattr('dir', 'user.overlay.opaque', b'y')"; ls dir""")  # fmt: skip
    assert edits == {} and "b.txt" in out


async def test_another_tree_is_what_differs(trees: Trees, mirror: Path, tmp_path: Path) -> None:
    first, source = git(mirror, "rev-parse", "main"), tmp_path / "source"
    await ran(trees, mirror, first, "true")
    git(source, "rm", "-q", "-r", "other", "file", "dir/sub")
    (source / "file").mkdir()
    (source / "file" / "in").write_text("in\n")
    (source / "dir" / "sub").write_text("a file now\n")
    (source / "a.txt").write_text("A\n")
    second = commit(source)
    git(mirror, "fetch", "-q", "origin")
    look = "git status --porcelain; git log --oneline | wc -l; cat a.txt link/sub; find * -type f | sort"
    out, edits, _ = await ran(trees, mirror, second, look)
    assert edits == {} and out.splitlines()[:3] == ["1", "A", "a file now"]
    names = ["a.txt", "dir/b.txt", "dir/sub", "file/in", "link/b.txt", "link/sub", "run.sh"]
    assert out.splitlines()[3:] == names
    assert len([one for one in trees._known.values() if one.onto]) == 1, "the second tree was not written whole"
    copy = workspace.export(mirror, second, tmp_path / "copy").folder
    assert sorted(str(place.relative_to(copy)) for place in copy.rglob("*") if place.is_file()) == names


async def test_eight_at_once(trees: Trees, mirror: Path) -> None:
    head = git(mirror, "rev-parse", "main")
    runs = [ran(trees, mirror, head, f"echo {n} >a.txt; sleep 0.1; cat a.txt", f"w{n}") for n in range(8)]
    assert [out.strip() for out, _, _ in await asyncio.gather(*runs)] == [str(n) for n in range(8)]
    assert len(list(trees._area.iterdir())) == 1


async def test_trees_that_nobody_uses_go(trees: Trees, mirror: Path, tmp_path: Path) -> None:
    few, source = Trees(trees._sandbox, whole=1, near=1), tmp_path / "source"
    for number in range(4):
        (source / "a.txt").write_text(f"{number}\n")
        head = commit(source)
        git(mirror, "fetch", "-q", "origin")
        assert (await ran(few, mirror, head, "cat a.txt"))[0] == f"{number}\n"
    assert len(few._known) == 2 and len(list(few._area.iterdir())) == 2
