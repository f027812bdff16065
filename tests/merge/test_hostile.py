"""The corpora of hostile paths, refs and change requests, by `interlock merge` as a process.

Every request of the corpora goes into one run on one repository, every ref into one process: the outcome of each id, and
that its reason names what is wrong, are read from what the command reports. Whatever a person has to release lands
here, since the queue alone knows rules that refuse and no person: the same requests are put to the rule that the
pipeline asks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bot.rules import risk
from schemas.change_request import ChangeRequest
from schemas.policy import Policy

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "tests" / "corpus" / "hostile"
INTERLOCK = [sys.executable, "-m", "bot.cli.main"]
SECONDS_A_CASE = 0.25
HUGE = "200 MiB stand here"

Json = dict[str, Any]


def corpus(name: str) -> list[Json]:
    found: list[Json] = json.loads((CORPUS / name).read_text("utf-8"))
    return found


PATHS, REFS, REQUESTS = corpus("paths.json"), corpus("refs.json"), corpus("change_requests.json")

PATH_REASONS = {
    "segment": ("relative, and has no empty, '.' or '..' segment",),
    "absolute": ("a path is relative",),
    "dotgit": ("is a form of .git",),
    "hidden-or-control-char": ("control", "is a form of .git"),
    "separator": ("backslash", "some systems refuse", "is a form of .git"),
    "surrogate": ("surrogates",),
    "option-like": ("read as an option",),
    "reserved": ("a device name",),
    "trailing": ("ends with a dot",),
    "length": ("over 1024 bytes",),
    "file-is-parent": ("cannot exist beside 'ok.txt'",),
}
"""What our reason says for each of the corpus: one of these."""

OUTCOMES = {
    "Q01": ("landed", ""),
    "Q03": ("invalid", "version: Input should be 1"),
    "Q05": ("invalid", "the base cccccccccccccccccccccccccccccccccccccccc is not a commit of this repository"),
    "Q05-older": ("landed", ""),
    "Q07": ("invalid", "base: String should match"),
    "Q09": ("landed", ""),
    "Q09-other": ("landed", ""),
    "Q11": ("invalid", "'src/other.py' is outside of what this request owns"),
    "Q13": ("invalid", "'src/none.py' does not exist in the base"),
    "Q15": ("invalid", "'src' is a directory"),
    "Q17": ("invalid", "patch.0.modify.mode: Input should be '100644' or '100755'"),
    "Q19": ("invalid", "content is not valid base64"),
    "Q21": ("invalid", "'SRC/Q21/app.py' does not exist in the base"),
    "Q21-file": ("invalid", "'new/app.py' differs from 'new/App.py', new as well, in case"),
    "Q21-folder": ("invalid", "'fresh/b.py' differs from 'Fresh', new as well, in case"),
    "Q21-known": ("invalid", "'SRC/new.py' differs from the existing 'src' in case"),
    "Q21-moved": ("landed", ""),
    "Q23": ("invalid", "content is over 8388608 bytes"),
    "Q25": ("landed", ""),
    "Q27": ("landed", ""),
    "Q29": ("landed", ""),
    "Q31": ("landed", ""),
}
"""What becomes of each change request of the corpus, and of ours that say what it means more exactly (with a dash).

Q05 is an unknown base; an older one is merged. Q09 comes twice with one body; Q09-other's id a second time with another.
Q25, Q29 and Q31 are held in a ticket. Q27's title is made harmless.
"""

HELD = {
    **{case["id"]: "it touches protected files" for case in PATHS if case["expect"] == "HOLD"},
    "Q25": "it adds what looks like a token or a key: src/Q25/app.py",
    "Q29": "it touches protected files",
    "Q31": "it takes tests away: tests/test_auth.py",
}
BY_POLICY = {
    "P57": "**/conftest.py",
    "P59": "**/*.lock",
    "P63": "**/*.pth",
    "P65": "Makefile",
    "P67": "**/.env*",
    "Q29": "pyproject.toml",
}
"""Held only where the repository's policy protects them: the pattern that its maintainer writes."""


def git(repo: Path, *args: str) -> str:
    command = ["git", "-C", str(repo), "-c", "user.name=A", "-c", "user.email=a@example.org", *args]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@dataclass(frozen=True)
class World:
    """A place where everything lies that a run may know: the repository, its home, its temporary and working folder."""

    place: Path
    older: str
    base: str

    @property
    def repo(self) -> Path:
        return self.place / "repo"

    def interlock(self, command: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1",
               "HOME": str(self.place / "home"), "TMPDIR": str(self.place / "tmp")}  # fmt: skip
        return subprocess.run(command, input=text, capture_output=True, text=True, cwd=self.place / "cwd", env=env)

    def outside(self) -> dict[str, bytes]:
        """Every file here but those that the queue writes: objects, refs, their logs and its database."""
        own = tuple(str(self.repo / ".git" / name) for name in ("objects", "refs", "logs", "interlock"))
        files = (path for path in self.place.rglob("*") if path.is_file() and not str(path).startswith(own))
        return {str(path.relative_to(self.place)): path.read_bytes() for path in files}


def make(place: Path) -> World:
    repo = place / "repo"
    for folder in ("repo", "home", "tmp", "cwd"):
        (place / folder).mkdir(parents=True)
    git(repo, "init", "-q", "--initial-branch=main")
    named = {path for case in PATHS for path in case["existing"]}
    named |= {f"src/{case['id']}/app.py" for case in REQUESTS} | {"src/Q05-older/app.py", "Old/a.py"}
    for path in named | {"src/other.py", "pyproject.toml", "tests/test_auth.py"}:
        (repo / path).parent.mkdir(parents=True, exist_ok=True)
        (repo / path).write_text(f"{path}\n")
    git(repo, "add", "--all")
    git(repo, "commit", "-q", "-m", "Begin")
    older = git(repo, "rev-parse", "HEAD")
    (repo / "README.md").write_text("newer\n")
    git(repo, "commit", "-q", "-a", "-m", "Go on")
    git(repo, "switch", "-q", "--detach")
    return World(place=place, older=older, base=git(repo, "rev-parse", "main"))


def request(world: World, name: str, *edits: Json, **more: Any) -> Json:
    return {"version": 1, "id": name, "base": world.base, "title": f"Change {name}", "patch": list(edits), **more}


def blobs(world: World) -> dict[str, str]:
    """Path to object id at the base."""
    lines = git(world.repo, "ls-tree", "-r", "-z", world.base).split("\0")
    return {line.split("\t")[1]: line.split()[2] for line in lines if line}


def add(path: str, content: str) -> Json:
    return {"op": "add", "path": path, "content": content}


def translated(world: World, case: Json, known: dict[str, str]) -> Json:
    """A change request of the corpus in today's schema: each with a file of its own, so that none is another's rival."""
    body, name = case["body"], case["id"]
    if "files" not in body:
        return request(world, name, add("huge.bin", HUGE))
    edits = []
    for file in body["files"]:
        path = file["path"].replace("/app.py", f"/{name}/app.py")
        edit = {"op": file["op"], "path": path, "before": known.get(path, "b" * 40)}
        if file["op"] != "delete":
            edit |= {"content": file["content_b64"], "encoding": "base64"}
        edits.append(edit | ({"mode": file["mode"]} if "mode" in file else {}))
    base = world.base if body["base"] == "a" * 40 else body["base"]
    return request(
        world, name, *edits, version=body["schema"], base=base, task=body["task"],
        title=body.get("message", name), owns=["src/app.py"] if name == "Q11" else None,
    )  # fmt: skip


def everything(world: World) -> Iterator[Json]:
    """All of both corpora and ours, in the order in which they are given."""
    known = blobs(world)
    for case in PATHS:
        yield request(world, case["id"], add(case["path"], f"# {case['id']}\n"))
    for case in REQUESTS:
        made = translated(world, case, known)
        yield made
        if case["id"] == "Q09":
            yield made
    older = {"op": "modify", "path": "src/Q05-older/app.py", "content": "x", "before": known["src/Q05-older/app.py"]}
    yield request(world, "Q05-older", older, base=world.older)
    yield request(world, "Q09-other", add("other.txt", "one\n"))
    yield request(world, "Q09-other", add("other.txt", "two\n"))
    yield request(world, "Q21-file", add("new/App.py", ""), add("new/app.py", ""))
    yield request(world, "Q21-folder", add("Fresh/a.py", ""), add("fresh/b.py", ""))
    yield request(world, "Q21-known", add("SRC/new.py", ""))
    moved = {"op": "rename", "from": "Old/a.py", "path": "Old/A.py", "before": known["Old/a.py"]}
    yield request(world, "Q21-moved", moved)


def written(place: Path, requests: Iterator[Json]) -> Path:
    """A JSONL file of them; the huge content is not kept in memory here."""
    with place.open("w") as lines:
        for one in requests:
            head, huge, tail = json.dumps(one).partition(HUGE)
            lines.write(head)
            for _ in range(200 if huge else 0):
                lines.write("x" * 2**20)
            lines.write(f"{tail}\n")
    return place


def test_each_hostile_request_has_its_outcome_and_a_reason(tmp_path: Path) -> None:
    world = make(tmp_path / "world")
    before, source = world.outside(), written(tmp_path / "requests.jsonl", everything(world))
    done = world.interlock([*INTERLOCK, "merge", "--repo", str(world.repo), "--target", "main",
                            "--requests", str(source), "--json"])  # fmt: skip
    source.unlink()
    assert done.returncode == 1 and done.stderr == "", done.stderr
    report = json.loads(done.stdout)

    found = {row["id"]: ("landed", "") for row in report["landed"]}
    taken = [row for row in report["quarantined"] if "known with another content" in row["reason"]]
    assert [row["id"] for row in taken] == ["Q09-other"]
    for row in report["quarantined"]:
        if row not in taken:
            assert row["id"] not in found, row
            found[row["id"]] = (row["class"], row["reason"])
    assert report["noop"] == report["rework"] == []
    assert set(found) == {case["id"] for case in PATHS} | set(OUTCOMES) and report["submitted"] == len(found) + 1

    for case in PATHS:
        outcome, reason = found[case["id"]]
        assert outcome == ("invalid" if case["expect"] == "REJECT" else "landed"), (case["id"], reason)
        if outcome == "invalid":
            assert repr(case["path"])[:200].rstrip("'") in reason, (case["id"], reason)
            assert any(words in reason for words in PATH_REASONS[case["reason"]]), (case["id"], reason)
            assert len(reason) < 400, case["id"]
    for name, (outcome, words) in OUTCOMES.items():
        assert found[name][0] == outcome and words in found[name][1], (name, found[name])

    assert world.outside() == before, "something outside of the queue's own files was touched"
    landed = [case["path"] for case in PATHS if case["expect"] != "REJECT"] + ["Old/A.py", "Old/a.py", "other.txt"]
    landed += [f"src/{name}/app.py" for name in ("Q01", "Q05-older", "Q09", "Q25", "Q27")]
    landed += ["pyproject.toml", "tests/test_auth.py"]
    assert sorted(git(world.repo, "diff", "--name-only", "--no-renames", world.base, "main").split("\n")) == sorted(
        landed
    )
    named = git(world.repo, "log", "--format=%(trailers:key=Change-Request,valueonly)", f"{world.base}..main").split()
    assert sorted(named) == sorted(name for name, (outcome, _) in found.items() if outcome == "landed")
    assert "[" not in git(world.repo, "log", "--format=%B", "--grep=Change-Request: Q27", "main")
    git(world.repo, "fsck", "--strict")
    assert report["seconds"] / report["submitted"] < SECONDS_A_CASE


RUN_EACH = """
import contextlib, io, json, sys, time
from bot.cli.main import main

for name in json.load(sys.stdin):
    out, began = io.StringIO(), time.perf_counter()
    with contextlib.redirect_stderr(out), contextlib.redirect_stdout(io.StringIO()):
        try:
            main([*sys.argv[1:], "--target", name])
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, out.getvalue(), time.perf_counter() - began]))
"""
MORE_REFS = {"R04": "--output=/tmp/x", "R16": "/a", "R24": "m\u0430in", "up": "refs/heads/../../config", "dot": "a/.b",
             "dots": "a..b", "line": "a\nb", "none": "", "symbolic": "HEAD"}  # fmt: skip
FULL = "R21"
"""`refs/heads/main` is hostile as the name of a branch; --target takes full refs too, and it is one."""


def test_a_hostile_ref_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    world = make(tmp_path / "world")
    before = world.outside()
    source = written(tmp_path / "requests.jsonl", iter([request(world, "one", add("one.txt", "one\n"))]))
    names = {case["id"]: case["name"] for case in REFS} | MORE_REFS
    good = {case["id"] for case in REFS if case["expect"] == "ACCEPT"} | {FULL}
    order = sorted(names, key=lambda name: name in good)  # whatever is refused comes first
    merge = ["merge", "--repo", str(world.repo), "--requests", str(source)]
    done = world.interlock([sys.executable, "-c", RUN_EACH, *merge], json.dumps([names[name] for name in order]))
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    for name, (code, error, _) in zip(order, answers, strict=True):
        if name in good:
            assert (code, error) == (0, ""), (name, error)
        else:
            assert code == 2 and error.count("\n") == 1 and "no safe ref" in error, (name, code, error)
            assert ascii(names[name])[1:100].rstrip("'") in error, (name, error)
    assert sum(seconds for _, _, seconds in answers) / len(order) < SECONDS_A_CASE
    refs = git(world.repo, "for-each-ref", "--format=%(refname)").split()
    assert refs == ["refs/heads/bot/issue-1", "refs/heads/main"]
    assert world.outside() == before


def test_a_ref_that_git_will_not_move_ends_the_command(tmp_path: Path) -> None:
    """A branch stands where the new one's folder must be: git's word in one line, and nothing is lost by it."""
    world = make(tmp_path / "world")
    source = written(tmp_path / "requests.jsonl", iter([request(world, "one", add("one.txt", "one\n"))]))
    done = world.interlock(
        [*INTERLOCK, "merge", "--repo", str(world.repo), "--target", "main/x", "--requests", str(source)]
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "'refs/heads/main' exists" in done.stderr
    git(world.repo, "branch", "-m", "main", "other")
    done = world.interlock(
        [*INTERLOCK, "merge", "--repo", str(world.repo), "--target", "main/x", "--requests", str(source)]
    )
    assert done.returncode == 0 and git(world.repo, "show", "main/x:one.txt") == "one"


@pytest.fixture(scope="module")
def changes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ChangeRequest]:
    """The requests that a person has to release, read as the command reads them."""
    world = make(tmp_path_factory.mktemp("hold") / "world")
    return {
        one["id"]: ChangeRequest.model_validate(one) for one in everything(world) if one["id"] in {*HELD, "P01", "Q01"}
    }


@pytest.mark.parametrize("name", HELD)
def test_what_a_person_has_to_release_is_named(name: str, changes: dict[str, ChangeRequest]) -> None:
    patch, reason = changes[name].patch, HELD[name]
    default = Policy()
    held = risk.holds(patch, protected=default.protected, tested=True)
    if name in BY_POLICY:
        assert held == ()
        policy = Policy.model_validate({"protected": [*default.protected, BY_POLICY[name]]})
        held = risk.holds(patch, protected=policy.protected, tested=True)
    assert len(held) == 1 and reason in held[0] and patch[0].path in held[0]


@pytest.mark.parametrize("name", ["P01", "Q01"])
def test_what_nobody_has_to_release_is_not_held(name: str, changes: dict[str, ChangeRequest]) -> None:
    assert risk.holds(changes[name].patch, protected=Policy().protected, tested=True) == ()


@pytest.mark.parametrize("path", [".GitHub/Workflows/x.yml", "agents.md", "src/Agents.md", "codeowners", ".GITMODULES"])
def test_a_protected_file_is_held_however_it_is_spelt(path: str) -> None:
    patch = ChangeRequest.model_validate({"id": "c", "base": "a" * 40, "patch": [add(path, "x")]}).patch
    assert risk.holds(patch, protected=Policy().protected, tested=True) == (f"it touches protected files: {path}",)
