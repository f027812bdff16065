"""The human of the demo: answers what is asked, approves the plan, releases what is held, reviews the pull request.

Reads only what people see on GitHub, and does only what they could do there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from bot.standin.client import LocalGitHub, Made
from bot.standin.errors import Refused

SILENCE = "Use your best judgement"
_QUESTION = re.compile(r"^(\d+)\. ", re.MULTILINE)
_COMMAND = re.compile(r"^ {4}/interlock (approve|release) (\S+)$", re.MULTILINE)
_ENDED = re.compile(r"^### Interlock · (stopped|declined|cancelled)$", re.MULTILINE)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Seen:
    """What people can see on GitHub at the end; commits are those since the repository was pushed, oldest first."""

    head: str
    commits: list[dict[str, Any]]
    checks: list[dict[str, Any]]
    reviews: int
    comments: int
    """By the bot, on the issue."""


@dataclass
class Person:
    """Two accounts: `requester` asks for the work and answers, `reviewer` approves it. Issue 0: none is known yet."""

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
        """Do what is mine to do now. True once the issue is closed. Raises Refused if the work has stopped."""
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

    async def look_back(self) -> Seen:
        """All that has come of the issue."""
        path = f"/repos/{self.repo.full_name}"
        commits = await self._get(f"{path}/commits?sha={self.repo.branch}&per_page=100")
        commits = list(takewhile(lambda commit: commit["sha"] != self.repo.head, commits))[::-1]
        pulls = await self._get(f"{path}/pulls?state=all")
        heads = dict.fromkeys([commit["sha"] for commit in commits] + [pull["head"]["sha"] for pull in pulls])
        runs = [await self._get(f"{path}/commits/{head}/check-runs?filter=all") for head in heads]
        reviews = [await self._get(f"{path}/pulls/{pull['number']}/reviews") for pull in pulls]
        comments = await self._get(f"{path}/issues/{self.issue}/comments?per_page=100") if self.issue else []
        return Seen(
            head=commits[-1]["sha"] if commits else self.repo.head, commits=commits,
            checks=[run for found in runs for run in found["check_runs"]], reviews=sum(map(len, reviews)),
            comments=sum(comment["user"]["type"] == "Bot" for comment in comments),
        )  # fmt: skip

    async def _get(self, path: str) -> Any:
        return await self.github.as_user(self.requester, "GET", path)

    async def _comment(self, who: str, path: str, body: str) -> None:
        await self.github.as_user(who, "POST", f"{path}/issues/{self.issue}/comments", {"body": body})

    async def _read(self, path: str, comment: dict[str, Any]) -> None:
        text = str(comment["body"])
        if ended := _ENDED.search(text):
            lines = text.strip().splitlines()
            raise Refused(f"the ticket is {ended[1]}: {lines[-2] if len(lines) > 1 else text}")
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
        if f"@{self.reviewer}, your approval was" in text:
            self.reviewed.clear()
        if "`/interlock retry" in text:
            raise Refused(f"a person is needed: {' '.join(text.split('-->')[-1].split())[:400]}")

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


async def open_issue(
    github: LocalGitHub, repo: Made, title: str, body: str, answers: Sequence[str], say: Say, *, label: bool = True
) -> Person:
    """Ask for work: an issue, and the label that starts it."""
    path = f"/repos/{repo.full_name}/issues"
    issue = await github.as_user("alice", "POST", path, {"title": title, "body": body})
    person = Person(github, repo, issue["number"], answers, say)
    say(f"{person.requester} opens issue #{person.issue}: {title}")
    if label:
        await github.as_user(person.requester, "POST", f"{path}/{person.issue}/labels", {"labels": ["interlock"]})
        say(f"{person.requester} labels it `interlock`")
    return person
