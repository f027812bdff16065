"""Tickets that come to review by themselves, for tests of what people say: each changes a file of its own."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot.standin.client import git
from schemas.ticket import Ticket, TicketState
from tests.e2e.world import World, Zygote, world

FRUIT = ("apple", "pear", "plum", "fig", "kiwi", "lime")
LINES = "".join(f"line {number}\n" for number in range(1, 21))
CHECK = "checks:\n  - name: there\n    command: test -s apple.txt\n"
TWO = f"{CHECK}approve:\n  reviews: 2\n"


def _calls(tool: str, **args: Any) -> dict[str, Any]:
    return {"calls": [{"tool": tool, "args": args}]}


def _edit(fruit: str, old: str, new: str) -> list[dict[str, Any]]:
    return [_calls("edit", path=f"{{cwd}}/{fruit}.txt", old_str=old, new_str=new), _calls("finish", summary="Done")]


def playbook() -> dict[str, Any]:
    """For each fruit: line 10 becomes its name; reworked, `ripe` stands before it. A basket is two tasks, one after the
    other, of which the second one fails at first."""
    rules = []
    for fruit in FRUIT:
        goal = f"The word {fruit} is in its file"
        task = {"key": "t", "title": f"Put {fruit}", "kind": "docs", "brief": goal, "owns": [f"{fruit}.txt"]}
        rules += [
            {"role": "engineer", "match": f"Put {fruit}", "steps": [_calls("submit_scope", goal=goal, kind="docs")]},
            {"role": "orchestrator", "match": goal, "steps": [_calls("submit_plan", tasks=[task])]},
            {"role": "developer", "match": f"Put {fruit}", "steps": _edit(fruit, "line 10\n", f"{fruit}\n")},
            {"role": "rework", "match": f"{fruit}.txt.*not ripe", "steps": _edit(fruit, f"{fruit}\n", f"ripe {fruit}\n")},
        ]  # fmt: skip
    one = {"key": "a", "title": "Basket lime", "kind": "docs", "brief": "lime", "owns": ["lime.txt"]}
    two = {"key": "b", "title": "Basket kiwi", "kind": "docs", "brief": "kiwi", "owns": ["kiwi.txt"], "after": ["a"]}
    give_up = [_calls("give_up", reason="It is not the season.")]
    rules += [
        {"role": "engineer", "match": "Put basket", "steps": [_calls("submit_scope", goal="A basket", kind="docs")]},
        {"role": "orchestrator", "match": "A basket", "steps": [_calls("submit_plan", tasks=[one, two])]},
        {"role": "developer", "match": "Basket lime", "steps": _edit("lime", "line 10\n", "lime\n")},
        {"role": "developer", "match": "Basket kiwi", "steps": give_up},
        {"role": "rework", "match": "Basket kiwi", "steps": _edit("kiwi", "line 10\n", "kiwi\n")},
    ]
    return {"rules": rules}


@dataclass
class Orchard:
    """A world of these tickets. Issue and pull request numbers are one row, so a ticket is known by its fruit."""

    scene: World
    issues: dict[str, int]

    async def say(self, who: str, fruit: str, body: str) -> dict[str, Any]:
        path = f"/repos/octo/app/issues/{self.issues[fruit]}/comments"
        said: dict[str, Any] = await self.scene.github.as_user(who, "POST", path, {"body": body})
        return said

    async def label(self, fruit: str, author: str = "alice", body: str = "in its file", by: str = "alice") -> None:
        """`author` opens the issue, and `by` labels it."""
        path, act = "/repos/octo/app/issues", self.scene.github.as_user
        made = await act(author, "POST", path, {"title": f"Put {fruit}", "body": body})
        self.issues[fruit] = made["number"]
        await act(by, "POST", f"{path}/{made['number']}/labels", {"labels": ["interlock"]})

    async def ticket(self, fruit: str, generation: int = 1) -> Ticket | None:
        sql = "SELECT body FROM tickets WHERE issue = ? AND generation = ? AND body <> ''"
        found = self._rows(sql, self.issues[fruit], generation)
        return Ticket.model_validate_json(found[0][0]) if found else None

    async def until(
        self, fruit: str, seen: Callable[[Ticket], bool], *, generation: int = 1, seconds: float = 40
    ) -> Ticket:
        """Until the ticket is so; what is stored is looked at, as not all of it is shown on GitHub."""
        ticket: Ticket | None = None
        try:
            async with asyncio.timeout(seconds):
                while (ticket := await self.ticket(fruit, generation)) is None or not seen(ticket):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(
                f"it stays so: {ticket and (ticket.state, ticket.note)}: {self.why(fruit)[-4:]}"
            ) from None
        return ticket

    async def review(self, fruit: str, generation: int = 1) -> Ticket:
        """Until the pull request waits for people, and says so."""

        def asked(one: Ticket) -> bool:
            shown = one.pull_request.head if one.pull_request else ""
            return one.state is TicketState.REVIEWING and shown == one.tip

        ticket = await self.until(fruit, asked, generation=generation)
        while True:
            runs = await self.scene.get(f"/commits/{ticket.tip}/check-runs?check_name=interlock")
            if any(run["conclusion"] == "action_required" for run in runs["check_runs"]):
                return ticket
            await asyncio.sleep(0.05)

    def why(self, fruit: str) -> list[tuple[str, str]]:
        """What was decided, as the audit chain has it: (kind of event, why)."""
        sql = "SELECT kind, why FROM audit WHERE subject LIKE ? ORDER BY seq"
        return self._rows(sql, f"octo/app#{self.issues[fruit]}%")

    def _rows(self, sql: str, *values: object) -> list[tuple[str, str]]:
        with contextlib.closing(
            sqlite3.connect(f"file:{self.scene.folder}/data/interlock.db?mode=ro", uri=True)
        ) as conn:
            return conn.execute(sql, values).fetchall()

    async def decided(self, fruit: str, kind: str, why: str, times: int = 1, seconds: float = 30) -> None:
        """Until an event of this kind was decided on for this reason."""
        try:
            async with asyncio.timeout(seconds):
                while sum(one == kind and why in said for one, said in self.why(fruit)) < times:
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"no {kind}: {why!r} in {self.why(fruit)[-6:]}") from None

    async def reviews(self, who: str, fruit: str, event: str = "APPROVE", generation: int = 1, **more: Any) -> int:
        """A person's review of the pull request; its id."""
        ticket = await self.ticket(fruit, generation)
        assert ticket is not None and ticket.pull_request is not None
        path = f"/repos/octo/app/pulls/{ticket.pull_request.number}/reviews"
        body = {"event": event, "body": more.pop("body", "Well."), **more}
        return int((await self.scene.github.as_user(who, "POST", path, body))["id"])

    async def told(self, fruit: str, *words: str, times: int = 1) -> str:
        """Until the bot's comments on the issue hold one with these words; the comment."""
        async with asyncio.timeout(30):
            while True:
                bodies = [str(one["body"]) for one in await self.scene.comments(self.issues[fruit])]
                found = [body for body in bodies if all(word in body for word in words)]
                if len(found) >= times:
                    return found[-1]
                await asyncio.sleep(0.05)

    async def press(self, who: str, name: str, head: str, button: str, about: str = "") -> None:
        """A button of a check run, once it is there."""
        async with asyncio.timeout(30):
            while True:
                runs = (await self.scene.get(f"/commits/{head}/check-runs?filter=all"))["check_runs"]
                mine = [run for run in runs if run["name"] == name and run["status"] == "completed"]
                body = {"repository": self.scene.repo.id, "identifier": button, "login": who}
                if mine and "message" not in await self.scene.github.control(
                    "press", {**body, "check_run": mine[0]["id"]}
                ):
                    return
                await asyncio.sleep(0.05)

    async def roles(self, **roles: str) -> None:
        """Who may do what, from now on."""
        await self.scene.github.control("roles", {"repository": self.scene.repo.id, "roles": roles})
        for login in roles:
            await self.scene.github.user(login)

    async def push(self, who: str, ref: str, path: str, change: Callable[[str], str], *, force: bool = False) -> str:
        """A person's commit on top of a branch; its id."""
        clone = self.scene.folder / f"clone{len(list(self.scene.folder.glob('clone*')))}"
        url = self.scene.github.url.replace("://", f"://{who}:{self.scene.github._tokens[who]}@")
        await git(self.scene.folder, "clone", "-q", "--branch", ref, f"{url}/octo/app.git", str(clone))
        (clone / path).write_text(change((clone / path).read_text()))
        identity = ("-c", f"user.name={who}", "-c", f"user.email={who}@example.org")
        await git(clone, *identity, "commit", "-q", "-a", "-m", f"By {who}")
        await git(clone, "push", "-q", *(["--force"] if force else []), "origin", f"HEAD:{ref}")
        return (await git(clone, "rev-parse", "HEAD")).strip()

    async def on_main(self, fruit: str) -> str:
        found = await self.scene.get(f"/contents/{fruit}.txt?ref=main")
        return base64.b64decode(found["content"]).decode()

    async def pull(self, fruit: str, generation: int = 1) -> dict[str, Any]:
        ticket = await self.ticket(fruit, generation)
        assert ticket is not None and ticket.pull_request is not None
        found: dict[str, Any] = await self.scene.get(f"/pulls/{ticket.pull_request.number}")
        return found


@asynccontextmanager
async def orchard(folder: Path, zygote: Zygote, policy: str = CHECK, **roles: str) -> AsyncIterator[Orchard]:
    """alice asks for the work; bob (admin), carol and dave write; eve reads; a robot may write."""
    files: Mapping[str, str] = {".github/interlock.yml": policy, **{f"{fruit}.txt": LINES for fruit in FRUIT}}
    async with world(folder, zygote, files, playbook(), INTERLOCK_SANDBOX="off", INTERLOCK_RUNNERS="6") as scene:
        made = Orchard(scene, {})
        people = {"carol": "write", "dave": "write", "eve": "read", "robot[bot]": "write", **roles}
        await made.roles(**people)
        await scene.start()
        yield made
