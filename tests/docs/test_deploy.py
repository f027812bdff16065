"""What docs/deploy, docs/operations.md and docs/leaving.md promise, as far as it can be tried without Docker or systemd."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pysqlite3 import dbapi2 as sqlite

from bot.store.database import VERSION
from schemas.settings import Settings
from tests.cli.commands import INTERLOCK, _environment, interlock
from tests.cli.deny import HEADER
from tests.cli.github import Github, github
from tests.docs.generate import DOCS

ROOT = DOCS.parent
DEPLOY = DOCS / "deploy"
OLD = ROOT / "tests" / "corpus" / "schema-1.db.gz"
"""Of the last commit with schema 1, which ran the sample's main job to its end."""


# --- the sandbox under the documented options ---------------------------------------------------------------------------
@pytest.mark.skipif(not HEADER.exists() or os.geteuid() != 0, reason="needs root and the kernel's headers")
def test_the_seccomp_profile_lets_the_sandbox_work_and_refuses_what_it_names(tmp_path: Path) -> None:
    profile = [sys.executable, "-m", "tests.cli.deny", str(DEPLOY / "seccomp.json")]
    refused = subprocess.run([*profile, "unshare", "-m", "true"], cwd=ROOT, capture_output=True, check=False)
    assert refused.returncode == 0, "namespaces are what it is for"
    ptrace = "import ctypes; raise SystemExit(0 if ctypes.CDLL(None).ptrace(0, 0, 0, 0) == 0 else 9)"
    assert subprocess.run([*profile, sys.executable, "-c", ptrace], cwd=ROOT, check=False).returncode == 9
    settings = {"DATA_DIR": tmp_path / "data", "HARNESS": "scripted"}
    done = subprocess.run(
        [*profile, *INTERLOCK, "doctor"],
        cwd=ROOT,
        env=_environment(settings),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ok    sandbox      its probe gets nowhere" in done.stdout.splitlines(), done.stdout + done.stderr


def test_the_compose_file_and_the_image_fit_together() -> None:
    service = yaml.safe_load((DEPLOY / "compose.yml").read_text())["services"]["interlock"]
    image = (ROOT / "Dockerfile").read_text()
    assert (DEPLOY / service["build"]["context"]).resolve() == ROOT
    assert {"no-new-privileges=true", "seccomp=seccomp.json", "apparmor=unconfined", "systempaths=unconfined"} == set(
        service["security_opt"]
    )
    assert (
        service["cap_drop"] == ["ALL"] and service["volumes"] == ["data:/data"] and "INTERLOCK_DATA_DIR=/data" in image
    )
    assert "WORKDIR /data\n" in image and 'ENTRYPOINT ["tini", "--", "/app/.venv/bin/interlock"]' in image
    secrets = yaml.safe_load((DEPLOY / "compose.yml").read_text())["secrets"]
    assert [f"/run/secrets/{name}" in service["environment"].values() for name in secrets] == [True, True]
    for text in (image, (DEPLOY / "compose.yml").read_text(), (DEPLOY / "interlock.service").read_text()):
        for name in re.findall(r"INTERLOCK_([A-Z_]+)", text):
            assert name.lower() in Settings.model_fields, name


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    text = (DEPLOY / "interlock.service").read_text()
    unit = tmp_path / "interlock.service"
    unit.write_text(text.replace("/opt/interlock", str(ROOT)).replace("User=interlock", "User=root"))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "nknown" not in done.stderr, done.stderr
    # Each of these masks a part of /proc, or refuses namespaces: the sandbox could not start.
    for key in ("RestrictNamespaces", "ProtectKernelTunables", "ProtectKernelLogs", "ProtectProc", "ProcSubset"):
        assert not re.search(rf"^{key}=", text, re.MULTILINE)


# --- upgrades ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Github]:
    with github(tmp_path) as found:
        found.register()
        data = tmp_path / "data"
        data.mkdir()
        (data / "interlock.db").write_bytes(gzip.decompress(OLD.read_bytes()))
        yield found


def settings(hub: Github) -> dict[str, object]:
    playbook = hub.folder / "playbook.json"
    playbook.write_text('{"rules": []}')
    return hub.settings() | {"HARNESS": "scripted", "PLAYBOOK": playbook}


def serve_once(hub: Github) -> tuple[int, str]:
    """Start the server; once it listens, stop it. Its exit code, and stderr if it did not."""
    env = _environment(settings(hub)) | {"PYTHONPATH": str(ROOT)}
    log = (hub.folder / "log").open("w+")
    with (
        log,
        subprocess.Popen(
            [*INTERLOCK, "serve"], cwd=hub.folder, env=env, stdout=subprocess.PIPE, stderr=log, text=True
        ) as server,
    ):
        assert server.stdout is not None
        if server.stdout.readline():
            server.terminate()
        code = server.wait(60)
        log.seek(0)
        return code, log.read()


def version_of(file: Path) -> int:
    connection = sqlite.connect(str(file))
    try:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    finally:
        connection.close()


def test_the_first_releases_database_is_upgraded_by_the_server(hub: Github) -> None:
    data = hub.folder / "data"
    assert version_of(data / "interlock.db") == 1
    code, log = serve_once(hub)
    assert code == 0, log
    assert version_of(data / "interlock.db") == VERSION and version_of(data / "interlock.db.schema-1") == 1
    verified = interlock("audit", "verify", **settings(hub))
    assert verified.returncode == 0 and verified.stdout.endswith("records, verified\n"), verified
    listed = interlock("queue", "list", "--all", "--json", **settings(hub))
    assert listed.returncode == 0 and "landed" in listed.stdout
    why = interlock("why", "#1", **settings(hub))
    assert why.returncode == 0 and "octo/app#1/3" in why.stdout, why


def test_a_database_of_a_newer_release_is_refused_untouched(hub: Github) -> None:
    file = hub.folder / "data" / "interlock.db"
    connection = sqlite.connect(str(file))
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = file.read_bytes()
    code, log = serve_once(hub)
    assert code == 2 and "was written by a newer release (schema 99" in log and file.read_bytes() == before
    seen = interlock("doctor", **settings(hub))
    assert f"FAIL  database     {file} was written by a newer release (schema 99" in seen.stdout


# --- leaving ----------------------------------------------------------------------------------------------------------
def test_an_export_is_verified_by_the_script_alone_and_a_changed_one_is_not(hub: Github, tmp_path: Path) -> None:
    assert serve_once(hub)[0] == 0
    export = tmp_path / "audit.jsonl"
    assert interlock("audit", "export", export, **settings(hub)).returncode == 0
    (tmp_path / "alone").mkdir()
    script = shutil.copy(DOCS / "verify_audit.py", tmp_path / "alone")

    def verify(text: str, *noted: str) -> subprocess.CompletedProcess[str]:
        export.write_text(text)
        command = [sys.executable, "-I", "-S", script, str(export), *noted]
        return subprocess.run(command, cwd="/", capture_output=True, text=True, check=False, env={})

    text = export.read_text()
    rows = text.splitlines(keepends=True)
    good = verify(text)
    assert good.returncode == 0 and good.stdout.startswith(f"{len(rows)} rows, newest hash "), good.stderr
    head = good.stdout.split()[-1]
    assert verify(text, head).returncode == 0 and verify(text, json.loads(rows[3])["row"]["hash"]).returncode == 0
    for changed, word in (
        (text.replace('"actor": "bob"', '"actor": "eve"', 1), "was changed"),
        ("".join(rows[:4] + rows[5:]), "is missing"),
        (text.replace("Take the list out", "Take the money out", 1).replace("terminal", "terminus", 1), "was changed"),
        (text + "{}\n", "is no row of an export"),
    ):
        assert changed != text
        bad = verify(changed)
        assert bad.returncode == 1 and bad.stdout == "" and word in bad.stderr, bad.stderr
    cut = verify("".join(rows[:-1]), head)
    assert cut.returncode == 1 and "is not in this chain" in cut.stderr
    erased = [json.loads(row) for row in rows]
    erased[2]["event"] = None
    assert verify("".join(json.dumps(row) + "\n" for row in erased), head).returncode == 0
