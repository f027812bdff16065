"""The referee itself: what it must name, and that a run with a misfit fails."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bot.standin.record import ENVIRONMENT
from tests.contracts.github_schema import faults
from tests.standin.scene import scene

ROOT = Path(__file__).parents[2]
COMMENT = {"method": "POST", "path": "/repos/octo/app/issues/1/comments", "query": [], "agent": "interlock"}
REFUSED = {"message": "Validation Failed", "documentation_url": "https://docs.github.com/rest"}


def rest(**changed: Any) -> dict[str, Any]:
    """A refused call of ours, which is judged like any other."""
    return {"rest": {**COMMENT, "status": 422, "request": {"body": "hello"}, "response": REFUSED, **changed}}


@pytest.mark.parametrize(
    ("record", "named"),
    [
        (rest(), None),
        (rest(request={"body": "hello", "colour": "red"}), "request.colour: GitHub has no such field"),
        (rest(request={"body": 3}), "request.body: Input should be a valid string"),
        (rest(request={}), "request.body: Field required"),
        (rest(agent="somebody's test", request={}), None),
        (rest(query=["colour"]), "no query parameter colour"),
        (rest(path="/repos/octo/app/colours"), "GitHub has no such call"),
        (rest(method="GET", path="/repositories/7/issues/1", request={"a": 1}), "takes no body"),
        (rest(response={**REFUSED, "colour": "red"}), "answer 422.colour: GitHub has no such field"),
        (rest(response={"documentation_url": ""}), "answer 422"),
        (rest(status=201, response={"id": 1}), "answer 201.node_id: Field required"),
        (rest(method="DELETE", path="/repos/o/r/git/refs/heads/a/b", request=None, status=204, response=None), None),
        ({"hook": {"event": "issues", "payload": {"action": "painted"}}}, "webhook issues.painted: GitHub has no such action"),
        ({"hook": {"event": "paint", "payload": {}}}, "webhook paint: GitHub has no such event"),
        ({"hook": {"event": "push", "payload": {"ref": "refs/heads/main"}}}, "webhook push.after: Field required"),
        (rest(path="/graphql", request={"query": "query { viewer { login } }"}), None),
        (rest(path="/graphql", request={"query": "query { viewer { colour } }"}), "Cannot query field 'colour'"),
        (rest(path="/graphql", request={"query": "query($id: ID!) { node(id: $id) { id } }"}), "$id"),
    ],
)  # fmt: skip
def test_misfits_are_named(record: dict[str, Any], named: str | None) -> None:
    found = faults([record])
    assert (found == []) if named is None else any(named in fault for fault in found), found


async def test_exchanges_and_webhooks_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    async with scene(tmp_path) as world:
        await world.github.control("app", {"webhook_url": "http://127.0.0.1:9/nobody"})
        await world.github.as_user("alice", "POST", "/repos/octo/app/issues", {"title": "A 1st title of its own"})
        path = next(tmp_path.glob("*.jsonl"))
        before = path.read_text().splitlines()
        await world.github.as_user("alice", "POST", "/repos/octo/app/issues", {"title": "A 2nd title of its own"})
        assert path.read_text().splitlines() == before  # nothing new under the sun
    records = [json.loads(line) for line in before]
    assert {"rest": {"POST /repos/octo/app/issues"}, "hook": {"issues"}} == {
        "rest": {f"{r['rest']['method']} {r['rest']['path']}" for r in records if "rest" in r},
        "hook": {r["hook"]["event"] for r in records if "hook" in r},
    }


@pytest.mark.slow
def test_a_run_with_a_misfit_fails(tmp_path: Path) -> None:
    shutil.copyfile(ROOT / "tests" / "conftest.py", tmp_path / "conftest.py")
    plant = json.dumps(rest(request={"body": "hello", "colour": "red"}))
    (tmp_path / "test_planted.py").write_text(
        "import os, pathlib\n\n\ndef test_planted() -> None:\n"
        f"    pathlib.Path(os.environ['{ENVIRONMENT}'], 'x.jsonl').write_text({plant!r} + chr(10))\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "1", str(tmp_path)]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 1
    assert "POST /repos/{owner}/{repo}/issues/{issue_number}/comments request.colour" in done.stdout
