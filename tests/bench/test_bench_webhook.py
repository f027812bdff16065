"""`interlock bench webhook`: both servers take every delivery, and the report says what was measured."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from bot.bench import webhook
from tests.e2e.world import ROOT

BENCH = [sys.executable, "-m", "bot.cli.main", "bench", "webhook"]


@pytest.mark.slow
def test_the_command_measures_ours_beside_probot() -> None:
    words = ["--deliveries", "200", "--rounds", "2", "--seconds", "1", "--json"]
    done = subprocess.run([*BENCH, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert [row["name"] for row in found["rows"]] == ["interlock", "probot"]
    assert all(row["lowest"] <= row["per_cpu_second"] <= row["highest"] for row in found["rows"])
    assert found["times_probot"]["lowest"] <= found["times_probot"]["ratio"] <= found["times_probot"]["highest"]
    assert found["paced"]["deliveries"] == webhook.PER_SECOND
    assert "times Probot" in webhook.text(found)


def test_every_delivery_of_the_load_is_another_one() -> None:
    made = webhook.Deliveries({"action": "labeled"}).make(3)
    assert len({request.partition(b"\r\n\r\n")[2] for request in made}) == 3
