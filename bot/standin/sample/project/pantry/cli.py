"""The command line."""

import argparse

from pantry.items import Item
from pantry.store import load, save


def parser():
    """The commands and their arguments."""
    top = argparse.ArgumentParser(prog="pantry")
    top.add_argument("--file", default="pantry.json")
    commands = top.add_subparsers(dest="command", required=True)
    add = commands.add_parser("add", help="put something on the list")
    add.add_argument("name")
    add.add_argument("amount", type=float)
    add.add_argument("unit", nargs="?", default="")
    commands.add_parser("list", help="show the list")
    return top


def main(arguments=None, out=print):
    """Run one command."""
    options = parser().parse_args(arguments)
    items = load(options.file)
    if options.command == "add":
        save(options.file, [*items, Item(options.name, options.amount, options.unit)])
    elif options.command == "list":
        for item in items:
            out(item)
    return 0
