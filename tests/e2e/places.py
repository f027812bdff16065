"""Tickets of one task each that are quick to reach review, and what happens around them: what the lifecycle tests share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from bot.clock import SystemClock
from bot.standin.client import git
from bot.store.store import open_store
from schemas.ticket import Ticket, TicketState
from tests.e2e.world import World, Zygote, world

POLICY = """approve: {plan: never}
checks:
  - name: there
    command: test -f list.txt
"""
FILES = {".github/interlock.yml": POLICY, "list.txt": "one\n"}
S = TicketState


def _calls(tool: str, **args: Any) -> dict[str, Any]:
    return {"calls": [{"tool": tool, "args": args}]}


def playbook(names: str) -> dict[str, Any]:
    """For an issue `Put <letter>`: one task, whose agent writes the file <letter>; a small letter's Engineer thinks for ever."""
    rules: list[dict[str, Any]] = []
    for name in names:
        title = f"Put {name}"
        scope = _calls("submit_scope", goal=f"{title} there", kind="feature", acceptance=["it is there"])
        task = {"key": "only", "title": f"{title} down", "kind": "feature", "brief": title, "owns": [name]}
        write = _calls("create", path=f"{{cwd}}/{name}", file_text=f"{name}\n")
        think = [{"hang": 100}] if name.islower() else []
        rules += [
            {"role": "engineer", "match": f"{title}\\b", "steps": [*think, scope]},
            {"role": "orchestrator", "match": f"{title} there", "steps": [_calls("submit_plan", tasks=[task])]},
            {"role": "developer", "match": f"{title} down", "steps": [write, _calls("finish", summary=title)]},
        ]
    return {"rules": rules}


@asynccontextmanager
async def place(folder: Path, zygote: Zygote, names: str = "ABCDEFGH", **environment: str) -> AsyncIterator[World]:
    """A world in which issues `Put A`, `Put B`, ... can be asked for, with the bot running."""
    async with world(folder, zygote, FILES, playbook(names), **environment) as scene:
        await scene.start()
        yield scene


async def put(scene: World, name: str) -> int:
    """Ask for it; the issue's number."""
    return (await scene.label(f"Put {name}", "please")).issue


async def ticket(scene: World, name: str) -> Ticket | None:
    """One ticket as it is stored, by its id or by its issue's number."""
    async with open_store(scene.folder / "data" / "interlock.db", SystemClock(), exclusive=False) as store:
        return await store.ticket(name)


async def until(scene: World, issue: int | str, seen: Callable[[Ticket], object], seconds: float = 40.0) -> Ticket:
    """Until the ticket is stored as wanted: nothing on GitHub need tell of that."""
    name = issue if isinstance(issue, str) else f"octo/app#{issue}"
    found: Ticket | None = None
    try:
        async with asyncio.timeout(seconds):
            while (found := await ticket(scene, name)) is None or not seen(found):
                await asyncio.sleep(0.05)
    except TimeoutError:
        log = (scene.folder / "bot.log").read_text()[-3000:]
        raise AssertionError(f"{name} is {found and (found.state, found.note, found.notice)}\n{log}") from None
    assert found is not None
    return found


async def until_state(scene: World, issue: int | str, state: TicketState) -> Ticket:
    return await until(scene, issue, lambda found: found.state is state)


async def under_review(scene: World, *names: str) -> list[Ticket]:
    """Ask for these at once; their tickets once review is asked for and the pull requests are there."""
    issues = [await put(scene, name) for name in names]
    return [await until(scene, one, lambda it: it.state is S.REVIEWING and it.pull_request) for one in issues]


async def act(scene: World, what: str, login: str = "bob", **more: Any) -> None:
    """Something that is done on GitHub's own pages."""
    await scene.github.control("lifecycle", {"act": what, "repository": scene.repo.id, "login": login, **more})


async def roles(scene: World, **roles: str) -> None:
    """What people may do from now on."""
    path = f"{scene.github.url}/_standin/repositories/{scene.repo.id}"
    async with aiohttp.ClientSession() as session, session.patch(path, json={"roles": roles}) as answer:
        answer.raise_for_status()


async def approve(scene: World, found: Ticket, login: str = "bob") -> None:
    now = await ticket(scene, found.id)
    assert now is not None and now.pull_request is not None
    path = f"/repos/{now.repo.full_name}/pulls/{now.pull_request.number}/reviews"
    await scene.github.as_user(login, "POST", path, {"event": "APPROVE", "commit_id": now.tip, "body": "Fine."})


async def approve_at_once(scene: World, found: Ticket, login: str = "bob") -> None:
    """After a push: an approval within seconds of it may be of what was there before, and is asked for again."""
    await approve(scene, found, login)
    await until(scene, found.id, lambda it: it.hasty or it.state is not S.REVIEWING)
    now = await ticket(scene, found.id)
    if now is not None and now.state is S.REVIEWING:
        await reads(scene, found.issue, "your approval was sent while it was changed", "approve again")
        await approve(scene, found, login)


async def holds_reviews(scene: World) -> None:
    """Whoever reads reviews has no answer before `calm`: what is approved waits to count."""
    await scene.github.control("faults", {"match": "/reviews", "method": "GET", "hold": True, "times": 1000})


async def says(scene: World, issue: int, text: str, login: str = "bob") -> None:
    await scene.github.as_user(login, "POST", f"/repos/{scene.repo.full_name}/issues/{issue}/comments", {"body": text})


async def patch(scene: World, path: str, login: str = "bob", **body: Any) -> None:
    await scene.github.as_user(login, "PATCH", f"/repos/{scene.repo.full_name}{path}", body)


async def reads(scene: World, issue: int, *words: str, seconds: float = 30.0) -> str:
    """Until one comment of the bot's on the issue has all these words; its text."""
    async with asyncio.timeout(seconds):
        sequence = 0
        while True:
            for comment in await scene.comments(issue):
                if all(word in comment["body"] for word in words):
                    return str(comment["body"])
            sequence = await scene.github.wait(sequence, 5.0)


async def push(scene: World, *refs: str, files: dict[str, str] | None = None, onto: str = "main") -> str:
    """A person's push: a commit of these files on `onto`, to these refs (as git writes them: `+` forces). The commit."""
    clone = scene.folder / f"clone{len(list(scene.folder.glob('clone*')))}"
    owner, token = scene.repo.full_name.split("/")[0], (await scene.github.control("users", {"login": "bob"}))["token"]
    url = f"{scene.github.url.replace('://', f'://{owner}:{token}@')}/{scene.repo.full_name}.git"
    await git(scene.folder, "clone", "-q", str(scene.bare()), str(clone))
    await git(clone, "checkout", "-q", onto)
    for path, text in (files or {}).items():
        (clone / path).parent.mkdir(parents=True, exist_ok=True)
        (clone / path).write_text(text)
    await git(clone, "add", "--all")
    if files:
        await git(clone, "-c", "user.name=B", "-c", "user.email=b@example.org", "commit", "-q", "-m", "By hand")
    await git(clone, "push", "-q", url, *refs)
    return (await git(clone, "rev-parse", "HEAD")).strip()


async def requests(scene: World) -> list[dict[str, Any]]:
    """Every REST call so far."""
    async with aiohttp.ClientSession() as session, session.get(f"{scene.github.url}/_standin/requests") as answer:
        found: list[dict[str, Any]] = await answer.json()
        return found


async def nothing_left(scene: World) -> None:
    """Until every effect is performed or given up."""
    clock = SystemClock()
    async with asyncio.timeout(40), open_store(scene.folder / "data" / "interlock.db", clock, exclusive=False) as store:
        while (await store.snapshot(clock.wall())).effects:
            await asyncio.sleep(0.05)
