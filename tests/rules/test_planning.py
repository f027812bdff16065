"""Plans: each planted fault is found, none is invented; the repair gives a plan without faults."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.rules import globs, ownership, paths, planning
from bot.rules.budgets import estimate, pack
from bot.rules.impact import Graph
from bot.rules.planning import PlanRules
from schemas.answers import SubmitPlan
from schemas.plan import Plan

FILES = frozenset({"src/a.py", "src/b.py", "src/deep/c.py", "tests/test_z.py", "README.md", "poetry.lock"})
TREE = Graph(dict.fromkeys(FILES, 1))
RULES = PlanRules(max_tasks=4)
BASE = "a" * 40


def task(key: str, *owns: str, **more: Any) -> dict[str, Any]:
    return {"key": key, "title": key, "kind": "feature", "brief": key, "owns": owns, **more}


def plan(*tasks: dict[str, Any], shared: tuple[str, ...] = ()) -> Plan:
    submitted = SubmitPlan.model_validate({"tasks": tasks, "shared": shared})
    assert not planning.submission_faults(submitted)
    return planning.from_submission(submitted, "octo/app#1", BASE, 1, RULES)


def rules_of(made: Plan) -> set[str]:
    return {fault.rule for fault in planning.faults(made, TREE, RULES)}


@pytest.mark.parametrize(
    ("tasks", "shared", "rules"),
    [
        ([task("a", "src/a.py"), task("b", "src/b.py")], (), set()),
        ([task("a", "src/a.py"), task("b", "src/new.py", reads=["src/b.py"])], (), set()),
        ([task("a", "src/**"), task("b", "src/deep/*.py")], (), {"owns-overlap"}),
        ([task("a", "src/a.py"), task("b", "src/a.py", after=["a"])], (), set()),
        ([task("a", "src/a.py"), task("b", "src/b.py", after=["a"]), task("c", "src/a.py", after=["b"])], (), set()),
        ([task("a", "src/a.py", after=["b"]), task("b", "src/b.py", after=["a"])], (), {"cycle"}),
        ([task("a", "nowhere/**/x?"), task("b", "src/nothing*")], (), {"owns-nothing"}),
        ([task("a", "new/**")], (), set()),
        ([task("a", "/src/a.py")], (), {"glob"}),
        ([task("a", "src/[ab].py")], (), {"glob"}),
        ([task("a", "src/con.py")], (), {"path"}),
        ([task("a", "src/a.py"), task("b", "src/b.py", reads=["src/a.py"])], (), {"reads-overlap"}),
        ([task("a", "src/a.py"), task("b", "poetry.lock")], ("poetry.lock",), {"shared"}),
        ([task("a", "src/a.py"), task("b", "poetry.lock", after=["a"])], ("poetry.lock",), set()),
        ([task(str(n), f"src/n{n}.py") for n in range(5)], (), {"too-many-tasks"}),
    ],
)
def test_what_is_wrong_is_found_and_nothing_else(
    tasks: list[dict[str, Any]], shared: tuple[str, ...], rules: set[str]
) -> None:
    assert rules_of(plan(*tasks, shared=shared)) == rules


def test_keys_are_judged_before_they_become_ids() -> None:
    tasks = [task("a", "x"), task("a", "y"), task("c", "z", after=["nobody", "c"])]
    found = planning.submission_faults(SubmitPlan.model_validate({"tasks": tasks}))
    assert {fault.rule for fault in found} == {"duplicate-key", "unknown-after", "cycle"}


def test_the_hash_covers_every_byte_but_itself() -> None:
    one, other = plan(task("a", "src/a.py")), plan(task("a", "src/a.py", reads=["README.md"]))
    assert len(one.hash) == 64 and one.hash != other.hash
    assert planning.hashed(one.model_copy(update={"hash": "x"})).hash == one.hash


OWNED = st.sampled_from(["src/a.py", "src/b.py", "src/*", "src/**", "tests/**", "README.md", "poetry.lock", "**/*.py"])


@given(
    owns=st.lists(st.tuples(OWNED, OWNED), min_size=1, max_size=4),
    waits=st.sets(st.tuples(st.integers(0, 3), st.integers(0, 3))),
    shared=st.booleans(),
)
def test_a_repaired_plan_has_no_faults_and_all_its_tasks(
    owns: list[tuple[str, str]], waits: set[tuple[int, int]], shared: bool
) -> None:
    names = "abcd"[: len(owns)]
    tasks = [
        task(name, *pair, after=[names[j] for i, j in waits if i == n and j < n])
        for n, (name, pair) in enumerate(zip(names, owns, strict=True))
    ]
    made = plan(*tasks, shared=("poetry.lock",) if shared else ())
    repaired = planning.repair(made, TREE, RULES)
    if repaired is None:
        return  # two tasks of which each must be the last: a person is asked
    assert not planning.faults(repaired, TREE, RULES)
    assert [t.owns for t in repaired.tasks] == [t.owns for t in made.tasks]
    before = ownership.ancestors(repaired.tasks)
    for one, other in combinations(repaired.tasks, 2):
        if one.id not in before[other.id] and other.id not in before[one.id]:
            both = [f for f in FILES if globs.matches(one.owns, f) and globs.matches(other.owns, f)]
            assert not both


def test_a_further_file_is_granted_only_if_nobody_owns_or_protects_it() -> None:
    def refused(path: str) -> str | None:
        return paths.refusal(path, siblings=("src/b.py",), protected=(".github/**",), shared=("poetry.lock",))

    assert refused("src/new.py") is None
    assert all(refused(path) for path in ("src/b.py", ".github/x.yml", "poetry.lock", "src/*", "../x", "a/\u200bb"))
    assert paths.overreach(["src/a.py", "x"], ["src/**"]) == ("x",)


@given(st.lists(st.tuples(st.text(min_size=1, max_size=9), st.text(max_size=60)), max_size=9), st.integers(1, 60))
def test_what_is_packed_fits(files: list[tuple[str, str]], tokens: int) -> None:
    packed = pack(files, tokens)
    assert sum(estimate(path) + estimate(text) for path, text in packed.files) <= tokens
    assert len(packed.files) + len(packed.left_out) == len(files)
