"""The command line, called in this process (a process of its own takes a second to begin), or in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from click.testing import CliRunner

from bot.cli.main import main
from tests.e2e.world import ROOT

INTERLOCK = [sys.executable, "-m", "bot.cli.main"]


class Ended(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def _environment(settings: dict[str, object]) -> dict[str, str]:
    named = {f"INTERLOCK_{name}": str(value) for name, value in settings.items()}
    return {"PATH": os.environ["PATH"], "LOGNAME": "ops", **named}


def interlock(*words: str | Path, **settings: object) -> Ended:
    """In this process."""
    done = CliRunner().invoke(main, [str(word) for word in words], env=_environment(settings), catch_exceptions=False)
    return Ended(done.exit_code, done.stdout, done.stderr)


def process(*words: str | Path, **settings: object) -> Ended:
    """In one of its own."""
    command = [*INTERLOCK, *map(str, words)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=_environment(settings), timeout=120
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def said(*words: str | Path, **settings: object) -> Any:
    """The JSON of a command that succeeds."""
    done = interlock(*words, "--json", **settings)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
