"""What every harness must do (docs/harness.md), on the scripted one and on the real Copilot CLI alike."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from bot.app import bundled_cli
from bot.ports import Harness, Tool, ToolAnswer
from bot.runners.harnesses.copilot import CopilotHarness
from bot.runners.harnesses.scripted import ScriptedHarness
from bot.runners.sandbox import Sandbox, area_for, stage
from bot.standin.model import ModelServer, model_server
from schemas.agent import Activity, AgentEnd, AgentJob, AgentOutcome
from schemas.answers import Finish
from schemas.settings import Provider

KEY = "sk-canary-0123456789"
Steps = list[dict[str, Any]]


def call(tool: str, **args: Any) -> dict[str, Any]:
    return {"calls": [{"tool": tool, "args": args}]}


FINISH = call("finish", summary="done")


@dataclass
class Run:
    """One run with what it did."""

    harness: Harness
    workspace: Path
    finished: list[str] = field(default_factory=list)
    activities: list[Activity] = field(default_factory=list)
    server: ModelServer | None = None

    async def finish(self, said: Finish) -> ToolAnswer:
        self.finished.append(said.summary)
        if said.summary == "refuse":
            return ToolAnswer("not yet: nothing was changed", ok=False)
        return ToolAnswer("taken", ends=True)

    async def start(self, role: str = "developer", **limits: Any) -> AgentOutcome:
        marker = f"[interlock role={role} ticket=o/a#1 task=o/a#1/1 attempt=1]"
        job = AgentJob.model_validate(
            {"run": "o/a#1/1.1", "role": role, "prompt": f"{marker}\nDo it.", "nudge": f"{marker}\nReminder.", **limits}
        )
        tool = Tool("finish", "The work is done.", Finish, self.finish)
        return await self.harness.run(job, self.workspace, [tool], self.activities.append)


@pytest.fixture(params=["scripted", pytest.param("copilot", marks=pytest.mark.cli)])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def harness(tmp_path: Path, kind: str, steps: Steps, reminded: Steps | None = None) -> AsyncIterator[Run]:
    playbook = {"rules": [{"match": "Reminder", "steps": reminded or [{"say": "still done"}]}, {"steps": steps}]}
    sandbox = Sandbox("required", area_for(tmp_path / "data"))
    workspace = sandbox.area / f"work-{tmp_path.name}"
    workspace.mkdir()
    (workspace / "a.txt").write_text("one\n")
    try:
        if kind == "scripted":
            yield Run(ScriptedHarness(playbook, sandbox), workspace)
            return
        cli = bundled_cli()
        assert cli is not None
        cache = Path("/var/tmp") / f"interlock-tests-{os.geteuid()}" / f"cache-{cli.stat().st_size}"
        async with model_server(playbook) as server:
            provider = Provider(base_url=f"http://127.0.0.1:{server.port}/v1", api_key=SecretStr(KEY))
            made = CopilotHarness(cli=stage(cli, "copilot"), sandbox=sandbox, cache=cache, provider=provider)
            yield Run(made, workspace, server=server)
    finally:
        shutil.rmtree(sandbox.area.parent, ignore_errors=True)


async def test_edits_land_in_the_workspace_and_an_answer_ends_the_run(tmp_path: Path, kind: str) -> None:
    steps = [
        call("create", path="{cwd}/b.txt", file_text="new\n"),
        call("edit", path="{cwd}/a.txt", old_str="one", new_str="two"),
        call("bash", command="cd {cwd} && cat a.txt > c.txt", description="copy"),
        FINISH,
        call("create", path="{cwd}/late.txt", file_text="after the end"),
    ]
    async with harness(tmp_path, kind, steps) as run:
        outcome = await run.start()
        assert outcome.end is AgentEnd.TOOL and run.finished == ["done"]
        found = {path.name: path.read_text() for path in run.workspace.iterdir() if path.is_file()}
        assert found == {"a.txt": "two\n", "b.txt": "new\n", "c.txt": "two\n"}
        assert outcome.usage.model_calls >= 3 and outcome.usage.input_tokens > 0
        assert {activity.kind for activity in run.activities} >= {"tool_start", "tool_end"}
        if run.server:
            assert set(run.server.authorizations) == {f"Bearer {KEY}"}


async def test_bad_arguments_and_refusals_come_back_and_the_run_goes_on(tmp_path: Path, kind: str) -> None:
    steps = [call("finish", summery="typo"), call("finish", summary="refuse"), FINISH]
    async with harness(tmp_path, kind, steps) as run:
        assert (await run.start()).end is AgentEnd.TOOL
        assert run.finished == ["refuse", "done"]
        told = " ".join(activity.text for activity in run.activities if activity.kind == "tool_end")
        assert "summary" in told and "not yet" in told


async def test_text_without_an_answer_is_reminded_once(tmp_path: Path, kind: str) -> None:
    async with harness(tmp_path, kind, [{"say": "all done"}], [FINISH]) as run:
        assert (await run.start()).end is AgentEnd.TOOL
    other = tmp_path / "other"
    other.mkdir()
    async with harness(other, kind, [{"say": "all done"}]) as run:
        outcome = await run.start()
        assert outcome.end is AgentEnd.TEXT and outcome.text == "still done" and not run.finished


async def test_the_reading_roles_cannot_write(tmp_path: Path, kind: str) -> None:
    steps = [
        call("create", path="{cwd}/b.txt", file_text="new\n"),
        call("bash", command="touch x", description="x"),
        FINISH,
    ]
    async with harness(tmp_path, kind, steps) as run:
        assert (await run.start(role="engineer")).end is AgentEnd.TOOL
        assert [path.name for path in run.workspace.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(
    ("steps", "limits", "end"),
    [
        ([{"hang": 60}], {"idle_seconds": 1.0}, AgentEnd.IDLE),
        ([{"hang": 60}], {"deadline_seconds": 2.0}, AgentEnd.DEADLINE),
        ([{"http_error": 400}], {}, AgentEnd.MODEL_ERROR),
        ([call("bash", command="true", description="x")] * 9, {"max_model_calls": 3}, AgentEnd.BUDGET),
    ],
)
async def test_trouble_is_an_outcome(
    tmp_path: Path, kind: str, steps: Steps, limits: dict[str, Any], end: AgentEnd
) -> None:
    async with harness(tmp_path, kind, steps) as run:
        outcome = await run.start(**limits)
        assert outcome.end is end and not run.finished


async def test_cancelling_leaves_no_process_behind(tmp_path: Path, kind: str) -> None:
    mark = f"3600.{os.getpid()}{abs(hash(str(tmp_path))) % 10**6}"
    stubborn = f"cd {{cwd}}; trap '' TERM; setsid sleep {mark} & sleep {mark}"
    async with harness(tmp_path, kind, [call("bash", command=stubborn, description="x")]) as run:
        task = asyncio.ensure_future(run.start())
        async with asyncio.timeout(30):
            while not _alive(mark):
                await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(6):
                await task
        async with asyncio.timeout(5):
            while _alive(mark):
                await asyncio.sleep(0.05)


def _alive(mark: str) -> list[str]:
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if f"sleep\0{mark}" in place.read_text("utf-8", "replace"):
                found.append(place.parent.name)
        except OSError:
            continue
    return found
