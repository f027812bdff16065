"""`interlock serve`: the server, until it is told to stop."""

from __future__ import annotations

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
    asyncio.run(run(Ports()))


async def run(ports: Ports) -> None:
    """Serve until SIGTERM or SIGINT. One line on stdout says where, once it listens."""
    settings = read_settings()
    provider, token = read_model()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    async with running(settings, ports, provider, token) as addresses:
        click.echo(f"webhook {addresses.public}/webhook admin {addresses.admin}")
        await stop.wait()
