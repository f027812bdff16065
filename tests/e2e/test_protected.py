"""The main job onto branches whose rules forbid a plain push: each way, each kill, and rules that change on the way."""

from __future__ import annotations

import asyncio
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bot.clock import SystemClock
from bot.standin.person import Person
from bot.store.store import open_store
from schemas.ticket import Ticket, TicketState
from tests.cli.commands import said
from tests.e2e.test_main_job import FILES, PLAYBOOK
from tests.e2e.test_two_issues import FILES as LIST_FILES
from tests.e2e.test_two_issues import playbook
from tests.e2e.world import World, Zygote, alive, world

SIGNED = {"branches": ["*"], "rules": [{"type": "required_signatures"}]}
PULLS = {"branches": ["main"], "rules": [{"type": "pull_request", "parameters": {}}]}
BUILD = {"type": "required_status_checks", "parameters": {
    "required_status_checks": [{"context": "build"}], "strict_required_status_checks_policy": False}}  # fmt: skip
QUICK = {"queue_seconds": 0.2, "closed_seconds": 0.5}


def queued(method: str, *more: Mapping[str, Any]) -> dict[str, Any]:
    return {"branches": ["main"], "rules": [{"type": "merge_queue", "parameters": {"merge_method": method}}, *more]}


async def rule(scene: World, *rulesets: Mapping[str, Any], **more: Any) -> None:
    await scene.github.control(f"repositories/{scene.repo.id}/rules", {"rulesets": list(rulesets), **more})


async def queue(scene: World, **act: Any) -> list[dict[str, Any]]:
    answer = await scene.github.control(f"repositories/{scene.repo.id}/queue", act)
    found: list[dict[str, Any]] = answer["queue"]
    return found


async def says(scene: World, sha: str, conclusion: str) -> None:
    body = {"head_sha": sha, "app": "github-actions", "name": "build", "conclusion": conclusion}
    await scene.github.control(f"repositories/{scene.repo.id}/ci", body)


async def asked(scene: World, path: str) -> list[dict[str, Any]]:
    return [one for one in await scene.github.control("requests") if path in one["path"]]


@asynccontextmanager
async def one_ticket(
    folder: Path, zygote: Zygote, *rulesets: Mapping[str, Any], policy: str = "", **orders: Any
) -> AsyncIterator[World]:
    """A repository with rules; its one issue puts Apple on a list."""
    files = {**LIST_FILES, ".github/interlock.yml": LIST_FILES[".github/interlock.yml"] + policy}
    async with world(folder, zygote, files, playbook(("line 2\n", "apple\n"), ("", ""))) as scene:
        await rule(scene, *rulesets)
        scene.orders.update({**QUICK, **orders})
        await scene.start()
        yield scene


async def until_dead(scene: World, person: Person) -> None:
    """Let people act until the bot is killed at the fault point that it was given."""
    async with asyncio.timeout(60):
        while alive(scene.pid):
            await person.act()
            await asyncio.sleep(0.05)


async def until(scene: World, person: Person | None, seen: Any, seconds: float = 60.0) -> Any:
    """Let people act until something is to be seen; what was seen."""
    async with asyncio.timeout(seconds):
        sequence = 0
        while not (found := await seen()):
            if person is not None:
                await person.act()
            sequence = await scene.github.wait(sequence, 0.3)
    return found


async def done(scene: World, person: Person, way: str, changes: Sequence[str]) -> Ticket:
    """The end: each change once on main, the pull request merged, the way recorded and told, the chain whole."""
    await scene.until_closed(person, revive=True)
    await scene.quiet()
    log = ["git", "-C", str(scene.bare()), "log", "--format=%B", f"{scene.repo.head}..main"]
    lines = subprocess.run(log, capture_output=True, text=True, check=True).stdout.splitlines()
    assert Counter(line for line in lines if line.startswith("Change-Request: ")) == {
        f"Change-Request: octo/app#1/{name}": 1 for name in changes
    }
    (pull,) = [one for one in await scene.get("/pulls?state=all") if one["head"]["ref"] == "interlock/1"]
    assert pull["merged_at"] is not None
    await scene.stop()
    async with open_store(scene.folder / "data" / "interlock.db", SystemClock()) as store:
        assert not (await store.verify()).faults
        (ticket,) = await store.tickets()
    assert ticket.state is TicketState.DONE and ticket.landed_by == way
    return ticket


async def foreign(scene: World, branch: str, path: str) -> None:
    """Somebody else's commit."""
    source = scene.folder / "source"
    url = scene.github.url.replace("://", f"://octo:{scene.github._tokens['octo']}@")
    (source / path).write_text("theirs\n")
    author = ("-c", "user.name=O", "-c", "user.email=o@example.org")
    push = ("push", "-q", f"{url}/octo/app.git", f"HEAD:refs/heads/{branch}")
    for words in (("add", "-A"), (*author, "commit", "-qm", "Theirs"), push):
        process = await asyncio.create_subprocess_exec("git", "-C", str(source), *words)
        assert await process.wait() == 0


async def verified(scene: World) -> list[bool]:
    commits = [one for one in await scene.get("/commits?sha=main") if one["sha"] != scene.repo.head]
    return [one["commit"]["verification"]["verified"] for one in commits]


# --- commits that GitHub signs ---------------------------------------------------------------------------------------
@pytest.mark.slow
async def test_where_signatures_are_required_github_makes_the_commits(tmp_path: Path, zygote: Zygote) -> None:
    async with world(tmp_path, zygote, FILES, PLAYBOOK) as scene:
        await rule(scene, SIGNED)
        await scene.start()
        person = await scene.label("Make the list useful outside the terminal", "It should leave the terminal.")
        ticket = await done(scene, person, "api", ["1.1", "2.1", "3.1"])
        assert await verified(scene) == [True] * 3
        comments = [one["body"] for one in await scene.comments(1)]
        assert len(comments) == 3 and any("in commits that GitHub signed" in body for body in comments)
        story = await asyncio.to_thread(said, "why", ticket.landed[-1], DATA_DIR=scene.folder / "data")
        assert story["ours"] and ticket.landed[-1] in story["landings"][0]["commits"]
        assert story["landings"][0]["way"] == "api"
        again = await asyncio.to_thread(said, "replay", DATA_DIR=scene.folder / "data")
        assert again["trains"] >= 3 and not again.get("difference")


@pytest.mark.slow
async def test_killed_at_each_step_of_signed_commits(tmp_path: Path, zygote: Zygote) -> None:
    """A commit that was made in vain stays behind on GitHub, where nothing points at it; none lands twice."""
    steps = ("land:sign", "land:move", "commit:lane:confirmed", "commit:lane:head_read")
    points = [f"{step}:{when}" for step in steps for when in ("before", "after")]
    died = tmp_path / "died"
    async with one_ticket(tmp_path, zygote, SIGNED, walk=str(died), only=points) as scene:
        person = await scene.label("Put Apple", "on the list")
        await done(scene, person, "api", ["1.1"])
        assert set(died.read_text().split()) == set(points) and await verified(scene) == [True]


@pytest.mark.slow
async def test_a_foreign_push_wins_the_race_and_the_signed_commit_is_made_anew(tmp_path: Path, zygote: Zygote) -> None:
    """Here the policy wants signed commits; the ticket's own branch has none until it is moved to what will land."""
    async with one_ticket(tmp_path, zygote, policy="landing: api\n") as scene:
        person = await scene.label("Put Apple", "on the list")
        await until(scene, None, lambda: _ours(scene))
        await scene.github.control("faults", {"match": "/graphql", "delay": 3, "times": 2})
        acting = asyncio.create_task(scene.until_closed(person))

        async def moving() -> bool:  # the ticket's branch first; then the base, which is asked for and not moved yet
            return sum("mutation MoveRef" in one["body"] for one in await asked(scene, "/graphql")) == 2

        await until(scene, None, moving)
        await foreign(scene, "main", "other.txt")
        await acting
        await done(scene, person, "api", ["1.1"])
        assert await verified(scene) == [True, False]  # ours on top of theirs


async def _told(scene: World, words: str) -> str:
    return next((one["body"] for one in await scene.comments(1) if words in one["body"]), "")


# --- rules that stand in the way -------------------------------------------------------------------------------------
@pytest.mark.slow
async def test_a_refused_push_is_nobodys_fault_and_goes_on_when_it_may(tmp_path: Path, zygote: Zygote) -> None:
    async with one_ticket(tmp_path, zygote, PULLS, closed_seconds=1.5) as scene:
        person = await scene.label("Put Apple", "on the list")
        code = (
            "GH013: Repository rule violations found for refs/heads/main: Changes must be made through a pull request"
        )
        told = await until(scene, person, lambda: _told(scene, code))
        assert "A maintainer puts it on the ruleset's bypass list" in told and len(told.strip().splitlines()) <= 8
        (ticket,) = await scene.tickets()
        assert ticket.state is TicketState.LANDING and code in ticket.note
        tries = len(await asked(scene, "/pulls/2/reviews"))  # the gate is asked at each
        await until(scene, None, lambda: _more(scene, tries))  # it is tried again, and not told again
        assert sum(code in one["body"] for one in await scene.comments(1)) == 2  # the comment, and the status
        await rule(scene, {**PULLS, "bypass": ["interlock[bot]"]})
        ticket = await done(scene, person, "push", ["1.1"])
        assert all(item.attempt == 1 for item in ticket.tasks)


async def _more(scene: World, tries: int) -> bool:
    return len(await asked(scene, "/pulls/2/reviews")) > tries


@pytest.mark.slow
async def test_a_rule_that_comes_between_the_gate_and_the_push_changes_the_way(tmp_path: Path, zygote: Zygote) -> None:
    """Five minutes are not waited for: the rules are read again at the refusal."""
    async with one_ticket(tmp_path, zygote) as scene:
        person = await scene.label("Put Apple", "on the list")
        await until(scene, None, lambda: _ours(scene))
        scene.kill()
        only = ["land:push:before"]  # from now on, that of the base
        await scene.start(closed_seconds=300.0, walk=str(tmp_path / "died"), only=only)
        await until_dead(scene, person)
        await rule(scene, {**SIGNED, "branches": ["main"]})
        await scene.start(closed_seconds=300.0)
        await done(scene, person, "api", ["1.1"])
        assert await verified(scene) == [True]


# --- GitHub's own merge queue ----------------------------------------------------------------------------------------
async def foreign_pull(scene: World, path: str) -> int:
    """Somebody else's pull request."""
    await foreign(scene, "theirs", path)
    body = {"title": "Theirs", "head": "theirs", "base": "main"}
    made = await scene.github.as_user("bob", "POST", f"/repos/{scene.repo.full_name}/pulls", body)
    return int(made["number"])


async def _in_queue(scene: World, number: int) -> dict[str, Any] | None:
    return next((one for one in await queue(scene) if one["number"] == number and one["group"]), None)


async def _ours(scene: World) -> int:
    found = [one for one in await scene.get("/pulls?state=open") if one["head"]["ref"] == "interlock/1"]
    return int(found[0]["number"]) if found else 0


@pytest.mark.slow
async def test_githubs_queue_lands_it_behind_a_foreign_pull_request(tmp_path: Path, zygote: Zygote) -> None:
    """Other methods: tests/github/test_landing.py."""
    points = [
        "land:enqueue:before",
        "land:enqueue:after",
        "commit:lane:queue_read:before",
        "commit:lane:queue_read:after",
    ]
    died = tmp_path / "died"
    async with one_ticket(tmp_path, zygote, queued("SQUASH", BUILD), walk=str(died), only=points) as scene:
        person = await scene.label("Put Apple", "on the list")
        theirs = await foreign_pull(scene, "other.txt")
        acting = asyncio.create_task(scene.until_closed(person, revive=True))
        number = await until(scene, None, lambda: _ours(scene))
        entry = await until(scene, None, lambda: _in_queue(scene, number))
        await queue(scene, enqueue=theirs, login="bob")
        await queue(scene, order=[theirs, number])  # theirs jumps the queue: our group is built anew, on theirs
        first, second = await queue(scene)
        assert second["number"] == number and second["group"] != entry["group"] and second["base"] == first["group"]
        await says(scene, second["group"], "success")
        await scene.until(lambda comments: any("In GitHub's merge queue for main." in one["body"] for one in comments))
        assert not acting.done() and len(await queue(scene)) == 2
        await says(scene, first["group"], "success")
        await acting
        ticket = await done(scene, person, "merge_queue", ["1.1"])
        assert set(died.read_text().split()) == set(points)
        assert ticket.landed == (second["group"],)
        assert len([one for one in await asked(scene, "/graphql") if "enqueuePullRequest" in one["body"]]) <= 3
        story = await asyncio.to_thread(said, "why", "#1", DATA_DIR=scene.folder / "data")
        (landing,) = story["tickets"][0]["landings"]
        said_ = "verified afterwards: its patch is the one that was approved (found by its trailers)"
        assert landing["way"] == "merge_queue" and said_ in landing["verdict"]


@pytest.mark.slow
async def test_what_githubs_queue_lets_go_of_stops_or_is_reworked(tmp_path: Path, zygote: Zygote) -> None:
    """Taken out by hand it stops, with a sentence; resumed and approved again it goes in again; there a check fails."""
    async with one_ticket(tmp_path, zygote, queued("REBASE", BUILD)) as scene:
        person = await scene.label("Put Apple", "on the list")
        number = await until(scene, person, lambda: _ours(scene))
        await until(scene, person, lambda: _in_queue(scene, number))
        await queue(scene, remove=number, login="bob")
        told = await until(scene, None, lambda: _told(scene, "let go of it: manual by bob"))
        assert "/interlock resume" in told
        (ticket,) = await scene.tickets()
        assert ticket.state is TicketState.STOPPED and not await queue(scene)
        path = f"/repos/{scene.repo.full_name}"
        await scene.github.as_user("alice", "POST", f"{path}/issues/1/comments", {"body": "/interlock resume"})
        head = (await scene.get(f"/pulls/{number}"))["head"]["sha"]

        async def reviewing() -> bool:
            (ticket,) = await scene.tickets()
            return ticket.state is TicketState.REVIEWING

        await until(scene, None, reviewing)
        review = {"event": "APPROVE", "commit_id": head, "body": "Still."}
        await scene.github.as_user("bob", "POST", f"{path}/pulls/{number}/reviews", review)
        entry = await until(scene, None, lambda: _in_queue(scene, number))
        await says(scene, entry["group"], "failure")

        async def reworked() -> Any:
            (ticket,) = await scene.tickets()
            return next((item.evidence for item in ticket.tasks if item.evidence), None)

        evidence = await until(scene, None, reworked)
        assert evidence.reason == "GitHub's merge queue let go of it: failed_checks by github-merge-queue (build)"
        assert evidence.check == "build"


@pytest.mark.slow
async def test_a_dismissed_approval_takes_it_out_of_githubs_queue(tmp_path: Path, zygote: Zygote) -> None:
    points = ["land:dequeue:before", "land:dequeue:after"]
    died = tmp_path / "died"
    async with one_ticket(tmp_path, zygote, queued("SQUASH", BUILD), walk=str(died), only=points) as scene:
        person = await scene.label("Put Apple", "on the list")
        number = await until(scene, person, lambda: _ours(scene))
        await until(scene, person, lambda: _in_queue(scene, number))
        path = f"/repos/{scene.repo.full_name}/pulls/{number}/reviews"
        (review,) = await scene.github.as_user("bob", "GET", path)
        await scene.github.as_user("bob", "PUT", f"{path}/{review['id']}/dismissals", {"message": "no"})

        async def reviewing() -> bool:
            if not alive(scene.pid):
                await scene.start()
            (ticket,) = await scene.tickets()
            return ticket.state is TicketState.REVIEWING and not await queue(scene)

        await until(scene, None, reviewing)
        assert set(died.read_text().split()) == set(points)
        assert (await scene.get("/commits?sha=main"))[0]["sha"] == scene.repo.head
