"""The main job on real parts but the model: stand-in process, git over HTTP, SQLite, sandboxed checks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bot.standin.client import SAMPLE
from tests.e2e.world import Zygote, world

PLAYBOOK: dict[str, Any] = json.loads((SAMPLE / "playbook.json").read_text())
FILES = {
    str(path.relative_to(SAMPLE / "project")): path.read_text()
    for path in sorted((SAMPLE / "project").rglob("*"))
    if path.is_file() and "__pycache__" not in path.parts
}


async def test_from_a_label_to_the_base_branch(tmp_path: Path, zygote: Zygote) -> None:
    async with world(tmp_path, zygote, FILES, PLAYBOOK) as scene:
        await scene.start()
        person = await scene.label("Make the list useful outside the terminal", "It should leave the terminal.")
        await scene.until_closed(person)
        await scene.quiet()
        assert len(person.asked) == 2 and person.plan
        commits = await scene.get("/commits?sha=main")
        messages = [commit["commit"]["message"] for commit in commits[:3]]
        assert all(
            f"Ticket: octo/app#1\nTask: octo/app#1/{n}\nChange-Request: octo/app#1/{n}.1" in "".join(messages)
            for n in (1, 2, 3)
        )
        assert len(await scene.comments(1)) == 3
        pull = (await scene.get("/pulls?state=all"))[0]
        assert pull["merged_at"] is not None
        checks = (await scene.get(f"/commits/{commits[0]['sha']}/check-runs"))["check_runs"]
        assert {(check["name"], check["conclusion"]) for check in checks} == {
            ("interlock", "success"),
            ("interlock / 3", "success"),
        }
