"""A ticket lands on the base through the repository's own CI, or comes back with what CI said."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bot.clock import SystemClock
from bot.standin.person import Person
from bot.store.store import open_store
from schemas.ticket import TicketState
from tests.cli.commands import said
from tests.e2e.test_two_issues import LIST, playbook
from tests.e2e.world import World, Zygote, world

POLICY = """checks:
  - name: complete
    command: test $(wc -l < list.txt) -ge 9
ci:
  - {app: github-actions, name: build}
  - {name: legacy/lint}
"""
FILES = {".github/interlock.yml": POLICY, "list.txt": LIST}
BRANCH = "refs/heads/interlock/queue/main"


def tip(scene: World) -> str:
    done = subprocess.run(
        ["git", "-C", str(scene.bare()), "rev-parse", "-q", "--verify", BRANCH], capture_output=True, text=True
    )
    return done.stdout.strip()


async def pushed(scene: World) -> str:
    """The commit that CI is asked about, once it is there."""
    async with asyncio.timeout(60):
        sequence = 0
        while not (sha := tip(scene)):
            sequence = await scene.github.wait(sequence, 1.0)
    return sha


async def again(scene: World) -> int:
    """How often GitHub was asked to run a check once more."""
    async with aiohttp.ClientSession() as session, session.get(f"{scene.github.url}/_standin/requests") as answer:
        return sum(one["path"].endswith("/rerequest") for one in await answer.json())


async def waiting(scene: World) -> None:
    """Until it is stored since when CI is waited for: nothing on GitHub tells of that."""
    lane = f"{scene.repo.id}:refs/heads/main"
    async with asyncio.timeout(30):
        while True:
            async with open_store(scene.folder / "data" / "interlock.db", SystemClock(), exclusive=False) as store:
                train = (await store.lane(lane)).train
            if train is not None and train.ci_since is not None:
                return
            await asyncio.sleep(0.05)


async def says(scene: World, sha: str, **what: Any) -> None:
    await scene.github.control(f"repositories/{scene.repo.id}/ci", {"head_sha": sha, **what})


@asynccontextmanager
async def asked(
    folder: Path, zygote: Zygote, **orders: Any
) -> AsyncIterator[tuple[World, Person, asyncio.Task[None], str]]:
    """A ticket whose commit waits for CI, where one of the two checks is green already; and the people, who act."""
    async with world(folder, zygote, FILES, playbook(("line 2\n", "apple\n"), ("", ""))) as scene:
        scene.orders.update(orders)
        await scene.start()
        person = await scene.label("Put Apple", "on the list")
        acting = asyncio.create_task(scene.until_closed(person, seconds=90, revive=True))
        sha = await pushed(scene)
        await says(scene, sha, app="", name="legacy/lint", conclusion="success")
        yield scene, person, acting, sha
        acting.cancel()
        await asyncio.wait({acting})


@pytest.mark.slow
async def test_a_ticket_lands_when_ci_is_green_even_after_a_kill(tmp_path: Path, zygote: Zygote) -> None:
    async with asked(tmp_path, zygote, ci_seconds=0.2) as (scene, _, landing, sha):
        await says(scene, sha, app="github-actions", name="build", conclusion=None)
        await says(scene, sha, app="someone-else", name="build", conclusion="failure")  # another App's word is nothing
        scene.kill()
        await asyncio.sleep(1.5)  # long enough for the bot to come back and look, and to land what it should not
        assert tip(scene) == sha and not landing.done()
        await says(scene, sha, app="github-actions", name="build", conclusion="success")
        await landing
        (ticket,) = await scene.tickets()
        assert ticket.state is TicketState.DONE
        main = subprocess.run(["git", "-C", str(scene.bare()), "rev-parse", "main"], capture_output=True, text=True)
        assert main.stdout.strip() == sha  # what CI was green on is what landed


@pytest.mark.slow
async def test_red_ci_sends_the_ticket_back_with_its_words(tmp_path: Path, zygote: Zygote) -> None:
    async with asked(tmp_path, zygote, ci_seconds=0.2) as (scene, _, _, sha):
        await says(scene, sha, app="github-actions", name="build", conclusion="failure", summary="the build fell over")
        async with asyncio.timeout(60):
            sequence, told = 0, None
            while told is None:
                sequence = await scene.github.wait(sequence, 1.0)
                (ticket,) = await scene.tickets()
                told = next((item.evidence for item in ticket.tasks if item.evidence), None)
        assert told.check == "github-actions/build" and told.log == "the build fell over"
        assert told.reason == "CI: github-actions/build concluded failure (CI is not run again)"
        assert ticket.state is not TicketState.DONE


@pytest.mark.slow
async def test_ci_that_is_red_once_and_then_green_lands(tmp_path: Path, zygote: Zygote) -> None:
    async with asked(tmp_path, zygote, ci_seconds=0.2) as (scene, _, landing, sha):
        build = {"app": "github-actions", "name": "build", "rerequestable": True}
        await says(scene, sha, **build, conclusion="failure")
        async with asyncio.timeout(60):
            sequence = 0
            while not await again(scene):
                sequence = await scene.github.wait(sequence, 1.0)
        await says(scene, sha, **build, conclusion="success")
        await landing
        (ticket,) = await scene.tickets()
        assert ticket.state is TicketState.DONE and ticket.landed == (sha,)
        assert all(item.attempt == 1 for item in ticket.tasks) and await again(scene) == 1
        story = await asyncio.to_thread(said, "why", sha, DATA_DIR=scene.folder / "data")
        assert "github-actions/build was failure at first" in json.dumps(story)


@pytest.mark.slow
async def test_ci_that_never_reports_pauses_the_lane_until_a_person_looks(tmp_path: Path, zygote: Zygote) -> None:
    async with asked(tmp_path, zygote) as (scene, person, acting, sha):
        await waiting(scene)
        scene.orders["hours"] = 2
        await scene.github.control("clock", {"advance": 2 * 3600})
        scene.kill()
        why = f"CI: github-actions/build has not reported on {sha[:12]} within 60 minutes"
        await scene.until(lambda comments: any(why in comment["body"] for comment in comments))
        (ticket,) = await scene.tickets()
        assert ticket.state is TicketState.LANDING and all(item.attempt == 1 for item in ticket.tasks)
        assert f"interlock queue release {ticket.base_lane}" in ticket.note and tip(scene) == sha and not acting.done()
        await says(scene, sha, app="github-actions", name="build", conclusion="success")
        acting.cancel()
        await asyncio.wait({acting})
        await scene.stop()
        words = ("queue", "release", ticket.base_lane)
        assert (await asyncio.to_thread(said, *words, DATA_DIR=scene.folder / "data"))["before"] == "paused"
        await scene.start()
        await scene.until_closed(person)
        (ticket,) = await scene.tickets()
        assert ticket.state is TicketState.DONE and ticket.landed == (sha,)
