"""A stand-in as a process, for commands that are run as a user runs them: with an App, a repository octo/app, and a model."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives import serialization

from bot.standin.client import PEOPLE
from tests.e2e.world import _KEY, PEM, ROOT

SECRET = "a webhook secret"
PUBLIC = _KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)  # fmt: skip


@contextmanager
def serving(*module: str, env: dict[str, str] | None = None) -> Iterator[str]:
    """A module of ours as a process; the address that it prints."""
    child = subprocess.Popen([sys.executable, "-m", *module], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        yield child.stdout.readline().strip()
    finally:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(10)
        child.kill()
        child.stdout.close()


class Github:
    """`app` is what the control API said of the App."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.http = httpx.Client(base_url=url, timeout=30)
        self.app: dict[str, Any] = {}
        self.repo: dict[str, Any] = {}
        self.tokens: dict[str, str] = {}
        self.repositories: dict[str, int] = {}

    def control(self, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = self.http.get(f"/_standin/{path}") if body is None else self.http.post(f"/_standin/{path}", json=body)
        answer.raise_for_status()
        return answer.json()

    def as_user(self, login: str, method: str, path: str, body: Any = None) -> Any:
        if login not in self.tokens:
            self.tokens[login] = self.control("users", {"login": login})["token"]
        headers = {"Authorization": f"Bearer {self.tokens[login]}"}
        answer = self.http.request(method, path, json=body, headers=headers)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def register(self) -> None:
        self.app = self.control("app", {"public_key": PUBLIC.decode(), "secret": SECRET})

    def make_repository(self, full_name: str, files: dict[str, str]) -> dict[str, Any]:
        """One commit of these files on main (none: an empty repository)."""
        made = self.control("repositories", {"full_name": full_name, "roles": PEOPLE})
        self.repositories[full_name] = made["id"]
        if files:
            self.push(full_name, files)
        return dict(made)

    def push(self, full_name: str, files: dict[str, str], branch: str = "main") -> None:
        owner = full_name.split("/")[0]
        self.as_user(owner, "GET", f"/repos/{full_name}")
        source = self.folder / f"source-{full_name.replace('/', '-')}"
        git = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", "-C", str(source)]
        if not source.exists():
            source.mkdir()
            subprocess.run([*git, "init", "-q", "-b", "main"], check=True)
        for path, text in files.items():
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            (source / path).write_text(text)
        url = self.url.replace("://", f"://{owner}:{self.tokens[owner]}@")
        for words in (["add", "-A"], ["commit", "-q", "--allow-empty", "-m", "Change"],
                      ["push", "-q", "-f", f"{url}/{full_name}.git", f"HEAD:refs/heads/{branch}"]):  # fmt: skip
            subprocess.run([*git, *words], check=True, env={"PATH": "/usr/bin:/bin", "GIT_TERMINAL_PROMPT": "0"})

    def settings(self) -> dict[str, object]:
        pem = self.folder / "app.pem"
        pem.write_bytes(PEM)
        pem.chmod(0o600)
        return {
            "DATA_DIR": self.folder / "data", "GITHUB_API_URL": self.url, "GITHUB_WEB_URL": self.url,
            "GIT_URL": f"{self.url}/{{owner}}/{{repo}}.git", "APP_ID": self.app["app_id"], "PRIVATE_KEY_FILE": pem,
            "WEBHOOK_SECRET": SECRET, "PORT": 0, "ADMIN_PORT": 0,
        }  # fmt: skip


@contextmanager
def github(folder: Path, prefix: str = "") -> Iterator[Github]:
    # The referee of shapes knows no paths before the API's own.
    env = {"PATH": os.environ["PATH"]} if prefix else None
    with serving("bot.standin.main", "--data", str(folder / "github"), "--prefix", prefix, env=env) as url:
        made = Github(url, folder)
        yield made
        made.http.close()
