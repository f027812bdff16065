"""`interlock`: every command is imported only when it is called."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

import bot
from bot.errors import InterlockError, Misconfigured, Rejected, Stale, Transient

COMMANDS = {
    "audit": "bot.cli.audit:audit",
    "demo": "bot.cli.demo:demo",
    "merge": "bot.cli.merge:merge",
    "schema": "bot.cli.schema:schema",
    "serve": "bot.cli.serve:serve",
    "standin": "bot.cli.standin:standin",
}


class Lazy(click.Group):
    """A group that knows its commands by name alone."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Sorted."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import one."""
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def main(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> Any:
        """Our errors in one line on stderr: 2 for what must be set up differently, 1 for work that failed."""
        try:
            return super().main(args, *more, **options)
        except Misconfigured as error:
            click.echo(f"interlock: {error}", err=True)
            sys.exit(2)
        except (Rejected, Transient, Stale, InterlockError) as error:
            click.echo(f"interlock: {error}", err=True)
            sys.exit(1)


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(bot.__version__, prog_name="interlock")
def main() -> None:
    """From a labelled issue to reviewed commits: agents write, the merge queue lands, people decide."""


if __name__ == "__main__":
    main()
