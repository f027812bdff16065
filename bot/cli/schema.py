"""`interlock schema NAME`: the JSON Schema of what crosses our border."""

import json
from typing import Any

import click
from pydantic import TypeAdapter

from schemas.change_request import ChangeRequest
from schemas.events import Event
from schemas.plan import Plan, Task
from schemas.policy import Policy
from schemas.settings import Settings

SCHEMAS: dict[str, Any] = {
    "task": Task,
    "change-request": ChangeRequest,
    "plan": Plan,
    "policy": Policy,
    "event": Event,
    "settings": Settings,
}


@click.command()
@click.argument("name", type=click.Choice(sorted(SCHEMAS)))
def schema(name: str) -> None:
    """Print a JSON Schema (draft 2020-12)."""
    found = TypeAdapter(SCHEMAS[name]).json_schema(by_alias=True)
    click.echo(json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **found}, indent=2))
