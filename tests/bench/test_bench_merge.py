"""`interlock bench merge`: the same work by everybody, checked tree by tree."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.e2e.test_stranger import repository
from tests.e2e.world import ROOT


def bench(*words: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "bot.cli.main", "bench", "merge", "--rounds", "1", "--json", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_synthetic_tree() -> None:
    found = bench("--files", "60", "--changes", "8")
    assert (found["files"], found["steps"]) == (60, 8) and len(found["peers"]) == 3
    assert found["interlock"]["cpu_ms"] > 0 and found["floor_cpu_ms"] > 0
    assert all(peer["lowest"] <= peer["ratio"] <= peer["highest"] for peer in found["peers"])


def test_a_real_history_is_only_read(tmp_path: Path) -> None:
    source = tmp_path / "skiff"
    head = repository(source)
    found = bench("--repo", str(source), "--changes", "6")
    assert found["steps"] >= 5 and found["workload"] == "skiff"
    assert (
        subprocess.run(["git", "rev-parse", "HEAD"], cwd=source, capture_output=True, text=True).stdout[:40]
        == head[:40]
    )


def test_two_sources_are_one_too_many(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bot.cli.main", "bench", "merge", "--repo", str(tmp_path), "--files", "50"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "give one" in done.stderr


def test_growth_and_probes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bot.cli.main", "bench", "growth", "--files", "40", "400", "--changes", "6"]
    done = subprocess.run([*command, "--rounds", "1", "--json"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ratio"] > 0
    source = tmp_path / "skiff"
    repository(source)
    command = [
        sys.executable,
        "-m",
        "bot.cli.main",
        "bench",
        "probes",
        "--repo",
        str(source),
        "--changes",
        "6",
        "--json",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["against_git"]["probes"] > 3 and found["against_git"]["differ"] == []
    assert 0 < found["without_a_person"]["without_a_person"] <= 1
