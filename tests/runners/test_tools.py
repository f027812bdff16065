"""`submit_plan` as an agent meets it: faults of the tree and of its imports come back, a sound plan ends the run."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

from bot.ports import ToolAnswer
from bot.runners import tools, workspace
from bot.runners.impact import MEMORY
from schemas import events as e
from schemas.answers import SubmitPlan
from schemas.base import RepoRef
from schemas.effects import RunAgent
from tests.runners.test_impact import tree

FILES = {
    "pack/__init__.py": "",
    "pack/core.py": "def f(): ...\n",
    "pack/use.py": "from pack.core import f\n",
    "tests/test_core.py": "from pack import core\n",
    "CHANGELOG.md": "",
}


def answers(folder: Path) -> tools.PlanningAnswers:
    git_dir, made = tree(folder, FILES)
    space = workspace.export(git_dir, made, folder / "space")
    effect = RunAgent(
        key="octo/app#1:plan", ticket="octo/app#1", repo=RepoRef(id=1, full_name="octo/app"), installation=1,
        role="orchestrator", attempt=1, base="a" * 40, first_task=4,
    )  # fmt: skip
    return tools.PlanningAnswers(effect, space)


async def submit(to: tools.PlanningAnswers, *tasks: dict[str, Any]) -> ToolAnswer:
    tool = next(tool for tool in to.tools() if tool.name == "submit_plan")
    full = [{"title": task["key"], "kind": "feature", "brief": "b", **task} for task in tasks]
    return await tool.answer(SubmitPlan.model_validate({"tasks": full}))


async def test_the_faults_are_those_of_plan_check_and_a_person_sees_the_notes(tmp_path: Path) -> None:
    asked = answers(tmp_path)
    core, use = {"key": "core", "owns": ["pack/core.py"]}, {"key": "use", "owns": ["pack/use.py"]}
    answer = await submit(asked, core, {"key": "tests", "owns": ["tests/test_core.py"], "kind": "bugfix"})
    assert not answer.ok and not answer.ends and answer.text.count("\n- ") == 2
    assert "task 4 owns 'pack/core.py' but task 5 its test 'tests/test_core.py'" in answer.text
    assert "bugfix-check: task 5 is a bugfix without a check" in answer.text and "task 5 is 'tests'" in answer.text
    answer = await submit(asked, core, use)
    event = asked.outcome("none")
    assert answer.ends and isinstance(event, e.PlanSubmitted) and event.plan.tasks[0].id == "octo/app#1/4"
    assert len(event.notes) == 1 and "'pack/use.py' of task 5 imports 'pack/core.py' of task 4" in event.notes[0]
    git_dir = tmp_path / "repo.git"
    assert (git_dir / MEMORY).stat().st_size > 0


async def test_the_third_faulty_plan_is_put_in_order_and_what_order_cannot_mend_ends_the_run(tmp_path: Path) -> None:
    log = {"key": "log", "owns": ["CHANGELOG.md"]}
    asked = answers(tmp_path / "one")
    for _ in range(2):
        assert not (await submit(asked, {"key": "core", "owns": ["pack/core.py"]}, log)).ok
    assert (await submit(asked, {"key": "core", "owns": ["pack/core.py"]}, log)).ends
    event = asked.outcome("none")
    assert isinstance(event, e.PlanSubmitted) and event.plan.tasks[1].after == (event.plan.tasks[0].id,)
    assert event.notes[0].startswith("Tasks that met")
    asked = answers(tmp_path / "two")
    for _ in range(3):
        answer = await submit(asked, {"key": "core", "owns": ["pack/nothing*"]})
    failed = asked.outcome("none")
    assert (
        answer.ends
        and isinstance(failed, e.AgentFailed)
        and [fault.rule for fault in failed.faults] == ["owns-nothing"]
    )


async def test_without_a_graph_the_names_alone_are_judged(tmp_path: Path) -> None:
    asked = answers(tmp_path)
    shutil.rmtree(tmp_path / "repo.git")
    answer = await submit(asked, {"key": "a", "owns": ["pack/core.py"]}, {"key": "b", "owns": ["pack/**"]})
    assert not answer.ok and "tasks 4 and 5 may run together" in answer.text
    assert (await submit(asked, {"key": "a", "owns": ["pack/core.py"]}, {"key": "b", "owns": ["pack/use.py"]})).ends


async def test_the_loop_goes_on_meanwhile(tmp_path: Path) -> None:
    asked = answers(tmp_path)
    turns = 0
    work = asyncio.create_task(submit(asked, {"key": "core", "owns": ["pack/core.py"]}))
    while not work.done():
        turns += 1
        await asyncio.sleep(0)
    assert work.result().ends and turns > 10
