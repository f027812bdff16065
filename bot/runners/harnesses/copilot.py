"""GitHub's Copilot CLI through GitHub's Python SDK: one sandboxed process a run, model calls through the gateway.

The native binary is started directly (npm's loader loses signals). Traps that this module steps around, all tried
with SDK 1.0.25 and CLI 1.0.102: a killed CLI is noticed only by ping; `stop` then raises; a repository's own hooks
would run; the SDK hands its whole environment down unless told otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
from copilot import RuntimeConnection

from bot.ports import Tool
from bot.runners.gateway import PLACEHOLDER, Gateway, Provider
from bot.runners.harnesses.copilot_session import CopilotSession, OnActivity, Start
from bot.runners.sandbox import Sandbox
from schemas.agent import AgentEnd, AgentJob, AgentOutcome

log = logging.getLogger("interlock.copilot")


class CopilotHarness:
    """See bot.ports.Harness. `token` is Copilot's own, for when no provider is given."""

    name = "copilot"

    def __init__(
        self,
        *,
        cli: Path,
        sandbox: Sandbox,
        cache: Path,
        provider: Provider | None = None,
        token: str = "",
        starting: int = 2,
    ) -> None:
        """`cache` holds the CLI's unpacked bundle, shared read-only by all runs once `warm` has filled it."""
        self._cli, self._sandbox, self._cache = cli, sandbox, cache
        self._provider, self._token = provider, token
        self._starting = asyncio.Semaphore(starting)
        self._warming = asyncio.Lock()

    async def run(self, job: AgentJob, workspace: Path, tools: Sequence[Tool], on_activity: OnActivity) -> AgentOutcome:
        """See bot.ports.Harness."""
        await self.warm()
        home = Path(tempfile.mkdtemp(prefix="home-", dir=self._sandbox.area))
        home.chmod(0o700)
        async with httpx.AsyncClient(timeout=None, follow_redirects=False, trust_env=False) as client:
            gateway = Gateway(self._provider, client, max_calls=job.max_model_calls)
            start = Start(
                self.connection(workspace, home, job), self._model(job), self._provider_config(), self._starting
            )
            session = CopilotSession(start, job, workspace, tools, on_activity, gateway)
            try:
                async with asyncio.timeout(job.deadline_seconds):
                    return await session.run()
            except TimeoutError:
                return session.outcome(AgentEnd.DEADLINE, f"no end after {job.deadline_seconds:g} seconds")
            finally:
                await session.close()
                await asyncio.to_thread(shutil.rmtree, home, ignore_errors=True)

    def connection(self, workspace: Path, home: Path, job: AgentJob) -> RuntimeConnection:
        """The sandboxed process, with nothing of our environment."""
        uid = self._sandbox.own(workspace, home)
        env = {"COPILOT_HOME": str(home), "XDG_CACHE_HOME": str(self._cache), "COPILOT_AUTO_UPDATE": "false"}
        if self._provider is not None:
            env |= {
                "COPILOT_OFFLINE": "true",
                "COPILOT_PROVIDER_BASE_URL": PLACEHOLDER,
                "COPILOT_MODEL": job.model or self._provider.model,
            }
        launch = self._sandbox.wrap(
            [str(self._cli)],
            workspace=workspace,
            env=env,
            uid=uid,
            writable=[home],
            read_only=[self._cli.parent, *([self._cache] if self._cache.exists() else [])],
        )
        connection = RuntimeConnection.for_stdio(path=launch.argv[0], args=list(launch.argv[1:]))
        connection.env = dict(launch.env)
        if self._token and self._provider is None:
            connection.env["COPILOT_GITHUB_TOKEN"] = self._token
        return connection

    async def warm(self) -> None:
        """Let the CLI unpack its bundle once into the shared cache (a fresh one costs each run 2 to 3 seconds)."""
        async with self._warming:
            if (self._cache / "copilot").exists():
                return
            folder = Path(tempfile.mkdtemp(prefix="warm-", dir=self._sandbox.area))
            made = folder / "cache"
            made.mkdir()
            uid = self._sandbox.own(folder)
            env = {"COPILOT_HOME": str(folder), "XDG_CACHE_HOME": str(made), "COPILOT_AUTO_UPDATE": "false"}
            launch = self._sandbox.wrap(
                [str(self._cli), "--version"], workspace=folder, env=env, uid=uid, read_only=[self._cli.parent]
            )
            process = await asyncio.create_subprocess_exec(
                *launch.argv, env=dict(launch.env), cwd="/",
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
            async with asyncio.timeout(120):
                out, _ = await process.communicate()
            log.info("copilot.warmed", extra={"code": process.returncode, "out": out.decode("utf-8", "replace")[-300:]})
            await asyncio.to_thread(_publish_cache, made, self._cache)
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def _provider_config(self) -> dict[str, Any] | None:
        """What the session is told about the model: an address that leads nowhere but through the gateway."""
        if self._provider is None:
            return None
        return {"type": self._provider.type, "base_url": PLACEHOLDER, "api_key": "none"}

    def _model(self, job: AgentJob) -> str | None:
        """The model's name for this job."""
        return job.model or (self._provider.model if self._provider else None)


def _publish_cache(made: Path, cache: Path) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    for place in made.rglob("*"):
        if not place.is_symlink():
            place.chmod(0o755 if place.is_dir() or place.stat().st_mode & 0o100 else 0o644)
    made.chmod(0o755)
    with contextlib.suppress(OSError):  # another process of ours was faster
        shutil.move(str(made), str(cache))
