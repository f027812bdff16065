"""The engine's own parts against git and libgit2: merged lines, packs, commits, digests, and the ladder's rungs."""

from __future__ import annotations

import hashlib
import random
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pygit2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pygit2.enums import FileMode, MergeFlag

from bot.merge import commits, pack
from bot.merge.ladder import Ladder
from bot.merge.lines import Conflict, merge_lines
from bot.merge.objects import Commit, Objects
from bot.merge.threeway import Merged, merge
from bot.merge.trees import Blob, changes_between, lookup, rewrite, tree_digest
from schemas.base import Evidence
from schemas.lane import Rungs

ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}


def git(place: Path, *args: str) -> str:
    done = subprocess.run(["git", *args], cwd=place, capture_output=True, text=True, env=ENV, check=True)
    return done.stdout.strip()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    pygit2.init_repository(str(tmp_path / "r.git"), bare=True)
    return tmp_path / "r.git"


# --- lines ------------------------------------------------------------------------------------------------------------
def texts(dice: random.Random) -> tuple[bytes, bytes, bytes]:
    """Three versions with many equal lines, so that changes slide; some without a last line feed, some with CR."""
    pool = [b"a\n", b"b\n", b"\n", b"  x\n", b"d\r\n", *(b"line %d\n" % n for n in range(6))]
    base = dice.choices(pool, k=dice.choice([0, 1, 3, 8, 20, 60, 300]))

    def changed() -> bytes:
        lines = list(base)
        for _ in range(dice.randint(1, 3)):
            at, gone = dice.randint(0, len(lines)), dice.choice([0, 0, 1, 1, 2, 3])
            lines[at : at + gone] = dice.choices(pool, k=dice.choice([0, 1, 1, 2]))
        text = b"".join(lines)
        return text[:-1] if dice.random() < 0.1 else text

    return b"".join(base), changed(), changed()


@pytest.mark.parametrize("seed", range(4))
def test_lines_merge_as_libgit2_merges_them(place: Path, seed: int) -> None:
    dice, repo = random.Random(seed), pygit2.Repository(str(place))
    clean = conflicts = 0
    for _ in range(700):
        sides = texts(dice)
        trees = []
        for side in sides:
            builder = repo.TreeBuilder()
            builder.insert("f", repo.create_blob(side), FileMode.BLOB)
            trees.append(builder.write())
        told = repo.merge_trees(trees[0], trees[1], trees[2], flags=MergeFlag(0))
        parts = merge_lines(*sides)
        assert parts is not None
        if any(isinstance(part, Conflict) for part in parts):
            conflicts += 1
            assert told.conflicts is not None, sides
        else:
            clean += 1
            merged = b"".join(part for part in parts if isinstance(part, bytes))
            assert told.conflicts is None and repo[told["f"].id].peel(pygit2.Blob).data == merged, sides
    assert clean > 200 and conflicts > 200


def test_far_changes_need_no_diff_and_repeated_lines_do(place: Path) -> None:
    base = b"".join(b"line %d\n" % n for n in range(200_000))
    ours, theirs = base.replace(b"line 5\n", b"five\n"), base.replace(b"line 199995\n", b"last\n")
    assert merge_lines(base, ours, theirs) == [ours.replace(b"line 199995\n", b"last\n")]
    same = b"x\n" * 50
    parts = merge_lines(same, b"x\n" + same, same + b"x\n")  # one inserts above, one below: where, nobody can tell
    assert parts is not None and [part for part in parts if isinstance(part, bytes)]


# --- packs ------------------------------------------------------------------------------------------------------------
@given(st.binary(max_size=400), st.binary(max_size=400), st.binary(max_size=400))
def test_what_two_strings_share(head: bytes, tail: bytes, middle: bytes) -> None:
    one, other = head + tail, head + middle + tail
    front, back = pack.common(one, other)
    assert one[:front] == other[:front] and front + back <= min(len(one), len(other))
    assert back == 0 or one[-back:] == other[-back:]
    assert one[front : front + 1] != other[front : front + 1] or front == min(len(one), len(other))
    rest = min(len(one), len(other)) - front - back
    assert rest == 0 or one[len(one) - back - 1] != other[len(other) - back - 1]


@pytest.mark.parametrize("size", [0, 1, 15, 16, 127, 128, 5000, 70_000, 1_200_000])
def test_git_reads_every_version_out_of_a_pack(place: Path, size: int) -> None:
    """Chains of versions longer than a delta chain may be, offsets and sizes of every length."""
    objects, dice = Objects(place), random.Random(size)
    data, tip, wanted = dice.randbytes(size), "", {}
    tree = rewrite(objects, None, {"f.bin": Blob(objects.add_blob(data), 0o100644)})
    for number in range(120 if size < 100_000 else 6):
        at = dice.randint(0, len(data))
        data = data[:at] + dice.randbytes(dice.choice([0, 1, 200])) + data[at + dice.choice([0, 1, 70]) :]
        known = lookup(objects, tree, "f.bin")
        tree = rewrite(objects, tree, {"f.bin": Blob(objects.add_blob(data, known.oid if known else ""), 0o100644)})
        tip = commits.create(objects, tip, tree, f"{number}\n", datetime(2026, 1, 1, tzinfo=UTC)) if tip else (
            objects.add_commit(Commit("", tree, (), b"author a <a> 1 +0000", b"committer a <a> 1 +0000", b"", b"0\n"))
        )  # fmt: skip
        wanted[tree] = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    objects.flush([tip])
    assert len(list((place / "objects" / "pack").glob("*.pack"))) == 1 and not list(place.glob("objects/??"))
    assert git(place, "fsck", "--strict", "--full", tip) == ""
    assert {tree: git(place, "rev-parse", f"{tree}:f.bin") for tree in wanted} == wanted
    assert git(place, "cat-file", "-s", f"{tip}:f.bin") == str(len(data))


def test_nothing_is_written_that_no_tip_reaches(place: Path) -> None:
    objects = Objects(place)
    lost = objects.add_blob(b"lost")
    tree = rewrite(objects, None, {"a": Blob(objects.add_blob(b"kept", lost), 0o100644)})
    objects.flush([tree])
    repo = pygit2.Repository(str(place))
    assert tree in repo and lost not in repo
    objects.flush([tree])
    assert len(list((place / "objects" / "pack").iterdir())) == 2


# --- trees and commits ------------------------------------------------------------------------------------------------
def random_changes(objects: Objects, dice: random.Random) -> dict[str, Blob | None]:
    names = ["a", "a.b", "a-b", "a0", "dir", "Übung", "x y", "z"]
    paths = {"/".join(dice.choices(names, k=dice.randint(1, 3))) for _ in range(dice.randint(1, 8))}
    kept = [path for path in paths if not any(other.startswith(f"{path}/") for other in paths)]
    modes = [0o100644, 0o100755, 0o120000]
    return {path: Blob(objects.add_blob(b"%d" % dice.randrange(9)), dice.choice(modes)) for path in kept}


@pytest.mark.parametrize("seed", range(3))
def test_trees_are_those_of_git(place: Path, seed: int) -> None:
    dice, objects, repo = random.Random(seed), Objects(place), pygit2.Repository(str(place))
    for _ in range(60):
        first = random_changes(objects, dice)
        tree = rewrite(objects, None, first)
        objects.flush([tree])
        index = pygit2.Index()
        for path, blob in first.items():
            index.add(pygit2.IndexEntry(path, pygit2.Oid(hex=blob.oid), FileMode(blob.mode)) if blob else path)
        assert str(index.write_tree(repo)) == tree
        gone: dict[str, Blob | None] = dict.fromkeys(dice.sample(sorted(first), k=len(first) // 2))
        after = rewrite(objects, tree, gone)
        assert changes_between(objects, tree, after) == gone
        back = changes_between(objects, after, tree)
        assert back == {path: first[path] for path in gone} and rewrite(objects, after, back) == tree


def test_a_commit_is_the_one_that_libgit2_makes(place: Path) -> None:
    objects, repo = Objects(place), pygit2.Repository(str(place))
    tree = rewrite(objects, None, {"a": Blob(objects.add_blob(b"a"), 0o100644)})
    objects.flush([tree])
    when = 1_767_225_600
    who = pygit2.Signature(commits.AUTHOR[0].decode(), commits.AUTHOR[1].decode(), when, 0)
    root = repo.create_commit(None, who, who, "root", tree, [])
    made = commits.create(objects, str(root), tree, "Übung\n\nChange-Request: a\n", datetime.fromtimestamp(when, UTC))
    assert made == str(repo.create_commit(None, who, who, "Übung\n\nChange-Request: a\n", tree, [root]))


def test_a_foreign_commit_keeps_its_bytes_and_loses_its_signature(place: Path) -> None:
    objects = Objects(place)
    tree = rewrite(objects, None, {"a": Blob(objects.add_blob(b"a"), 0o100644)})
    objects.flush([tree])
    raw = (
        f"tree {tree}\nauthor J\xf6rg <j@example.org> 5 +0130\ncommitter C <c@example.org> 6 -0200\n"
        "encoding ISO-8859-1\ngpgsig -----BEGIN\n x\n -----END\n\nGr\xfc\xdfe\n"
    )
    oid = git_stdin(place, raw.encode("latin-1"))
    again = commits.recreate(objects, objects.commit(oid), "1" * 40, tree)
    objects.flush([again])
    wanted = raw.replace("author", f"parent {'1' * 40}\nauthor").replace("gpgsig -----BEGIN\n x\n -----END\n", "")
    done = subprocess.run(["git", "cat-file", "commit", again], cwd=place, capture_output=True, env=ENV, check=True)
    assert done.stdout == wanted.encode("latin-1")


def git_stdin(place: Path, commit: bytes) -> str:
    command = ["git", "hash-object", "-t", "commit", "-w", "--stdin"]
    return (
        subprocess.run(command, cwd=place, input=commit, capture_output=True, env=ENV, check=True)
        .stdout.decode()
        .strip()
    )


def digest_by_libgit2(repo: pygit2.Repository, old: str, new: str) -> str:
    """As the digest's first version was computed, from libgit2's diff of two trees."""
    diff = repo[old].peel(pygit2.Tree).diff_to_tree(repo[new].peel(pygit2.Tree), context_lines=3, interhunk_lines=0)
    total = hashlib.sha256(b"interlock-digest-1\0")
    for part in sorted(_part(patch) for patch in diff if patch is not None):
        total.update(len(part).to_bytes(8, "big") + part)
    return total.hexdigest()


def _part(patch: pygit2.Patch) -> bytes:
    delta = patch.delta
    old, new = delta.old_file, delta.new_file
    head = b"\0".join((new.raw_path, b"%o" % int(old.mode), b"%o" % int(new.mode)))
    if delta.is_binary or not patch.hunks:
        return b"\0".join((head, b"binary", str(old.id).encode(), str(new.id).encode()))
    body = [head]
    for hunk in patch.hunks:
        body.append(b"@@")
        body.extend(line.origin.encode() + line.raw_content for line in hunk.lines)
    return b"\0".join(body)


@pytest.mark.parametrize("seed", range(3))
def test_a_digest_that_was_approved_before_is_the_same_today(place: Path, seed: int) -> None:
    dice, objects, repo = random.Random(seed), Objects(place), pygit2.Repository(str(place))
    for _ in range(80):
        trees = []
        base, *sides = texts(dice)
        for data in (base, *sides):
            files: dict[str, Blob | None] = {"f.txt": Blob(objects.add_blob(data), dice.choice([0o100644, 0o100755]))}
            if dice.random() < 0.4:
                files["dir/ä.bin"] = Blob(objects.add_blob(b"\0" + data), 0o100644)
            if dice.random() < 0.4:
                files["empty"] = Blob(objects.add_blob(b""), 0o100644)
            trees.append(rewrite(objects, None, files))
        objects.flush(trees)
        for new in trees[1:]:
            assert tree_digest(objects, trees[0], new) == digest_by_libgit2(repo, trees[0], new)


# --- the ladder -------------------------------------------------------------------------------------------------------
def climbed(place: Path, base: bytes, ours: bytes, theirs: bytes, ladder: Ladder) -> Merged | Evidence:
    objects = Objects(place)
    trees = [rewrite(objects, None, {"f.txt": Blob(objects.add_blob(d), 0o100644)}) for d in (base, ours, theirs)]
    found = merge(objects, trees[0], trees[1], changes_between(objects, trees[0], trees[2]), ladder)
    if isinstance(found, Merged):
        objects.flush([found.tree])
    return found


def text_of(place: Path, found: Merged | Evidence) -> str:
    assert isinstance(found, Merged), found
    return git(place, "cat-file", "-p", f"{found.tree}:f.txt")


TOUCHING = (b"1\n2\n3\n4\n", b"1\nTWO\n3\n4\n", b"1\n2\nTHREE\n4\n")
OVERLAPPING = (b"1\n2\n3\n", b"1\nours\n3\n", b"1\ntheirs\n3\n")


def test_touching_changes_need_the_rung_safe(place: Path) -> None:
    assert isinstance(climbed(place, *TOUCHING, Ladder(Rungs())), Evidence)
    found = climbed(place, *TOUCHING, Ladder(Rungs(upto="safe")))
    assert text_of(place, found) == "1\nTWO\nTHREE\n4"
    assert isinstance(found, Merged) and found.rung == "safe"
    (made,) = found.resolutions
    oids = [hashlib.sha1(b"blob %d\0" % len(d) + d, usedforsecurity=False).hexdigest() for d in TOUCHING]
    assert [made.path, made.rung, made.version, made.base, made.ours, made.theirs] == ["f.txt", "safe", "1", *oids]
    assert made.result == git(place, "rev-parse", f"{found.tree}:f.txt")


def test_union_files_are_the_policys(place: Path) -> None:
    assert isinstance(climbed(place, *OVERLAPPING, Ladder(Rungs(upto="safe"))), Evidence)
    assert isinstance(climbed(place, *OVERLAPPING, Ladder(Rungs(upto="line", union=("*.txt",)))), Evidence)
    found = climbed(place, *OVERLAPPING, Ladder(Rungs(upto="safe", union=("*.txt",))))
    assert text_of(place, found) == "1\nours\ntheirs\n3" and isinstance(found, Merged) and found.rung == "union"
    torn = climbed(place, b"1\n2", b"1\nours", b"1\ntheirs", Ladder(Rungs(upto="safe", union=("*.txt",))))
    assert isinstance(torn, Evidence)  # two lines would have become one


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ('cat "$1" "$2" "$3" > out && mv out "$2"', "1\n2\n3\n1\nours\n3\n1\ntheirs\n3"),
        ("exit 1", None),
        ("yes > $2", None),
        ("rm $2; ln -s /etc/passwd $2", None),
        ("rm $2", None),
    ],
)
def test_the_operators_driver_has_the_last_rung(place: Path, tmp_path: Path, script: str, text: str | None) -> None:
    driver = tmp_path / "driver"
    driver.write_text(f"#!/bin/sh\nulimit -f 100\n{script}\n")
    driver.chmod(0o755)
    found = climbed(place, *OVERLAPPING, Ladder(Rungs(upto="driver"), f"{driver} %O %A %B %P"))
    if text is None:
        assert isinstance(found, Evidence)
    else:
        assert text_of(place, found) == text and isinstance(found, Merged)
        assert found.rung == "driver" and found.resolutions[0].version.startswith(str(driver))
    assert isinstance(climbed(place, *OVERLAPPING, Ladder(Rungs(upto="safe"), str(driver))), Evidence)


def test_a_long_files_evidence_shows_the_place(place: Path) -> None:
    head = b"".join(b"line %d\n" % n for n in range(40_000))
    found = climbed(place, head + b"old\n", head + b"ours\n", head + b"theirs\n", Ladder(Rungs()))
    assert isinstance(found, Evidence) and found.ours and found.theirs and found.base
    assert "\nours\n" in found.ours and "\ntheirs\n" in found.theirs and "\nold\n" in found.base
    assert len(found.ours) < 25_000 and "bytes left out" in found.ours
