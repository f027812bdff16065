"""After the main job: what the records of a whole ticket answer, also when its texts were erased."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from bot.cli.place import Place
from bot.cli.why import _answer
from bot.clock import SystemClock
from bot.store.store import open_store
from tests.cli.commands import process
from tests.e2e.test_main_job import FILES, PLAYBOOK
from tests.e2e.world import Zygote, world

LIMIT_SECONDS = 0.2


@pytest.mark.slow
async def test_a_finished_ticket_is_traced_from_each_commit(tmp_path: Path, zygote: Zygote) -> None:
    policy = FILES[".github/interlock.yml"] + "merge: squash\n"
    async with world(tmp_path, zygote, {**FILES, ".github/interlock.yml": policy}, PLAYBOOK) as scene:
        await scene.start()
        person = await scene.label("Make the list useful", "Outside the terminal.")
        await scene.until_closed(person)
        await scene.quiet()
        commits = [commit["sha"] for commit in await scene.get("/commits?sha=main")]
        await scene.stop()
        data = tmp_path / "data"
        place = Place(data / "interlock.db", None)

        async def why(what: str) -> Any:
            began = time.perf_counter()
            found = await _answer(place, what, None, None)
            assert time.perf_counter() - began < LIMIT_SECONDS, what
            return json.loads(json.dumps(found))

        await why(commits[0])
        squashed = await why(commits[0][:9])
        assert squashed["ours"]
        assert sorted(c["task"] for c in squashed["changes"]) == [f"octo/app#1/{n}" for n in (1, 2, 3)]
        assert squashed["plan"]["approved_by"] and len(squashed["plan"]["hash"]) == 64
        assert all(question["answer"] for question in squashed["questions"])
        assert squashed["reviews"][0]["digest"] == squashed["digest"] == squashed["landings"][0]["digest"]
        landing = squashed["landings"][0]
        assert landing["lane"].endswith(":refs/heads/main") and landing["onto"] == commits[1] and landing["train"]
        run = squashed["changes"][0]["runs"][0]
        assert (run["attempt"], run["outcome"]) == (1, "succeeded") and squashed["changes"][0]["verdict"]
        for item in (await scene.tickets())[0].tasks:
            found = await why(item.commit or "")
            assert found["ours"] and [one["task"] for one in found["changes"]] == [item.task.id]
        line = await why("pantry/low.py:1")
        assert line["commit"] == commits[0]
        ticket = (await why("#1"))["tickets"][0]
        assert ticket["ticket"]["landed"] == [commits[0]] and ticket["ticket"]["pull_request"] == 2
        assert (await why("octo/app#1"))["tickets"] == [ticket]
        foreign = await why(commits[-1])
        assert not foreign["ours"] and foreign["author"].startswith("A ")

        env = {"DATA_DIR": data}
        began = time.perf_counter()
        told = await asyncio.to_thread(process, "why", commits[-1], **env)
        whole = time.perf_counter() - began
        assert told.returncode == 1 and "not made by Interlock" in told.stdout and whole < 10
        none = await asyncio.to_thread(process, "why", "pantry/low.py:9999", **env)
        assert none.returncode == 1 and "has only" in none.stderr

        again = json.loads((await asyncio.to_thread(process, "replay", "--json", **env)).stdout)
        assert (
            again["difference"] is None and again["commits"] == 4 and again["trains"] >= 2 and again["decisions"] > 15
        )

        async with open_store(data / "interlock.db", SystemClock()) as store:
            await store.forget("octo/app#1", SystemClock().wall(), by="ada")
        erased = await why(commits[0])
        assert erased["ours"] and erased["ticket"]["erased"]["by"] == "ada" and erased["ticket"]["title"] == ""
        assert len(erased["changes"]) == 3 and erased["reviews"] == squashed["reviews"]
        gone = await asyncio.to_thread(process, "replay", "--ticket", "octo/app#1", **env)
        assert gone.returncode == 1 and "cannot be replayed" in gone.stderr
