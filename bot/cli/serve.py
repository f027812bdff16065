"""`interlock serve`: the server, until it is told to stop."""

import asyncio
import signal

import click

from bot import logs
from bot.app import Ports, running
from bot.cli.configuration import read_model, read_settings
from bot.rules.sanitise import redacted


@click.command()
@click.option("--poll", is_flag=True, help="ask GitHub for deliveries, and listen to nobody outside of this machine")
def serve(poll: bool) -> None:
    """Receive webhooks and work on what they ask for."""
    logs.start(redacted)
    asyncio.run(_run(poll))


async def _run(poll: bool) -> None:
    """Serve until SIGTERM or SIGINT. One line on stdout says where, once it listens."""
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    settings = read_settings()
    async with running(settings, Ports(), read_model(), poll=poll) as addresses:
        taken = f"polling {settings.github_api_url}" if poll else f"webhook {addresses.public}/webhook"
        click.echo(f"{taken} admin {addresses.admin}")
        await stop.wait()
