"""How commands write to a terminal: records hold strangers' text, which may hold control characters."""

import json
from datetime import datetime
from typing import Any

import click


def plain(text: str) -> str:
    """Without what a terminal would obey; line ends and tabs stay."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)


def one_line(text: str, limit: int = 160) -> str:
    """On one line, cut at the limit."""
    short = " ".join(plain(text).split())
    return short if len(short) <= limit else f"{short[: limit - 1]}…"


def when(moment: datetime) -> str:
    """To the second, in UTC."""
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def echo_json(document: Any) -> None:
    """One document on stdout."""
    click.echo(json.dumps(document, indent=2))
