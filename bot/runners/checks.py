"""Checks: commands in the sandbox, each in a workspace of its own with nothing of the agent's in there."""

import asyncio
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bot.errors import InterlockError
from bot.ports import CheckVerdict, Clock
from bot.rules.sanitise import redacted
from bot.runners.environment import Environments
from bot.runners.layers import Trees
from bot.runners.sandbox import Finished, Sandbox
from schemas.base import CheckCommand, Environment, Evidence, Sha

CHECKS_AT_ONCE = 2
LOG_CHARACTERS = 4000
_ANSI = re.compile(r"\x1b(?:\[[0-9;?]{0,30}[ -/]{0,3}[@-~]|\][^\x07\x1b]{0,500}(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
ENVIRONMENT = {"PYTHONDONTWRITEBYTECODE": "1", "CI": "true", "NO_COLOR": "1"}


class SandboxChecker:
    """`bot.ports.Checker`. A sandbox that does not start is `unknown`, never green and nobody's fault."""

    def __init__(self, sandbox: Sandbox, trees: Trees, environments: Environments, clock: Clock) -> None:
        self._sandbox, self._trees, self._environments, self._clock = sandbox, trees, environments, clock
        self._slots = asyncio.Semaphore(CHECKS_AT_ONCE)

    async def check(
        self, git_dir: Path, tree: Sha, commands: Sequence[CheckCommand], environment: Environment
    ) -> CheckVerdict:
        """All commands at the tree's root; green only if each exits 0, red with the first failure's evidence."""
        started = self._clock.boot()
        async with self._slots:
            folder = self._sandbox.fresh(f"check-{tree[:12]}")
            try:
                for command in commands:
                    # Anew for each: a check must not see what another one wrote.
                    async with (
                        self._trees.workspace(git_dir, tree, folder, git=False) as space,
                        self._environments.lent(space, environment),
                    ):
                        done = await self._sandbox.run(command.command, folder, command.timeout_seconds, ENVIRONMENT)
                    if done.exit_code != 0 or done.timed_out:
                        return CheckVerdict("red", evidence(command, done), self._clock.boot() - started)
            except (OSError, KeyError, subprocess.SubprocessError, InterlockError) as error:
                return CheckVerdict("unknown", Evidence(reason=f"checks could not be run: {error}"))
        names = ", ".join(command.name for command in commands)
        return CheckVerdict("green", None, self._clock.boot() - started, f"{names} passed")


def evidence(command: CheckCommand, done: Finished) -> Evidence:
    """What an agent or a person needs to see of a failed check."""
    what = f"timed out after {command.timeout_seconds} s" if done.timed_out else f"exited {done.exit_code}"
    log = redacted(_CONTROL.sub("", _ANSI.sub("", done.output)))
    return Evidence(
        reason=f"the check {command.name!r} {what}", check=command.name, command=command.command,
        exit_code=done.exit_code, log=log[-LOG_CHARACTERS:],
    )  # fmt: skip
