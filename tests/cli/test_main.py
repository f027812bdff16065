"""The command line as a whole: what `interlock` alone costs and says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bot.cli.main import COMMANDS
from tests.e2e.world import ROOT

HEAVY = {"aiohttp", "pydantic", "pygit2", "cryptography", "copilot"}


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "importtime", "-m", "bot.cli.main", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_help_names_every_command_and_imports_none() -> None:
    done = run("--help")
    assert done.returncode == 0 and all(f"  {name} " in done.stdout for name in COMMANDS)
    imported = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert not HEAVY & imported


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_there_and_explains_itself(name: str) -> None:
    done = run(name, "--help")
    assert done.returncode == 0 and f"Usage: main {name}" in done.stdout.replace("python -m bot.cli.main", "main")


def test_an_unknown_command_is_wrong_usage() -> None:
    done = run("deploy")
    assert done.returncode == 2 and "No such command 'deploy'" in done.stderr


def test_commands_are_modules() -> None:
    folder = Path(ROOT) / "bot" / "cli"
    assert all((folder / f"{name}.py").exists() for name in COMMANDS)
