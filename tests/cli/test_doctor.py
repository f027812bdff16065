"""`interlock doctor`: what it says of a good set-up, and of broken ones."""

from __future__ import annotations

import base64
import http.server
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bot.rules import doctor as judge
from bot.standin.control import PERMISSIONS
from bot.standin.shapes import EVENTS
from tests.cli.commands import INTERLOCK, _environment, interlock
from tests.cli.github import Github, github
from tests.e2e.world import ROOT

RULES = [
    {"type": "pull_request", "parameters": {"dismiss_stale_reviews_on_push": True, "require_last_push_approval": True,
                    "required_approving_review_count": 1, "require_code_owner_review": False,
                    "required_review_thread_resolution": False}},
    {"type": "required_status_checks",
     "parameters": {"strict_required_status_checks_policy": False, "required_status_checks": []}},
]  # fmt: skip
CLI = "#!/bin/sh\necho GitHub Copilot CLI {version}.\n"


class Models(http.server.BaseHTTPRequestHandler):
    """The only path that doctor asks a model's server for."""

    def do_GET(self) -> None:
        status = 200 if self.headers["Authorization"] == "Bearer model-key" else 401
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps({"data": [{"id": "a-model"}, {"id": "b-model"}]}).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def models() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Models) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


class Scene:
    """A good set-up; tests break it."""

    def __init__(self, hub: Github, models: str, folder: Path) -> None:
        self.hub, self.folder = hub, folder
        self.settings = hub.settings() | {"DATA_DIR": folder / "data"}
        self.model = {
            "COPILOT_PROVIDER_BASE_URL": models,
            "COPILOT_PROVIDER_API_KEY": "model-key",
            "COPILOT_MODEL": "a-model",
        }
        cli = self.folder / "tools" / "copilot"
        cli.parent.mkdir()
        cli.write_text(CLI.format(version=judge.CLI_VERSION))
        cli.chmod(0o755)
        self.settings["COPILOT_BIN"] = cli

    def change(self, **more: Any) -> None:
        if "rules" in more:
            bypass = ["interlock[bot]"] if more.pop("bypass", True) else []
            found = [{"name": "main", "rules": more.pop("rules"), "bypass": bypass}]
            self.hub.control(f"repositories/{self.hub.repositories['octo/app']}/rules", {"rulesets": found})
        self.hub.control("registration", more)

    def env(self) -> dict[str, str]:
        return _environment(self.settings) | self.model

    def doctor(self, *words: str) -> tuple[int, list[str]]:
        """In this process, its words made the same for each run."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.model.items():
                patch.setenv(name, value)
            done = interlock("doctor", *words, **self.settings)
        assert not done.stderr, done.stderr
        return done.returncode, self.plain(done.stdout)

    def plain(self, text: str) -> list[str]:
        for what, word in (
            (self.hub.url, "GITHUB"), (self.model.get("COPILOT_PROVIDER_BASE_URL", "MODEL"), "MODEL"),
            (str(self.folder), "FOLDER"), (str(self.hub.folder), "FOLDER"), (f"(id {self.hub.app['app_id']})", "(id APP)"),
            (f"App {self.hub.app['app_id']}", "App APP"),
        ):  # fmt: skip
            text = text.replace(what, word)
        text = re.sub(r"\d+\.\d GiB", "N GiB", text)
        text = re.sub(r"sqlite       \S+", "sqlite       VERSION", text)
        return re.sub(r"\d s (ahead of|behind)", "N s from", text).splitlines()


def made_good(hub: Github, models: str, folder: Path) -> Scene:
    made = Scene(hub, models, folder)
    rules = json.loads(json.dumps(RULES))
    rules[1]["parameters"]["required_status_checks"] = [{"context": "interlock", "integration_id": hub.app["app_id"]}]
    made.change(
        hook_url="https://interlock.acme.dev/webhook", rules=rules, permissions=PERMISSIONS, granted=PERMISSIONS, hook={},
        events=EVENTS, suspended_at=None,
    )  # fmt: skip
    return made


@contextmanager
def good_hub(folder: Path) -> Iterator[Github]:
    with github(folder) as hub:
        hub.register()
        hub.make_repository("octo/app", {"a.txt": "one\n", ".github/interlock.yml": "max_tasks: 4\n"})
        yield hub


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Github]:
    with good_hub(tmp_path_factory.mktemp("github")) as found:
        yield found


@pytest.fixture
def scene(hub: Github, models: str, tmp_path: Path) -> Scene:
    """On a GitHub that the tests share: only what `made_good` sets may be changed there."""
    return made_good(hub, models, tmp_path)


@pytest.fixture
def own_scene(models: str, tmp_path: Path) -> Iterator[Scene]:
    """On a GitHub of its own."""
    with good_hub(tmp_path) as found:
        yield made_good(found, models, tmp_path)


GOOD = """\
ok    disk         N GiB free
ok    sqlite       VERSION
ok    database     FOLDER/data/interlock.db will be made
ok    sandbox      its probe gets nowhere
ok    copilot      1.0.102, run in the sandbox as a run's user
ok    model        a-model at MODEL
ok    settings     App APP, data in FOLDER/data
ok    clock        N s from GitHub's
ok    api          2022-11-28
ok    app          interlock (id APP)
ok    permissions  interlock (id APP) has what app.yml names
ok    webhook      https://interlock.acme.dev/webhook, nothing was sent yet
ok    installed    on octo
ok    octo/app:main protected; lands by push
""".splitlines()


def test_a_good_set_up(scene: Scene) -> None:
    code, lines = scene.doctor()
    checks = [line for line in lines if not line.startswith("      ")]
    assert checks == GOOD and code == 0
    held = [line.strip() for line in lines if line.startswith("      ")]
    assert "octo/app max_tasks = 4  (repository)" in held
    assert "octo/app trigger = write  (default)" in held
    assert not (scene.folder / "data").exists(), "doctor changes nothing"


def broken(scene: Scene) -> list[str]:
    """What doctor says that it does not say of the good set-up; it must have failed."""
    code, lines = scene.doctor()
    new = [line for line in lines if line not in GOOD and not line.startswith("      ")]
    assert code == (1 if any(line.startswith("FAIL") for line in new) else 0), lines
    return new


# --- broken set-ups ---------------------------------------------------------------------------------------------------
def test_1_a_setting_of_another_name(scene: Scene) -> None:
    scene.settings["WEBHOOK_SECRETS"] = "x"
    assert broken(scene) == [
        "FAIL  settings     INTERLOCK_WEBHOOK_SECRETS is no setting; did you mean 'webhook_secret'?: "
        "mend it there; docs/settings.md has all keys"
    ]


def test_2_a_key_of_another_app(scene: Scene) -> None:
    scene.settings["APP_ID"] = 1
    assert broken(scene)[1:] == [
        "FAIL  app          GitHub answered 401: 'Issuer' claim ('iss') must be the App's id: "
        "do APP_ID and PRIVATE_KEY_FILE belong together? Make a new key on the App's page"
    ]


def test_3_no_app_yet(scene: Scene) -> None:
    for name in ("APP_ID", "PRIVATE_KEY_FILE"):
        del scene.settings[name]
    assert broken(scene) == [
        "FAIL  settings     APP_ID and PRIVATE_KEY_FILE are not set: register the App first (docs/operations.md): "
        "run interlock setup"
    ]


def test_4_permissions_and_events_that_the_app_does_not_ask_for(scene: Scene) -> None:
    less = {"metadata": "read", "issues": "write", "pull_requests": "read", "contents": "write", "checks": "write"}
    scene.change(permissions=less, events=["issues", "issue_comment", "pull_request", "push", "check_run"])
    assert broken(scene) == [
        "FAIL  permissions  the App lacks pull_requests: write (is read), statuses: read (is none): "
        "grant them at GITHUB/settings/apps/interlock/permissions",
        "FAIL  events       the App does not hear pull_request_review, repository: tick them at "
        "GITHUB/settings/apps/interlock/permissions",
    ]


def test_5_permissions_that_an_owner_has_not_accepted(scene: Scene) -> None:
    granted = {"metadata": "read", "issues": "write", "pull_requests": "write", "contents": "read", "checks": "write"}
    scene.change(granted=granted)
    lines = broken(scene)
    assert (
        re.sub(r"\d+$", "N", lines[0])
        == (
            "FAIL  installed    on octo, waits to be granted contents: write (is read), statuses: read (is none): "
            "an owner accepts it at GITHUB/settings/installations/N"
        )
        and len(lines) == 1
    )


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        ({"content_type": "form"}, "https://interlock.acme.dev/webhook gets form: choose application/json at PAGE"),
        ({"secret": ""}, "https://interlock.acme.dev/webhook gets unsigned deliveries: set WEBHOOK_SECRET, "
                         "and the same at PAGE"),
        ({"insecure_ssl": "1"}, "https://interlock.acme.dev/webhook is sent to without checking its certificate: enable SSL "
                                "verification at PAGE"),
    ],
    ids=["form", "unsigned", "unchecked"],
)  # fmt: skip
def test_6_a_webhook_that_is_set_up_wrong(scene: Scene, hook: dict[str, str], said: str) -> None:
    scene.change(hook=hook)
    assert broken(scene) == [f"FAIL  webhook      {said.replace('PAGE', 'GITHUB/settings/apps/interlock')}"]


def test_7_deliveries_that_nobody_takes(own_scene: Scene) -> None:
    own_scene.hub.control("app", {"webhook_url": "http://127.0.0.1:9/webhook"})
    issue = own_scene.hub.as_user("alice", "POST", "/repos/octo/app/issues", {"title": "A", "body": "B"})
    while not any(one["status"] for one in own_scene.hub.control("deliveries")):
        own_scene.hub.control("wait?after=0&timeout=1")
    assert issue["number"] == 1
    assert broken(own_scene) == [
        "FAIL  webhook      https://interlock.acme.dev/webhook, 1 of the last 1 deliveries failed "
        "(failed to connect: ClientConnectorError): is the server running, and can GitHub reach "
        "its public listener? Else use --poll"
    ]


def test_8_installed_nowhere_or_suspended(scene: Scene) -> None:
    scene.change(suspended_at="2026-11-01T00:00:00Z")
    lines = broken(scene)
    assert re.sub(r"\d+$", "N", lines[0]) == (
        "FAIL  installed    on octo, suspended: unsuspend it at GITHUB/settings/installations/N"
    ) and len(lines) == 1  # fmt: skip
    code, told = scene.doctor("--repo", "octo/other")
    assert (
        code == 1
        and "FAIL  installed    not on octo/other: install it at GITHUB/apps/interlock/installations/new" in told
    )


def test_9_a_branch_whose_rules_let_too_much_by_and_us_not(scene: Scene) -> None:
    rules = json.loads(json.dumps(RULES))
    rules[0]["parameters"] |= {"dismiss_stale_reviews_on_push": False, "require_last_push_approval": False}
    rules[1]["parameters"]["required_status_checks"] = [{"context": "interlock"}]
    scene.change(rules=rules, bypass=False)
    assert broken(scene) == [
        "FAIL  octo/app:main approvals outlive a push: set dismiss_stale_reviews_on_push in the ruleset",
        "FAIL  octo/app:main whoever pushed last may approve: set require_last_push_approval in the ruleset",
        "FAIL  octo/app:main anybody may report the required check interlock: choose the App (id APP) as its source",
        "FAIL  octo/app:main ruleset 'main' stops the App's push: add the App to its bypass list, for always",
    ]


def test_10_a_repository_that_cannot_be_worked_on(own_scene: Scene) -> None:
    own_scene.change(rules=[])
    own_scene.hub.push("octo/app", {".github/interlock.yml": "trigger: everybody\n"})
    own_scene.hub.push("octo/app", {}, "interlock")
    own_scene.hub.make_repository("octo/empty", {})
    assert broken(own_scene) == [
        "FAIL  octo/app     a branch named `interlock` is in the way of interlock/...: rename that branch",
        "FAIL  octo/app     .github/interlock.yml is not used: trigger: Input should be 'admin' or 'write'. The defaults apply.: "
        "mend it on the default branch",
        "warn  octo/app:main no rule of GitHub's keeps people from pushing past a review: "
        "require a review and the check interlock",
        "FAIL  octo/empty   has no commit on main: push one",
    ]


def test_11_a_model_that_is_not_there(scene: Scene) -> None:
    scene.model["COPILOT_MODEL"] = "c-model"
    assert broken(scene) == [
        "FAIL  model        MODEL has no c-model: set COPILOT_MODEL to one it has (a-model, b-model)"
    ]
    scene.model["COPILOT_PROVIDER_API_KEY"] = "old"
    assert broken(scene) == [
        "FAIL  model        MODEL refuses the key (401): set COPILOT_PROVIDER_API_KEY or COPILOT_GITHUB_TOKEN anew"
    ]
    scene.model["COPILOT_PROVIDER_BASE_URL"] = "http://127.0.0.1:9"
    assert broken(scene)[0].startswith("FAIL  model        MODEL does not answer")
    scene.model.clear()
    assert broken(scene)[0].startswith("FAIL  model        there is none: set COPILOT_PROVIDER_BASE_URL")


def test_12_a_cli_that_is_another_or_does_not_run(scene: Scene) -> None:
    cli = Path(str(scene.settings["COPILOT_BIN"]))
    cli.write_text(CLI.format(version="9.9.9"))
    assert broken(scene) == [
        "warn  copilot      GitHub Copilot CLI 9.9.9., tested with 1.0.102: run python3 dev.py setup, or unset COPILOT_BIN"
    ]
    cli.write_text("#!/bin/sh\nexit 7\n")
    assert broken(scene) == ["FAIL  copilot      the CLI does not run in the sandbox (7: ): run python3 dev.py setup"]
    cli.unlink()
    assert broken(scene) == ["FAIL  copilot      there is no Copilot CLI: run python3 dev.py setup, or set COPILOT_BIN"]


def test_13_a_clock_that_is_wrong(own_scene: Scene) -> None:
    own_scene.hub.control("clock", {"advance": -120})
    lines = broken(own_scene)
    assert re.match(
        r"FAIL  clock        1[12]N s from GitHub's, so GitHub refuses the App's tokens: set it by NTP", lines[0]
    )


def test_14_a_database_that_is_damaged_or_newer(scene: Scene) -> None:
    data = scene.folder / "data"
    data.mkdir()
    (data / "interlock.db").write_bytes(b"not a database" * 1000)
    assert broken(scene) == [
        "FAIL  database     FOLDER/data/interlock.db cannot be read (file is not a database): docs/operations.md, Restore"
    ]


def test_15_a_github_that_is_away(scene: Scene) -> None:
    scene.settings["GITHUB_API_URL"] = "http://127.0.0.1:9"
    assert broken(scene) == [
        "FAIL  github       http://127.0.0.1:9 cannot be reached (ClientConnectorError): "
        "look at GITHUB_API_URL and the network, or try later"
    ]


# --- the sandbox, where the machine really refuses --------------------------------------------------------------------
@pytest.mark.parametrize(
    ("prefix", "said", "mend"),
    [
        ([sys.executable, "-m", "tests.cli.deny", "namespaces"], "user namespaces are blocked", "unprivileged_userns_clone"),
        ([sys.executable, "-m", "tests.cli.deny", "mounts"], "mounts are blocked", "apparmor=unconfined"),
        (["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /proc/fs && exec "$@"', "sh"],
         "a fresh /proc cannot be mounted", "systempaths=unconfined"),
    ],
    ids=["namespaces", "mounts", "proc"],
)  # fmt: skip
def test_16_a_sandbox_that_is_blocked_is_told_apart(scene: Scene, prefix: list[str], said: str, mend: str) -> None:
    if (
        prefix[0] == "unshare"
        and subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("needs root for a mount namespace of its own")
    done = subprocess.run(
        [*prefix, *INTERLOCK, "doctor"], cwd=ROOT, env=scene.env(), capture_output=True, text=True, check=False
    )
    line = next(line for line in done.stdout.splitlines() if " sandbox " in line)
    assert line.startswith(f"FAIL  sandbox      bubblewrap does not start, since {said} (bwrap: ") and mend in line
    assert done.returncode == 1


# --- beside a server, and for programs --------------------------------------------------------------------------------
def test_it_works_beside_a_running_server(own_scene: Scene) -> None:
    command = [*INTERLOCK, "serve"]
    server = subprocess.Popen(
        command,
        cwd=own_scene.folder,
        env=own_scene.env() | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    try:
        assert server.stdout.readline().startswith("webhook http")
        code, lines = own_scene.doctor()
        assert f"ok    database     FOLDER/data/interlock.db, in use by process {server.pid}" in lines and code == 0
    finally:
        server.terminate()
        server.wait(20)
        server.stdout.close()
    code, lines = own_scene.doctor()
    assert "ok    database     FOLDER/data/interlock.db is sound" in lines and code == 0


def test_the_document_has_every_keys_source(scene: Scene) -> None:
    policy = scene.folder / "policy.yml"
    policy.write_text("defaults: {merge: squash}\nceilings: {max_tasks: 3, approve: {reviews: 2}}\n")
    scene.settings["POLICY"] = policy
    code, lines = scene.doctor("--json", "--repo", "octo/app")
    found = json.loads("\n".join(lines))
    held = found["policies"]["octo/app"]
    assert code == 0 and found["ok"] and {check["status"] for check in found["checks"]} == {"ok", "warn"}
    assert held["max_tasks"] == {"value": 3, "source": "server"}
    assert held["approve.reviews"] == {"value": 2, "source": "server"}
    assert held["merge"] == {"value": "squash", "source": "server"}
    assert held["trigger"] == {"value": "write", "source": "default"}
    warned = next(check for check in found["checks"] if check["status"] == "warn")
    assert warned["said"].endswith("max_tasks is 3 instead of 4.")


def test_no_secret_is_printed(scene: Scene) -> None:
    code, lines = scene.doctor()
    text = "\n".join(lines)
    assert code == 0 and "model-key" not in text and "a webhook secret" not in text and "PRIVATE KEY" not in text
    assert base64.b64encode(b"model-key").decode() not in text


def test_the_versions_are_the_ones_that_are_installed() -> None:
    pinned = json.loads((ROOT / ".dev" / "copilot" / "package.json").read_text())
    assert set((pinned.get("optionalDependencies") or pinned["dependencies"]).values()) == {judge.CLI_VERSION}


@pytest.mark.parametrize(
    ("version", "good"), [("3.40.1", 0), ("3.51.2", 0), ("3.51.3", 1), ("3.50.7", 1), ("3.44.6", 1), ("3.45.0", 0)]
)
def test_a_sqlite_that_can_damage_its_file(version: str, good: int) -> None:
    assert judge.sqlite(version).status == ("ok" if good else "fail")


def test_a_disk_that_is_nearly_full() -> None:
    assert [judge.disk(free, 2**28).status for free in (2**27, 2**29, 2**34)] == ["fail", "warn", "ok"]
