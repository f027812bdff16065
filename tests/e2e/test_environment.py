"""The policy's environment is there for the agent's own commands, for the task's gate and for the base branch's check."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from tests.e2e.world import Zygote, world

POLICY = """environment:
  setup:
    - mkdir $INTERLOCK_ENV/bin && printf '#!/bin/sh\\necho $WORD $(cat words.lock kept/word)' >$INTERLOCK_ENV/bin/greet
    - chmod +x $INTERLOCK_ENV/bin/greet && mkdir kept && echo three >kept/word
  lock_files: [words.lock]
  keep: [kept]
  variables: {WORD: one}
checks:
  - name: greets
    command: test "$(greet)" = "one two three"
"""
FILES = {".github/interlock.yml": POLICY, "words.lock": "two\n", ".gitignore": "kept\n"}


def _call(tool: str, **args: Any) -> dict[str, Any]:
    return {"tool": tool, "args": args}


PLAN = {"key": "a", "title": "Greet", "kind": "feature", "brief": "Greet", "owns": ["said.txt"]}
PLAYBOOK = {"rules": [
    {"role": "engineer", "steps": [{"calls": [_call("submit_scope", goal="Greet", kind="feature")]}]},
    {"role": "orchestrator", "steps": [{"calls": [_call("submit_plan", tasks=[PLAN])]}]},
    {"role": "developer", "steps": [
        {"calls": [_call("bash", command="greet >said.txt"), _call("finish", summary="Greeted.")]}]},
]}  # fmt: skip


async def test_it_reaches_agents_and_checks(tmp_path: Path, zygote: Zygote) -> None:
    async with world(tmp_path, zygote, FILES, PLAYBOOK) as scene:
        await scene.start()
        await scene.until_closed(await scene.label("Greet", "Please."))
        done = subprocess.run(
            ["git", f"--git-dir={scene.bare()}", "show", "main:said.txt"], capture_output=True, text=True, check=True
        )
        assert done.stdout == "one two three\n"
