"""A canary for each kind of secret, a day on which much goes wrong, and a look everywhere: none is found."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from bot.clock import SystemClock
from bot.store.store import open_store
from tests.cli.commands import process as command
from tests.e2e.canaries import OWN, Sampler, in_files
from tests.e2e.world import PEM, SECRET, World, Zygote, world

MODEL_KEY, API_TOKEN = "sk-canary-0123456789abcdef", "canary-api-token-51c7"
PASTED = "ghp_canaryPastedByTheAuthorOfTheIssue01"
BUT = (*OWN, "playbook.json")
POLICY = "checks:\n  - name: there\n    command: test -e README.md\n"
FILES = {"README.md": "A project.\n", ".github/interlock.yml": POLICY}


def _calls(tool: str, **args: Any) -> dict[str, Any]:
    return {"calls": [{"tool": tool, "args": args}]}


def _book() -> dict[str, Any]:
    plan = {"key": "a", "title": "Do it", "kind": "feature", "brief": "Do it", "owns": ["done.txt"]}
    ask = {"id": "how", "text": "How?", "why": "It is not said."}
    return {
        "rules": [
            {"role": "engineer", "attempt": 1, "steps": [{"error": f"400 Incorrect key {MODEL_KEY}"}]},
            {"role": "engineer", "match": "Nothing yet", "steps": [_calls("ask_questions", questions=[ask])]},
            {"role": "engineer", "steps": [_calls("submit_scope", goal="Do it", kind="feature", acceptance=["done"])]},
            {"role": "orchestrator", "steps": [_calls("submit_plan", tasks=[plan])]},
            {
                "role": "developer",
                "steps": [
                    _calls("create", path="{cwd}/done.txt", file_text="done\n"),
                    _calls("finish", summary="done"),
                ],
            },
        ]
    }


async def secrets_of(scene: World) -> dict[str, str]:
    """By name; the tokens are those that GitHub has made up to now."""
    made = await scene.github.control("tokens")
    lines = PEM.decode().splitlines()
    found = {"the private key": lines[1], "the private key's end": lines[-3], "the webhook secret": SECRET}
    found |= {"the model's key": MODEL_KEY, "the API token": API_TOKEN}
    found |= {f"installation token {number}": token for number, token in enumerate(made["app"])}
    return found | {f"a person's token {number}": token for number, token in enumerate(made["people"])}


@pytest.mark.slow
async def test_no_secret_is_found_anywhere(tmp_path: Path, zygote: Zygote) -> None:
    copilot = {"COPILOT_PROVIDER_BASE_URL": "http://127.0.0.1:9", "COPILOT_PROVIDER_API_KEY": MODEL_KEY}
    async with world(tmp_path, zygote, FILES, _book(), **copilot, INTERLOCK_API_TOKEN=API_TOKEN) as scene:
        await scene.hasten(20.0)
        await scene.github.control("chaos", {"seed": 4, "share": 0.15, "kinds": ["500", "reset"]})
        scene.orders |= {"walk": str(tmp_path / "died"), "only": ["land:push:after", "run:developer:after"]}
        await scene.start()
        sampler = Sampler([scene.pid])
        sampler.start()
        person = await scene.label("Do it", "Please.")
        person.answers = [f"With my token {PASTED}"]

        async def follow() -> None:
            while True:
                sampler.parents.append(scene.pid)
                await asyncio.sleep(0.02)

        following = asyncio.create_task(follow())
        await scene.until_closed(person, seconds=120, revive=True)
        following.cancel()
        await scene.quiet()
        assert len((tmp_path / "died").read_text().split()) == 2
        asked = await asyncio.to_thread(command, "queue", "list", DATA_DIR=tmp_path / "data")
        assert asked.returncode == 0
        secrets = await secrets_of(scene)
        await scene.stop()
        sampler.ended.set()
        sampler.join()

        programs = b" ".join(sampler.seen)
        assert b"git" in programs and b"bwrap" in programs and b"python" in programs, programs
        assert sampler.found(secrets) == []
        formats = {"classic": 0, "stateless": 0}
        for name, token in secrets.items():
            if name.startswith("installation"):
                formats["stateless" if "." in token else "classic"] += 1
        assert all(formats.values()), formats
        assert in_files(tmp_path, secrets, but=BUT) == []
        log = (scene.folder / "bot.log").read_text()
        assert "effect.postponed" in log and "[redacted]" in log  # it was a bad day, and the model did say its key

        # What a person wrote is kept where texts are kept, until it is erased.
        kept = {entry.split(" in ", 1)[1] for entry in in_files(tmp_path, {"pasted": PASTED}, but=BUT)}
        assert kept <= {"data/interlock.db", "data/interlock.db-wal"}, kept
        async with open_store(scene.folder / "data" / "interlock.db", SystemClock()) as store:
            with (tmp_path / "export.jsonl").open("w") as target:
                await store.export(target)
            assert in_files(tmp_path, secrets, but=BUT) == []
            assert PASTED in (tmp_path / "export.jsonl").read_text()
            await store.forget("octo/app#1", SystemClock().wall())
        assert in_files(tmp_path, {"pasted": PASTED}, but=(*BUT, "export.jsonl")) == []


async def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    """The test of the test: in a file, in base64, in an argument and in an environment."""
    token = "ghs_7_canary.canary"
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.db").write_bytes(b"\0" + token.encode())
    basic = "eC1hY2Nlc3MtdG9rZW46Z2hzXzdfY2FuYXJ5LmNhbmFyeQ=="
    (tmp_path / "config").write_text(f"Authorization: Basic {basic}\n")
    assert sorted(in_files(tmp_path, {"token": token})) == ["token in deep/a.db", "token, in base64 in config"]
    child = await asyncio.create_subprocess_exec("sleep", "60", env={"A": token})
    other = await asyncio.create_subprocess_exec("sh", "-c", f"sleep 60; : {basic}", env={})
    sampler = Sampler([os.getpid()])
    while len(sampler.found({"token": token})) < 2:
        sampler.look()
    for one in (child, other):
        one.kill()
        await one.wait()
