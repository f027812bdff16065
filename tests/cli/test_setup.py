"""`interlock setup`, driven as a browser would: from the local page over GitHub's and back, until the server starts."""

from __future__ import annotations

import html
import json
import re
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import pytest
import yaml

from tests.cli.commands import INTERLOCK, _environment, interlock
from tests.cli.github import Github, github
from tests.e2e.world import ROOT

WEBHOOK = "https://interlock.acme.dev/webhook"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Github]:
    with github(tmp_path) as found:
        yield found


def environment(hub: Github, **more: object) -> dict[str, str]:
    settings = {"GITHUB_API_URL": hub.url, "GITHUB_WEB_URL": hub.url, "GIT_URL": f"{hub.url}/{{owner}}/{{repo}}.git"}
    return _environment({**settings, **more}) | {"PYTHONPATH": str(ROOT)}


class Browser:
    """Follows redirects, sends forms with the fields that they have."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http
        self.page = httpx.Response(200)

    def open(self, url: str) -> httpx.Response:
        self.page = self.http.get(url, follow_redirects=True)
        return self.page

    def submit(self, **typed: str) -> httpx.Response:
        form = re.search(r'<form method="post" action="([^"]*)">(.*?)</form>', self.page.text, re.S)
        assert form, self.page.text
        fields = {
            html.unescape(name): html.unescape(value)
            for tag in re.findall(r"<input[^>]*>", form[2])
            for name, value in [(re.search(r'name="([^"]*)"', tag)[1], re.search(r'value="([^"]*)"', tag)[1])]  # type: ignore[index]
        }
        self.page = self.http.post(
            urljoin(str(self.page.url), html.unescape(form[1])), data=fields | typed, follow_redirects=True
        )
        return self.page


@contextmanager
def running(hub: Github, folder: Path, *words: str, **more: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command, and the address that it asks to open."""
    command = [*INTERLOCK, "setup", *words]
    child = subprocess.Popen(
        command, cwd=folder, env=environment(hub, **more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None and child.stderr is not None
    try:
        yield child, child.stdout.readline().removeprefix("Open ").strip()
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
        child.stderr.close()


def test_from_the_local_page_to_a_server_that_starts(hub: Github, tmp_path: Path) -> None:
    hub.make_repository("octo/app", {"a.txt": "one\n"})
    (tmp_path / "settings.yml").write_text("# mine\nport: 0\nadmin_port: 0\nharness: scripted")
    with running(hub, tmp_path, "--webhook-url", WEBHOOK) as (child, url), httpx.Client() as http:
        browser = Browser(http)
        first = browser.open(url)
        assert f"form-action {hub.url} 'self'" in first.headers["Content-Security-Policy"]
        asked = browser.submit()
        assert "Create GitHub App" in asked.text and "pull_requests: write" in asked.text
        done = browser.submit(name="Acme Interlock")
        assert (
            "Acme Interlock is registered" in done.text
            and f'href="{hub.url}/apps/acme-interlock/installations/new"' in done.text
        )
        out, err = child.communicate(timeout=20)
        assert child.returncode == 0, err
        browser.page = done
        browser.open(f"{hub.url}/apps/acme-interlock/installations/new")
        browser.submit()
    key = next((tmp_path / "var").glob("app-*.pem"))
    secret = next((tmp_path / "var").glob("webhook-secret-*"))
    for file in (key, secret, tmp_path / "settings.yml"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert stat.S_IMODE((tmp_path / "var").stat().st_mode) == 0o700
    text = (tmp_path / "settings.yml").read_text()
    app_id = int(re.search(r"app-(\d+)", key.name)[1])  # type: ignore[index]
    assert text.startswith("# mine\nport: 0\n") and yaml.safe_load(text) == {
        "port": 0, "admin_port": 0, "harness": "scripted", "app_id": app_id, "private_key_file": str(key),
        "webhook_secret_file": str(secret),
    }  # fmt: skip
    assert f"Acme Interlock (id {app_id}) is registered" in out and "interlock doctor" in out
    assert secret.read_text() not in out + err and "PRIVATE KEY" not in out + err
    # The key is that App's, and the server starts with what was stored.
    seen = subprocess.run(
        [*INTERLOCK, "doctor"], cwd=tmp_path, env=environment(hub), capture_output=True, text=True, check=False
    )
    lines = seen.stdout.splitlines()
    assert f"ok    app          acme-interlock (id {app_id})" in lines, seen.stdout
    assert f"ok    webhook      {WEBHOOK}, nothing was sent yet" in lines and "ok    installed    on octo" in lines


def test_for_an_organisation_without_a_public_address(hub: Github, tmp_path: Path) -> None:
    with running(hub, tmp_path, "--poll", "--org", "ac me", "--name", "Polled") as (child, url), httpx.Client() as http:
        browser = Browser(http)
        browser.open(url)
        assert f'action="{hub.url}/organizations/ac%20me/settings/apps/new?state=' in browser.page.text
        browser.submit()
        browser.submit()
        out, err = child.communicate(timeout=20)
        assert child.returncode == 0 and "interlock serve --poll" in out, err
    assert len(next((tmp_path / "var").glob("webhook-secret-*")).read_text()) == 64
    seen = subprocess.run(
        [*INTERLOCK, "doctor"], cwd=tmp_path, env=environment(hub), capture_output=True, text=True, check=False
    )
    assert "ok    webhook      none is set: run interlock serve --poll" in seen.stdout.splitlines()
    assert f"FAIL  installed    nowhere: install it at {hub.url}/apps/polled/installations/new" in seen.stdout


def test_answers_that_are_to_no_question_of_ours(hub: Github, tmp_path: Path) -> None:
    with running(hub, tmp_path, "--poll") as (child, url), httpx.Client() as http:
        browser = Browser(http)
        browser.open(url)
        found = re.search(r"state=([^\"&]+)", browser.page.text)
        assert found
        here = f"{urlsplit(url).scheme}://{urlsplit(url).netloc}"
        for query in ({"code": "x"}, {"code": "x", "state": "wrong"}, {"code": "x", "state": "é"}, {"state": found[1]}):
            assert http.get(f"{here}/registered", params=query).status_code == 400
        assert http.get(f"{here}/").status_code == 404
        # A code that GitHub does not know; then the true one is still taken, and a second time it is not.
        assert http.get(f"{here}/registered", params={"code": "../../x", "state": found[1]}).status_code == 502
        paths = [entry["path"] for entry in hub.control("requests") if "app-manifests" in entry["path"]]
        assert paths and all(path.startswith("/app-manifests/") and path.endswith("/conversions") for path in paths)
        browser.submit()
        browser.http = httpx.Client(event_hooks={"response": []})
        page = browser.page
        last = http.post(f"{hub.url}/settings/apps/create", data={
            "name": "Mine", "draft": re.search(r'name="draft" value="([^"]+)"', page.text)[1],  # type: ignore[index]
        })  # fmt: skip
        browser.http.close()
        target = last.headers["Location"]
        assert parse_qs(urlsplit(target).query)["state"] == [found[1]]
        assert http.get(target).status_code == 200
        assert child.wait(20) == 0
        code = parse_qs(urlsplit(target).query)["code"][0]
        assert http.post(f"{hub.url}/app-manifests/{code}/conversions").status_code == 404


def test_nothing_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def run(*words: str, **more: object) -> str:
        done = interlock("setup", *words, **more)
        assert done.returncode == 2 and done.stdout == ""
        return done.stderr.strip()

    assert (
        run() == "interlock: say where GitHub reaches this server (--webhook-url https://...), or --poll if it cannot"
    )
    assert run("--webhook-url", WEBHOOK, "--poll").startswith("interlock: say where")
    assert run("--webhook-url", "acme.dev").startswith("interlock: --webhook-url 'acme.dev' is no address")
    assert run("--poll", APP_ID=3).startswith("interlock: set already: app_id. Take it out of settings.yml")
    assert run("--poll", WEBHOOK_SECRET="x").startswith("interlock: WEBHOOK_SECRET is set already")
    assert run("--poll", "--github", "https://ghe.acme.dev", GIT_URL="x").startswith("interlock: set already: git_url.")
    (tmp_path / "settings.yml").write_text("private_key_file: old.pem\n")
    assert "set already: private_key_file" in run("--poll")
    assert (tmp_path / "settings.yml").read_text() == "private_key_file: old.pem\n"


def test_a_code_of_yesterday_is_refused(hub: Github) -> None:
    manifest = {"name": "M", "url": "https://a.dev", "redirect_url": "http://127.0.0.1:9/x", "default_permissions": {}}
    page = hub.http.post("/settings/apps/new?state=s", data={"manifest": json.dumps(manifest)})
    draft = re.search(r'name="draft" value="([^"]+)"', page.text)[1]  # type: ignore[index]
    made = hub.http.post("/settings/apps/create", data={"name": "M", "draft": draft})
    code = parse_qs(urlsplit(made.headers["Location"]).query)["code"][0]
    hub.control("clock", {"advance": 3601})
    assert hub.http.post(f"/app-manifests/{code}/conversions").status_code == 404


def test_the_manifest_is_what_github_takes() -> None:
    manifest = yaml.safe_load((ROOT / "app.yml").read_text())
    assert set(manifest) <= {
        "name", "url", "hook_attributes", "redirect_url", "callback_urls", "setup_url", "description", "public",
        "default_events", "default_permissions", "request_oauth_on_install", "setup_on_update",
    }  # fmt: skip
    assert (
        "workflows" not in manifest["default_permissions"] and "administration" not in manifest["default_permissions"]
    )
