"""What all tests share: a hypothesis profile that gives the same verdict on a slow machine, and a referee at the end.

The stand-ins of a run write down what went over the wire; after the last test all of it is judged by GitHub's published
schemas (tests/contracts/github_schema.py). A run with a misfit fails, whatever its tests said.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from bot.standin.record import ENVIRONMENT

settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")

_RECORDS, _VERDICT = pytest.StashKey[Path](), pytest.StashKey[list[str]]()


@pytest.fixture(autouse=True)
def _no_soak(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules have read it; to the command it would be an unknown setting."""
    monkeypatch.delenv("INTERLOCK_SOAK", raising=False)


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    """Name the folder before any worker or stand-in starts: all of them inherit it."""
    if not _is_worker(config):
        config.stash[_RECORDS] = Path(tempfile.mkdtemp(prefix="interlock-records-"))
        os.environ[ENVIRONMENT] = str(config.stash[_RECORDS])


def _recorded(folder: Path) -> Iterator[dict[str, Any]]:
    for file in sorted(folder.glob("*.jsonl")):
        with file.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Judge, once the workers are done."""
    config = session.config
    if _is_worker(config):
        return
    began = time.monotonic()
    records = {json.dumps(record, sort_keys=True): record for record in _recorded(config.stash[_RECORDS])}
    if records:
        from tests.contracts import github_schema  # takes a second, which a run without a stand-in need not pay

        faults = github_schema.faults(records.values())
        count = f"{len(records)} recorded exchanges and webhooks judged in {time.monotonic() - began:.1f} s"
        config.stash[_VERDICT] = [f"GitHub's schemas: {count}, {len(faults)} misfits", *faults]
        if faults and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
    shutil.rmtree(config.stash[_RECORDS], ignore_errors=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name each misfit."""
    for line in config.stash.get(_VERDICT, []):
        terminalreporter.write_line(line)
