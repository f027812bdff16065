"""`interlock`: every command is imported only when it is called."""

import importlib
import sys
from typing import Any

import click

import bot
from bot.errors import InterlockError, Misconfigured
from bot.standin.errors import NoScene, Refused

COMMANDS = {
    "audit": "Show, verify and export the record of every decision",
    "bench": "Measure the merge queue beside its peers",
    "demo": "Run the main job on this machine, with the real Copilot CLI",
    "doctor": "Check everything that the server needs",
    "merge": "Land change requests on a local branch, without GitHub",
    "plan": "Judge a plan, or see what depends on a file",
    "queue": "What waits, what failed and why; retry, release or drop it",
    "rehearse": "Run the main job on a throw-away repository of your GitHub",
    "replay": "Compose what landed anew, and require the same commits",
    "rollback": "Take a landed change back",
    "schema": "Print a JSON Schema",
    "serve": "The server: receive webhooks and work on what they ask for",
    "setup": "Register the GitHub App and store its credentials",
    "standin": "The local GitHub alone",
    "why": "From a commit, a line or an issue to everything that led to it",
}
"""Each is defined in the module of its name; a list of them imports none."""


class Lazy(click.Group):
    """A group that knows its commands by name alone."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """For --help."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import one."""
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"bot.cli.{name}"), name)
        return command

    def main(self, *args: Any, **options: Any) -> Any:
        """Errors in one line on stderr: 2 for what must be set up differently (files and ports too), 1 for work that failed."""
        try:
            return super().main(*args, **options)
        except (InterlockError, NoScene, Refused, OSError, UnicodeError) as error:
            click.echo(f"interlock: {error}", err=True)
            sys.exit(2 if isinstance(error, (Misconfigured, NoScene, OSError, UnicodeError)) else 1)


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(bot.__version__, prog_name="interlock")
def main() -> None:
    """From a labelled issue to reviewed commits: agents write, the merge queue lands, people decide."""


if __name__ == "__main__":
    main()
