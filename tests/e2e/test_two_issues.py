"""Two issues labelled at the same moment whose tasks change one common file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.world import World, Zygote, world

POLICY = "checks:\n  - name: complete\n    command: test $(wc -l < list.txt) -ge 9\n"
LIST = "".join(f"line {number}\n" for number in range(1, 10))
FILES = {".github/interlock.yml": POLICY, "list.txt": LIST}


def _calls(tool: str, **args: Any) -> dict[str, Any]:
    return {"calls": [{"tool": tool, "args": args}]}


def _plan(title: str) -> list[dict[str, Any]]:
    task = {"key": "only", "title": title, "kind": "feature", "brief": title, "owns": ["list.txt"]}
    return [_calls("submit_plan", tasks=[task])]


def _edit(old: str, new: str) -> list[dict[str, Any]]:
    return [_calls("edit", path="{cwd}/list.txt", old_str=old, new_str=new), _calls("finish", summary=f"Says {new}")]


def playbook(first: tuple[str, str], second: tuple[str, str]) -> dict[str, Any]:
    """Two tickets, Apple and Pear; each replaces a line. Reworked, it adds to what the other one wrote."""
    rules = []
    for name, (old, new) in (("Apple", first), ("Pear", second)):
        scope = _calls("submit_scope", goal=f"{name} goes on the list", kind="feature", acceptance=["it is there"])
        other = "pear" if name == "Apple" else "apple"
        rules += [
            {"role": "engineer", "match": f"Put {name}", "steps": [scope]},
            {"role": "orchestrator", "match": f"{name} goes on the list", "steps": _plan(f"Put {name} on the list")},
            {"role": "developer", "match": f"Put {name} on the list", "steps": _edit(old, new)},
            {
                "role": "rework",
                "match": f'"title": "Put {name} on the list".*theirs:.*{other}',
                "steps": _edit(f"{other}\n", f"{other}\n{name.lower()}\n"),
            },
        ]
    return {"rules": rules}


async def both(scene: World) -> None:
    await scene.start()
    people = await asyncio.gather(scene.label("Put Apple", "on the list"), scene.label("Put Pear", "on the list"))
    await scene.until_closed(*people, seconds=90)
    await scene.quiet()


async def on_main(scene: World) -> str:
    found = await scene.get("/contents/list.txt?ref=main")
    import base64

    return base64.b64decode(found["content"]).decode()


@pytest.mark.slow
async def test_on_different_lines_both_land(tmp_path: Path, zygote: Zygote) -> None:
    async with world(tmp_path, zygote, FILES, playbook(("line 2\n", "apple\n"), ("line 8\n", "pear\n"))) as scene:
        await both(scene)
        assert await on_main(scene) == LIST.replace("line 2", "apple").replace("line 8", "pear")
        tickets = await scene.tickets()
        assert [ticket.tasks[0].attempt for ticket in tickets] == [1, 1]


@pytest.mark.slow
async def test_on_the_same_line_one_is_reworked_before_review_is_asked_for(tmp_path: Path, zygote: Zygote) -> None:
    async with world(tmp_path, zygote, FILES, playbook(("line 5\n", "apple\n"), ("line 5\n", "pear\n"))) as scene:
        await both(scene)
        text = await on_main(scene)
        assert text in (LIST.replace("line 5", "apple\npear"), LIST.replace("line 5", "pear\napple"))
        tickets = await scene.tickets()
        assert sorted(ticket.tasks[0].attempt for ticket in tickets) == [1, 2]
        for pull in await scene.get("/pulls?state=all"):
            reviews = await scene.get(f"/pulls/{pull['number']}/reviews")
            assert len(reviews) == 1, "review was asked for something that could not land"
