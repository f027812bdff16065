"""`interlock rehearse`, with a stand-in for the real GitHub: it lands, names what was different there, and leaves nothing."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bot.standin.errors import NoScene
from bot.standin.rehearsal import Exchange, Somewhere, Stage, differences, play, prepare
from tests.cli.commands import INTERLOCK, _environment
from tests.cli.github import Github, github
from tests.e2e.world import ROOT

NAME = "octo/an-interlock-rehearsal"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Github]:
    with github(tmp_path) as found:
        found.register()
        found.control("repositories", {"full_name": NAME, "roles": {"alice": "write"}})
        yield found


def rehearse(hub: Github, *words: str, token: str = "", **more: object) -> subprocess.CompletedProcess[str]:
    env = _environment(hub.settings() | more) | {"PYTHONPATH": str(ROOT), "GITHUB_TOKEN": token}
    return subprocess.run(
        [*INTERLOCK, "rehearse", *words], cwd=hub.folder, env=env, capture_output=True, text=True, check=False
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def left_on(hub: Github) -> dict[str, Any]:
    hub.as_user("alice", "GET", f"/repos/{NAME}")
    return {
        "issues": hub.as_user("alice", "GET", f"/repos/{NAME}/issues?state=open"),
        "pulls": hub.as_user("alice", "GET", f"/repos/{NAME}/pulls?state=open"),
        "branches": hub.as_user("alice", "GET", f"/repos/{NAME}/git/matching-refs/heads/interlock"),
        "labels": hub.as_user("alice", "GET", f"/repos/{NAME}/labels"),
    }


NOTHING: dict[str, Any] = {"issues": [], "pulls": [], "branches": [], "labels": []}


@pytest.mark.slow
def test_it_lands_names_what_was_different_and_leaves_nothing(tmp_path: Path) -> None:
    """On a GitHub Enterprise Server behind a path: the whole main job runs there."""
    port = free_port()
    with github(tmp_path, "/code/host") as hub:
        hub.register()
        hub.control("repositories", {"full_name": NAME, "roles": {"alice": "write"}})
        hub.control("app", {"webhook_url": f"http://127.0.0.1:{port}/webhook"})
        hub.control("faults", {"match": r"/issues/\d+/comments$", "method": "POST", "status": 502, "times": 1})
        hub.control("faults", {"match": r"/check-runs$", "method": "POST", "status": 500, "times": 1, "after": True})
        hub.as_user("alice", "GET", f"/repos/{NAME}")
        given = hub.settings() | {"PORT": port, "GITHUB_API_URL": f"{hub.url}/api/v3"}
        (tmp_path / "secret").write_text(f"{given.pop('WEBHOOK_SECRET')}\n")
        given |= {"PRIVATE_KEY_FILE": "app.pem", "WEBHOOK_SECRET_FILE": "secret"}  # where the command is run
        (tmp_path / "settings.yml").write_text("".join(f"{key.lower()}: {value}\n" for key, value in given.items()))
        env = _environment({}) | {"PYTHONPATH": str(ROOT), "GITHUB_TOKEN": hub.tokens["alice"]}
        command = [*INTERLOCK, "rehearse", NAME, "--yes", "--json", "--minutes", "5"]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr + done.stdout
        found = json.loads(done.stdout)
        assert found["landed"] and found["failure"] == ""
        assert found["differences"] == [
            "POST /repos/O/R/issues/N/comments answered 502 (a fault on demand); the stand-in: 201",
            "POST /repos/O/R/check-runs answered 500 (a fault on demand); the stand-in: 201",
        ]
        assert left_on(hub) == NOTHING
        assert hub.tokens["alice"] not in done.stderr + done.stdout
        paths = [entry["path"] for entry in hub.control("requests")]
        assert any(path.startswith("/code/host/api/v3/repos/") for path in paths)
        assert not [path for path in paths if hub.tokens["alice"] in path]


def test_it_refuses_what_may_be_somebodys(hub: Github) -> None:
    hub.as_user("alice", "GET", f"/repos/{NAME}")
    token = hub.tokens["alice"]
    hub.make_repository("octo/app", {"a.txt": "one\n"})
    hub.make_repository("octo/interlock-rehearsal-2", {"a.txt": "one\n"})
    assert "GITHUB_TOKEN is not set" in rehearse(hub, NAME, "--yes").stderr
    assert "say --yes if it may" in rehearse(hub, NAME, token=token).stderr
    for name, word in (
        ("octo/app", "may be somebody's"),
        ("octo/interlock-rehearsal-2", "has commits that no rehearsal made"),
    ):

        async def refused(name: str = name) -> None:
            stage = Stage(hub.url, f"{hub.url}/{{owner}}/{{repo}}.git", name, "alice", token, {})
            await play(stage, hub.folder, 1.0, lambda _: None)

        with pytest.raises(NoScene, match=word):
            import asyncio

            asyncio.run(refused())
    # Nothing was written anywhere.
    assert not [e for e in hub.control("requests") if e["method"] != "GET" and e["path"].startswith("/repos/")]


async def test_what_was_made_is_removed_when_the_bot_does_not_start_or_nobody_answers(
    hub: Github, tmp_path: Path
) -> None:
    hub.as_user("alice", "GET", f"/repos/{NAME}")
    stage = Stage(
        hub.url, f"{hub.url}/{{owner}}/{{repo}}.git", NAME, "alice", hub.tokens["alice"], {"PATH": "/usr/bin:/bin"}
    )
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with pytest.raises(NoScene, match="did not start: interlock: WEBHOOK_SECRET is not set"):
        await play(stage, tmp_path / "one", 60.0, lambda _: None)
    assert left_on(hub) == NOTHING
    # Labelled, a branch there, and the bot deaf to GitHub: its webhook leads nowhere.
    settings = _environment(hub.settings()) | {"PYTHONPATH": str(ROOT)}
    deaf = Stage(stage.api_url, stage.git_url, NAME, "alice", stage.token, settings)
    hub.push(NAME, {}, "interlock/1")
    why = await play(deaf, tmp_path / "two", 8.0, lambda _: None, pause=0.2)
    assert why == "it had not landed after 8 s" and left_on(hub) == NOTHING


async def test_a_repository_of_an_earlier_rehearsal_may_be_used_again(hub: Github, tmp_path: Path) -> None:
    hub.as_user("alice", "GET", f"/repos/{NAME}")
    stage = Stage(hub.url, f"{hub.url}/{{owner}}/{{repo}}.git", NAME, "alice", hub.tokens["alice"], {})
    async with aiohttp.ClientSession() as session:
        for round_ in ("one", "two"):
            (tmp_path / round_).mkdir()
            made = await prepare(stage, Somewhere(stage, session, 0.1), tmp_path / round_)
    commits = hub.as_user("alice", "GET", f"/repos/{NAME}/commits?sha=main")
    assert [commit["sha"] for commit in commits] == [made.head]


def test_differences_are_named_once() -> None:
    def one(call: str, status: int, *fields: str, words: str = "") -> Exchange:
        return Exchange(call, status, frozenset(fields), words)

    here = [one("GET /a", 200, "id", "name"), one("GET /a", 200, "id"), one("POST /b", 201, "id", "node_id")]
    assert differences(here, here) == []
    there = [
        one("GET /a", 404, words="Not Found"), one("GET /a", 404, words="Not Found"), one("GET /a", 200, "id", "more"),
        one("POST /b", 201, "id"), one("GET /c", 200), one("GET /d", 403, words="no"),
    ]  # fmt: skip
    assert differences(here, there) == [
        "GET /a answered 404 (Not Found); the stand-in: 200",
        "POST /b answered without node_id",
        "GET /d answered 403 (no); the stand-in: never asked",
    ]
