"""`interlock standin`: the local GitHub alone."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import click

from bot.cli.local_github import push_head


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default="a free one")
@click.option(
    "--repo", type=click.Path(path_type=Path, exists=True, file_okay=False), help="push its HEAD to octo/<name>"
)
def standin(port: int, repo: Path | None) -> None:
    """Serve a local GitHub until interrupted; its address is the first line printed."""
    folder = tempfile.mkdtemp(prefix="interlock-standin-")
    command = [sys.executable, "-m", "bot.standin.main", "--data", folder, "--port", str(port)]
    if repo is None:
        os.execv(sys.executable, command)
    import asyncio

    asyncio.run(_with_repository(command, repo))


async def _with_repository(command: list[str], repo: Path) -> None:
    import asyncio

    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    url = (await process.stdout.readline()).decode().strip()
    click.echo(url)
    made = await push_head(url, repo, f"octo/{repo.resolve().name}", {"alice": "write", "bob": "admin"})
    click.echo(f"{url}/{made.full_name}")
    await process.wait()
