"""What a trial says of a patch beside the one that was approved, bounded for people's eyes."""

from __future__ import annotations

from pathlib import Path

import pygit2
import pytest

from bot.merge.objects import Objects
from bot.merge.trial import INTERDIFF_LINES, _interdiff, _try
from schemas.base import RepoRef
from schemas.effects import TrialCompose

WHO = pygit2.Signature("A", "a@example.org", 1, 0)


@pytest.fixture
def repo(tmp_path: Path) -> pygit2.Repository:
    return pygit2.init_repository(str(tmp_path / "r.git"), bare=True)


def commit(repo: pygit2.Repository, parent: str | None, **files: bytes) -> str:
    builder = repo.TreeBuilder(repo[parent].peel(pygit2.Tree)) if parent else repo.TreeBuilder()
    for name, data in files.items():
        builder.insert(name, repo.create_blob(data), pygit2.enums.FileMode.BLOB)
    return str(repo.create_commit(None, WHO, WHO, "x", builder.write(), [parent] if parent else []))


def lines(count: int, **other: str) -> bytes:
    return "".join(other.get(f"l{number}", f"line {number}") + "\n" for number in range(count)).encode()


def interdiff(repo: pygit2.Repository, approved: tuple[str, str] | None, ours: tuple[str, str]) -> str:
    objects = Objects(Path(repo.path))
    return _interdiff(objects, approved, (objects.tree_of(ours[0]), objects.tree_of(ours[1])))


def test_only_what_differs_between_the_patches_is_shown(repo: pygit2.Repository) -> None:
    fork = commit(repo, None, a=lines(30), b=lines(30))
    first = commit(repo, fork, a=lines(30, l10="one"), b=lines(30, l5="same"))
    moved = commit(repo, fork, a=lines(30, l25="elsewhere"))
    assert (
        interdiff(
            repo,
            (fork, first),
            (moved, commit(repo, moved, a=lines(30, l10="one", l25="elsewhere"), b=lines(30, l5="same"))),
        )
        == ""
    )
    second = commit(repo, moved, a=lines(30, l10="two", l25="elsewhere"), b=lines(30, l5="same"))
    shown = interdiff(repo, (fork, first), (moved, second)).splitlines()
    assert shown[0] == "# a" and "# b" not in shown and "-+one" in shown and "++two" in shown
    assert interdiff(repo, None, (moved, second)) == "" == interdiff(repo, ("f" * 40, first), (moved, second))
    gone = interdiff(repo, (fork, first), (moved, commit(repo, moved, a=lines(30, l10="one", l25="elsewhere"))))
    assert gone.startswith("# b") and "-+same" in gone


def test_it_is_short_whatever_the_patches_are(repo: pygit2.Repository) -> None:
    fork = commit(repo, None, a=b"", b=b"", c=b"x" * 100_000)
    first = commit(repo, fork, a=lines(500), b=lines(50_000), c=b"y" * 100_000, d=b"\0binary", e=b"\xff\n")
    second = commit(
        repo,
        fork,
        a=lines(500, **{f"l{n}": "new" for n in range(500)}),
        b=lines(50_001),
        c=b"z" * 100_000,
        d=b"\0b",
        e=b"\xfe\n",
    )
    shown = interdiff(repo, (fork, first), (fork, second)).splitlines()
    assert len(shown) == INTERDIFF_LINES + 1 and shown[-1] == "(and more)" and max(map(len, shown)) <= 200
    small = interdiff(repo, (fork, commit(repo, fork, b=lines(50_000))), (fork, commit(repo, fork, b=lines(50_001))))
    assert small.splitlines() == ["# b", "(too long to compare)"]
    "".join(shown).encode()  # whatever bytes the files hold


def test_a_patch_whose_context_has_changed_is_told_from_one_that_has_moved(repo: pygit2.Repository) -> None:
    fork = commit(repo, None, a=lines(30), b=lines(30))
    tip = commit(repo, fork, a=lines(30, l10="one"))

    def shifted(onto: str) -> bool:
        about = {"key": "k", "ticket": "o/r#1", "repo": RepoRef(id=1, full_name="o/r"), "installation": 1, "trial": 1}
        effect = TrialCompose.model_validate({**about, "fork": fork, "tip": tip, "base_ref": "main"})
        found = _try(Path(repo.path), effect, onto, [])
        assert found.clean
        return found.shifted

    assert not shifted(fork)
    assert not shifted(commit(repo, fork, b=lines(30, l10="x"))) and not shifted(
        commit(repo, fork, a=lines(30, l20="x"))
    )
    assert shifted(commit(repo, fork, a=lines(30, l12="x"))), "it stands beside the change"
    assert not shifted(commit(repo, fork, a=lines(30, l10="one"))), "it is there already: nothing is left to approve"
