"""`interlock plan`: plans for four real repositories, of which every planted fault is found and none is invented."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pygit2
import pytest

from bot.rules import planning
from schemas.answers import SubmitPlan
from tests.cli.commands import Ended, interlock, process
from tests.e2e.world import ROOT

CORPUS = ROOT / "tests" / "corpus" / "plans"
NAMES = ("cobra", "express", "requests", "vue-core")


def cases(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((CORPUS / f"{name}.json").read_text())
    return found


@pytest.fixture(scope="module")
def repos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repos")
    for name in NAMES:
        subprocess.run(["git", "clone", "-q", "--bare", CORPUS / f"{name}.bundle", folder / name], check=True)
    return folder


def check(repo: Path, plan: object, folder: Path, *words: str) -> Ended:
    file = folder / "plan.json"
    file.write_text(json.dumps(plan))
    return interlock("plan", "check", file, "--repo", repo, *words)


def test_the_corpus_is_as_large_as_promised() -> None:
    found = [case for name in NAMES for case in cases(name)]
    assert len(found) >= 40 and 15 <= sum(not case["faults"] for case in found) <= len(found) - 15
    assert sum(file.stat().st_size for file in CORPUS.iterdir()) < 8 * 2**20


@pytest.mark.parametrize("name", NAMES)
def test_every_planted_fault_is_found_and_none_is_invented(name: str, repos: Path, tmp_path: Path) -> None:
    wrong = []
    for case in cases(name):
        done = check(repos / name, case["plan"], tmp_path, "--json")
        told = json.loads(done.stdout)
        found = sorted((fault["rule"], fault["task"]) for fault in told["faults"])
        if found != sorted((fault["rule"], fault["task"]) for fault in case["faults"]):
            wrong.append((case["name"], told["faults"]))
        assert done.returncode == (1 if case["faults"] else 0) and told["ok"] is not bool(case["faults"])
        assert all(fault["message"] and fault["message"][-1] != "." for fault in told["faults"])
        if told["ok"]:
            assert sorted(key for wave in told["waves"] for key in wave) == sorted(
                t["key"] for t in case["plan"]["tasks"]
            )
    assert not wrong


def test_a_plan_of_the_orchestrator_s_is_judged_on_its_own_base(repos: Path, tmp_path: Path) -> None:
    repo = repos / "requests"
    submitted = SubmitPlan.model_validate(cases("requests")[2]["plan"])
    head = str(pygit2.Repository(str(repo)).revparse_single("HEAD").id)
    made = planning.from_submission(submitted, "octo/app#1", head, 1, planning.PlanRules())
    told = json.loads(check(repo, made.model_dump(mode="json"), tmp_path, "--json").stdout)
    assert told["ok"] and told["waves"] == [["octo/app#1/1", "octo/app#1/2"], ["octo/app#1/3"]]
    assert told["independent_share"] == 0.667
    forged = made.model_dump(mode="json") | {"shared": ["x"]}
    assert json.loads(check(repo, forged, tmp_path, "--json").stdout)["faults"][0]["rule"] == "hash"
    unknown = made.model_dump(mode="json") | {"base": "0" * 40, "hash": ""}
    assert check(repo, unknown, tmp_path).returncode == 0  # a base that was never fetched: the head is judged


def test_the_repository_s_policy_counts(repos: Path, tmp_path: Path) -> None:
    repo = pygit2.init_repository(str(tmp_path / "own"), bare=True)
    builder = repo.TreeBuilder()
    for path, text in (("a.py", "x = 1\n"), ("b.py", "y = 2\n")):
        builder.insert(path, repo.create_blob(text.encode()), 0o100644)
    policy = repo.TreeBuilder()
    policy.insert("interlock.yml", repo.create_blob(b"shared: [b.py]\nmax_tasks: 2\n"), 0o100644)
    builder.insert(".github", policy.write(), 0o040000)
    who = pygit2.Signature("A", "a@example.org", 1, 0)
    repo.create_commit("HEAD", who, who, "base", builder.write(), [])
    tasks = [
        {"key": key, "title": key, "kind": "feature", "brief": key, "owns": [owns]}
        for key, owns in (("a", "a.py"), ("b", "b.py"), ("c", "c.py"))
    ]
    told = json.loads(check(Path(repo.path), {"tasks": tasks}, tmp_path, "--json").stdout)
    assert [fault["rule"] for fault in told["faults"]] == ["too-many-tasks"]
    told = json.loads(check(Path(repo.path), {"tasks": tasks[:2]}, tmp_path, "--json").stdout)
    assert [(fault["rule"], fault["task"]) for fault in told["faults"]] == [("shared", "b")]


def test_what_cannot_be_judged_is_said_in_one_line(repos: Path, tmp_path: Path) -> None:
    repo, file = repos / "cobra", tmp_path / "plan.json"
    for text in ("", "[]", "null", '{"tasks": []}', '{"tasks": [{"key": "a"}]}', "[" * 100_000, '{"ticket": 1}'):
        file.write_text(text)
        done = interlock("plan", "check", file, "--repo", repo)
        assert done.returncode == 2 and done.stderr.startswith("interlock: ") and done.stderr.count("\n") == 1, text
    plan = cases("cobra")[0]["plan"]
    for words in (["--base", "nowhere"], ["--base", "HEAD:args.go"], ["--base", ""]):
        done = check(repo, plan, tmp_path, *words)
        assert done.returncode == (2 if words[1] else 0), done
    assert interlock("plan", "impact", "--repo", repo, "no/such.go").returncode == 2
    assert interlock("plan", "impact", "--repo", tmp_path, "x").returncode == 2


def test_people_read_it_too_and_a_repository_that_cannot_be_written_will_do(repos: Path, tmp_path: Path) -> None:
    repo, file = repos / "requests", tmp_path / "plan.json"
    memory = repo / "interlock"
    subprocess.run(["rm", "-rf", memory], check=True)
    memory.write_text("a file where the memory's folder would be")
    file.write_text(json.dumps(cases("requests")[6]["plan"]))
    done = process("plan", "check", file, "--repo", repo)
    assert done.returncode == 1 and not done.stderr
    assert (
        "tests-apart (tests): task 1 owns 'src/requests/hooks.py' but task 2 its test 'tests/test_hooks.py'"
        in done.stdout
    )
    done = interlock("plan", "impact", "--repo", repo, "src/requests/hooks.py")
    assert done.returncode == 0 and "0  tests/test_hooks.py" in done.stdout
    memory.unlink()


@pytest.mark.parametrize(
    ("name", "path", "nearest", "far"),
    [
        ("requests", "src/requests/structures.py", "tests/test_structures.py", "src/requests/sessions.py"),
        ("cobra", "doc/md_docs.go", "doc/md_docs_test.go", "doc/md_docs_test.go"),
        ("express", "lib/response.js", "test/Route.js", "index.js"),
        (
            "vue-core",
            "packages/reactivity/src/dep.ts",
            "packages/reactivity/__tests__/effect.spec.ts",
            "packages/runtime-core/src/component.ts",
        ),
    ],
)
def test_impact_names_files_and_tests_across_packages(
    name: str, path: str, nearest: str, far: str, repos: Path
) -> None:
    done = interlock("plan", "impact", "--repo", repos / name, path, "--json")
    told = json.loads(done.stdout)
    steps = {one["path"]: one["steps"] for one in told["files"]}
    assert far in steps and path not in steps and not told["unread"]
    assert [one["path"] for one in told["tests"]].index(nearest) < 3
    folder = json.loads(interlock("plan", "impact", "--repo", repos / name, path.rpartition("/")[0], "--json").stdout)
    assert path in folder["paths"] and len(folder["files"]) <= len(steps) + len(folder["paths"])


def test_in_a_linked_work_tree_head_is_its_own(repos: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    subprocess.run(["git", "-C", repos / "cobra", "worktree", "add", "-q", "--detach", work], check=True)
    (work / "only_here.go").write_text("package cobra\n")
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "-C", work, "add", "only_here.go"], check=True)
    subprocess.run(["git", "-C", work, *who, "commit", "-q", "-m", "one more"], check=True)
    assert interlock("plan", "impact", "--repo", work, "only_here.go").returncode == 0
    assert interlock("plan", "impact", "--repo", repos / "cobra", "only_here.go").returncode == 2


def test_impact_names_manifests_owners_and_lost_names(repos: Path) -> None:
    told = json.loads(interlock("plan", "impact", "--repo", repos / "express", "index.js", "--json").stdout)
    assert told["manifests"] == ["package.json"]
    told = json.loads(
        interlock("plan", "impact", "--repo", repos / "requests", ".github/workflows/lint.yml", "--json").stdout
    )
    assert told["owners"] == {".github/workflows/lint.yml": ["@nateprewitt", "@sigmavirus24"]}
