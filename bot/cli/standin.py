"""`interlock standin`: the local GitHub alone."""

import asyncio
import tempfile
from pathlib import Path

import click

from bot.cli.options import FOLDER
from bot.standin.main import serve


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default="a free one")
@click.option("--repo", type=FOLDER, help="push its HEAD to octo/<name>")
def standin(port: int, repo: Path | None) -> None:
    """Serve a local GitHub until interrupted; its address is the first line printed."""
    with tempfile.TemporaryDirectory(prefix="interlock-standin-") as data:
        asyncio.run(serve(Path(data), port, repo))
