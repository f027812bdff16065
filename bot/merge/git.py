"""The git command line, for what libgit2 does not do."""

import subprocess
from functools import cache
from pathlib import Path

SECONDS = 120
_ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}


def run_git(git_dir: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run git to its end, without the machine's own configuration. Raises subprocess.TimeoutExpired."""
    return subprocess.run(
        ["git", f"--git-dir={git_dir}", *args],
        capture_output=True, encoding="utf-8", errors="replace", env=_ENV, timeout=SECONDS, check=False,
    )  # fmt: skip


@cache
def git_version() -> str:
    """As git says it."""
    return run_git(Path(), "--version").stdout.strip()
