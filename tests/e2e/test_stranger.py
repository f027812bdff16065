"""A repository that is not ours, driven by a model server that its author wrote from contract.md and docs/harness.md
alone (stranger/model.py): nothing in the product knows its answers."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.world import ROOT

STRANGER = Path(__file__).parent / "stranger"
GIT = ("git", "-c", "user.name=Sam", "-c", "user.email=sam@example.org", "-c", "init.defaultBranch=trunk")
FILES = {
    "CHANGES.rst": "Version 3.2.0\n-------------\n\nUnreleased\n\n-   Drop what was deprecated.\n\n\n"
    "Version 3.1.0\n-------------\n\nReleased 2024-11-13\n\n-   The first one.\n",
    "docs/api.rst": "API\n===\n\n.. autofunction:: has_request_context\n",
    "docs/index.rst": "Welcome\n=======\n\n.. toctree::\n\n   logging\n   web-security\n",
    "docs/logging.rst": "Logging\n=======\n",
    "src/flask/helpers.py": "from __future__ import annotations\n\nimport importlib.util\nimport os\n",
    "src/flask/logging.py": "from __future__ import annotations\n\nimport logging\n",
    "src/flask/__init__.py": "from .globals import current_app as current_app\n"
    "from .signals import appcontext_popped as appcontext_popped\n"
    "from .templating import render_template as render_template\n",
    "tests/test_basic.py": "def test_nothing():\n    pass\n",
}


def repository(folder: Path) -> str:
    """Over 150 files in a dozen commits; its HEAD."""
    folder.mkdir()
    run = {"cwd": folder, "check": True, "capture_output": True}
    subprocess.run([*GIT, "init", "-q"], **run)  # type: ignore[call-overload]
    for number in range(12):
        added = {f"src/flask/parts/p{number}/m{at}.py": f"VALUE = {number * at}\n" for at in range(13)}
        for path, text in {**(FILES if number == 5 else {}), **added}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        subprocess.run([*GIT, "add", "--all"], **run)  # type: ignore[call-overload]
        subprocess.run([*GIT, "commit", "-q", "-m", f"Step {number}"], **run)  # type: ignore[call-overload]
    return state(folder).split()[0]


def state(folder: Path) -> str:
    """Everything that could tell that somebody wrote to the repository: refs, work tree, objects."""
    words = ("for-each-ref --format=%(objectname)%(refname)", "status --porcelain", "count-objects -v", "config --list")
    return "".join(
        subprocess.run(["git", *word.split()], cwd=folder, check=True, capture_output=True, text=True).stdout
        for word in words
    )


@pytest.mark.slow
@pytest.mark.cli
async def test_the_main_job_on_a_strangers_repository_with_a_strangers_model(tmp_path: Path) -> None:
    repo, journal = tmp_path / "skiff", tmp_path / "journal.jsonl"
    head = repository(repo)[:40]
    before = state(repo)
    plain = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    model = await asyncio.create_subprocess_exec(
        "/usr/bin/python3", str(STRANGER / "model.py"), "0", str(journal), env=plain, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert model.stderr is not None
        url = (await model.stderr.readline()).decode().split()[-1]
        spoken = asyncio.create_task(model.stderr.read())
        env = plain | {"COPILOT_PROVIDER_BASE_URL": url, "COPILOT_MODEL": "stranger"}
        words = ["demo", "--json", "--repo", str(repo), "--issue", str(STRANGER / "issue.md")]
        demo = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bot.cli.main", *words, "--answers", str(STRANGER / "answers.txt"), env=env, cwd=ROOT,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, error = await demo.communicate()
    finally:
        model.kill()
        await model.wait()
    said = (await spoken).decode()
    assert demo.returncode == 0, error.decode()[-3000:]
    assert "WARNING" not in said and "ERROR" not in said, said
    assert "destroyed" not in error.decode()
    found: dict[str, Any] = json.loads(out)
    assert [task["state"] for task in found["tasks"]] == ["landed"] * 5 and found["landed"] == 5
    assert [task["attempts"] for task in found["tasks"]] == [2, 1, 1, 1, 1], "the first one is reworked after its check"
    for word in ("REWORK", "MEND", "NUDGE", "REQUEST"):  # a red check, overreach, no finish, a further file
        assert f" {word} " in said, word
    faults = [line for line in journal.read_text().splitlines() if "The plan has faults" in line]
    assert faults, "the plan has a fault at the first try"
    assert found["base"]["before"] == head and found["base"]["after"] != head
    assert found["reviews"] == 1 and found["quarantined"] == 0 and found["audit"]["verified"]
    assert {check["conclusion"] for check in found["checks"]} == {"success"}
    assert state(repo) == before
