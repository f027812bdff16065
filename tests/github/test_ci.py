"""The repository's own CI as GitHub tells of it: what is read, what is run again, what GitHub refuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest_asyncio

from bot.github.ci import GitHubCi, Place
from bot.github.remote import Mirrors
from bot.ports import Asked, CiVerdict
from schemas.base import CiCheck, RepoRef
from tests.standin.scene import Scene, scene

BUILD, LINT = CiCheck(app="github-actions", name="build"), CiCheck(name="lint")
BRANCH = "refs/heads/interlock/queue/main"


@dataclass
class Desk:
    scene: Scene
    ci: GitHubCi
    lane: str
    commit: str

    async def look(self, *wanted: CiCheck, asked: Asked = (), push: bool = True) -> CiVerdict:
        return await self.ci.look(self.lane, self.commit, wanted, push=push, asked=asked)

    async def says(self, check: CiCheck, conclusion: str | None, **more: Any) -> None:
        what = {"head_sha": self.commit, "app": check.app, "name": check.name, "conclusion": conclusion, **more}
        await self.scene.github.control(f"repositories/{self.scene.repo.id}/ci", what)

    async def made(self, method: str, end: str) -> int:
        """How many such requests GitHub has had."""
        url = f"{self.scene.github.url}/_standin/requests"
        async with self.scene.session.get(url) as answer:
            return sum(one["method"] == method and one["path"].endswith(end) for one in await answer.json())

    def bare(self, *args: str) -> str:
        """Git in the repository as GitHub has it."""
        return self.scene.git(f"--git-dir={self.scene.source.parent}/github/octo+app.git", *args)

    def tip(self) -> str:
        return self.bare("for-each-ref", "--format=%(objectname)", BRANCH)


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with scene(tmp_path) as found:
        app = found.as_the_bot()
        mirrors = Mirrors(app, f"{found.github.url}/{{owner}}/{{repo}}.git", tmp_path / "mirrors")
        repo, installation = RepoRef(id=found.repo.id, full_name="octo/app"), int(found.app["installation"])
        remote = await mirrors.remote(repo, installation)
        commit = await remote.head("refs/heads/main")
        assert commit is not None

        async def place(_: str) -> Place:
            return repo, installation, remote

        yield Desk(found, GitHubCi(app, place), f"{repo.id}:refs/heads/main", commit)


async def test_a_commit_is_brought_once_and_only_its_own_checks_count(desk: Desk) -> None:
    desk.bare("config", "core.logAllRefUpdates", "always")
    assert (await desk.look(BUILD, LINT)).summary == "CI: github-actions/build, lint has not reported"
    assert desk.tip() == desk.commit
    await desk.says(BUILD, "success")
    await desk.says(CiCheck(app="someone-else", name="build"), "failure")
    await desk.says(CiCheck(app="github-actions", name="other"), "failure")
    await desk.says(LINT, "pending")
    assert (await desk.look(BUILD, LINT)).summary == "CI: lint has not reported"
    await desk.says(LINT, "success")
    assert await desk.look(BUILD, LINT) == CiVerdict("green", summary="CI: github-actions/build, lint")
    assert len(desk.bare("reflog", "show", BRANCH).splitlines()) == 1


async def test_what_failed_runs_once_more_and_its_old_result_is_not_the_new_one(desk: Desk) -> None:
    await desk.says(BUILD, "failure", rerequestable=True, summary="the first time")
    first = await desk.look(BUILD)
    assert first.outcome == "unknown" and "(failure, to run again)" in first.summary and len(first.asked) == 1
    assert await desk.look(BUILD, asked=first.asked) == first
    await desk.says(BUILD, None)
    assert (await desk.look(BUILD, asked=first.asked)).evidence is None
    await desk.says(BUILD, "failure", rerequestable=True, summary="the second time")
    twice = await desk.look(BUILD, asked=first.asked)
    assert twice.outcome == "red" and twice.evidence and twice.evidence.log == "the second time"
    assert twice.evidence.reason == "CI: github-actions/build concluded failure (twice)"
    await desk.says(BUILD, "success")
    flaky = await desk.look(BUILD, asked=first.asked)
    assert flaky.outcome == "green" and "github-actions/build was failure at first" in flaky.summary
    assert await desk.made("POST", "/rerequest") == 1


async def test_where_github_runs_nothing_again_red_once_counts_and_cancelled_is_asked_for_once(desk: Desk) -> None:
    await desk.says(BUILD, "failure", summary="fell over")
    red = await desk.look(BUILD)
    assert red.outcome == "red" and red.evidence and red.evidence.log == "fell over"
    assert red.evidence.reason == "CI: github-actions/build concluded failure (CI is not run again)"
    await desk.says(BUILD, "cancelled")
    first = await desk.look(BUILD)
    assert (first.outcome, first.summary) == ("unknown", "CI: github-actions/build (cancelled) has not reported")
    assert await desk.look(BUILD, asked=first.asked) == first
    assert await desk.made("POST", "/rerequest") == 2
    await desk.says(LINT, "failure", summary="a status has no run")
    status = await desk.look(LINT)
    assert status.outcome == "red" and status.evidence and status.evidence.log == "a status has no run"


async def test_the_base_is_only_read(desk: Desk) -> None:
    await desk.says(BUILD, "failure", rerequestable=True)
    assert (await desk.look(BUILD, push=False)).outcome == "red"
    assert desk.tip() == "" and await desk.made("POST", "/rerequest") == 0


async def test_one_status_among_hundreds_is_found(desk: Desk) -> None:
    await desk.says(LINT, "success")
    await asyncio.gather(*(desk.says(CiCheck(name=f"other/{number}"), "success") for number in range(230)))
    assert (await desk.look(LINT)).outcome == "green"


async def test_what_github_refuses_is_a_sentence_and_not_an_error(desk: Desk) -> None:
    await desk.scene.github.control(
        "faults", {"match": "/status$", "status": 403, "times": 9, "message": "Not for you"}
    )
    await desk.says(BUILD, "success")
    assert (await desk.look(BUILD)).outcome == "green"  # no status is wanted, so none is asked for
    refused = await desk.look(BUILD, LINT)
    assert refused.outcome == "unknown" and "cannot be asked for (GitHub answered 403: Not for you)" in refused.summary


async def test_a_queue_branch_that_is_protected_is_a_sentence_too(desk: Desk) -> None:
    path = f"{desk.scene.github.url}/_standin/repositories/{desk.scene.repo.id}"
    async with desk.scene.session.patch(path, json={"protected": {"interlock/queue/main": []}}) as answer:
        assert answer.status == 200
    refused = await desk.look(BUILD)
    assert refused.outcome == "unknown" and f"{BRANCH} must be ours to push by force" in refused.summary
