"""The git command line, for what libgit2 does not do."""

import contextlib
import os
import subprocess
from functools import cache
from pathlib import Path

SECONDS = 120
MANY_PACKS = 64
_ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}


def run_git(git_dir: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run git to its end, without the machine's own configuration. Raises subprocess.TimeoutExpired."""
    return subprocess.run(
        ["git", f"--git-dir={git_dir}", *args],
        capture_output=True, encoding="utf-8", errors="replace", env=_ENV, timeout=SECONDS, check=False,
    )  # fmt: skip


def consolidate(git_dir: Path) -> None:
    """Make few packs of many, newest first: a train adds one, and each is looked into for every object. As durable and as
    safe beside other gits as git's own maintenance; a failure leaves the packs as they are."""
    if sum(name.endswith(".pack") for name in os.listdir(git_dir / "objects" / "pack")) > MANY_PACKS:
        with contextlib.suppress(subprocess.TimeoutExpired):
            run_git(git_dir, "repack", "-d", "-q", "--geometric=2")


@cache
def git_version() -> str:
    """As git says it."""
    return run_git(Path(), "--version").stdout.strip()
