"""The human of the demo: answers what is asked, approves the plan, releases what is held, reviews the pull request.

Reads only what people see on GitHub, and does only what they could do there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bot.cli.local_github import LocalGitHub, Made
from bot.errors import Rejected

SILENCE = "Use your best judgement"
_QUESTION = re.compile(r"^(\d+)\. ", re.MULTILINE)
_COMMAND = re.compile(r"^ {4}/interlock (approve|release) (\S+)$", re.MULTILINE)
_ENDED = re.compile(r"^### Interlock · (stopped|declined|cancelled)$", re.MULTILINE)

Say = Callable[[str], None]


@dataclass
class Person:
    """Two accounts: `requester` asks for the work and answers, `reviewer` approves it."""

    github: LocalGitHub
    repo: Made
    issue: int
    answers: Sequence[str]
    say: Say
    requester: str = "alice"
    reviewer: str = "bob"
    asked: list[tuple[str, str]] = field(default_factory=list)
    plan: str = ""
    reviewed: set[str] = field(default_factory=set)
    _seen: set[int] = field(default_factory=set)

    def read_already(self, comments: set[int]) -> None:
        """Leave these comments to somebody else."""
        self._seen |= comments

    async def act(self) -> bool:
        """Do what is mine to do now. True once the issue is closed. Raises Rejected if the work has stopped."""
        path = f"/repos/{self.repo.full_name}"
        for comment in await self._get(f"{path}/issues/{self.issue}/comments?per_page=100"):
            if comment["user"]["type"] == "Bot":
                await self._read(path, comment)
        issue = await self._get(f"{path}/issues/{self.issue}")
        if issue["state"] == "closed":
            return True
        for pull in await self._get(f"{path}/pulls?state=open"):
            if pull["head"]["ref"].split("-")[0] == f"interlock/{self.issue}":
                await self._look_at(path, pull)
        return False

    async def _get(self, path: str) -> Any:
        return await self.github.as_user(self.requester, "GET", path)

    async def _comment(self, who: str, path: str, body: str) -> None:
        await self.github.as_user(who, "POST", f"{path}/issues/{self.issue}/comments", {"body": body})

    async def _read(self, path: str, comment: dict[str, Any]) -> None:
        text = str(comment["body"])
        if ended := _ENDED.search(text):
            lines = text.strip().splitlines()
            raise Rejected(f"the ticket is {ended[1]}: {lines[-2] if len(lines) > 1 else text}")
        if comment["id"] in self._seen:
            return
        self._seen.add(comment["id"])
        if "before the work starts:" in text:
            for number in map(int, _QUESTION.findall(text)):
                answer = self.answers[number - 1] if number <= len(self.answers) else SILENCE
                question = next(line for line in text.splitlines() if line.startswith(f"{number}. "))
                self.asked.append((question, answer))
                self.say(f"{self.requester} answers {question[:90]!r} with {answer!r}")
                await self._comment(self.requester, path, f"/interlock answer {number} {answer}")
        for verb, what in _COMMAND.findall(text):
            who = self.reviewer if verb == "approve" else self.requester
            self.plan = what if verb == "approve" else self.plan
            self.say(f"{who} comments /interlock {verb} {what}")
            await self._comment(who, path, f"/interlock {verb} {what}")
        if "`/interlock retry" in text:
            raise Rejected(f"a person is needed: {' '.join(text.split('-->')[-1].split())[:400]}")

    async def _look_at(self, path: str, pull: dict[str, Any]) -> None:
        head = pull["head"]["sha"]
        if head in self.reviewed:
            return
        runs = await self._get(f"{path}/commits/{head}/check-runs?check_name=interlock")
        if any(run["conclusion"] == "action_required" for run in runs["check_runs"]):
            self.reviewed.add(head)
            self.say(f"{self.reviewer} reviews pull request #{pull['number']} at {head[:12]} and approves")
            body = {"event": "APPROVE", "commit_id": head, "body": "Reads well."}
            await self.github.as_user(self.reviewer, "POST", f"{path}/pulls/{pull['number']}/reviews", body)
