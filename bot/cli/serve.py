"""`interlock serve`: the server, until it is told to stop."""

import asyncio
import signal

import click

from bot import logs
from bot.app import Ports, running
from bot.cli.configuration import read_model, read_settings
from bot.rules.sanitise import redacted


@click.command()
def serve() -> None:
    """Receive webhooks and work on what they ask for."""
    logs.start(redacted)
    asyncio.run(_run())


async def _run() -> None:
    """Serve until SIGTERM or SIGINT. One line on stdout says where, once it listens."""
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    async with running(read_settings(), Ports(), read_model()) as addresses:
        click.echo(f"webhook {addresses.public}/webhook admin {addresses.admin}")
        await stop.wait()
