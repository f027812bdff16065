"""Reading change requests from a folder of .json files (in name order) or a .jsonl file; a bad one is named, not fatal."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from bot.errors import Misconfigured
from schemas.change_request import ChangeRequest


@dataclass(frozen=True)
class Refused:
    """What was given as a request and is none, or may not be put into the queue."""

    id: str
    reason: str


def read(source: Path) -> Iterator[ChangeRequest | Refused]:
    """Every request of a folder or file, in order. Raises Misconfigured if there is nothing to read."""
    if source.is_dir():
        files = sorted(source.glob("*.json"), key=lambda path: path.name)
        if not files:
            raise Misconfigured(f"{source} holds no .json file")
        for path in files:
            yield _one(path.name, path.read_bytes())
        return
    if not source.exists():
        raise Misconfigured(f"{source} does not exist: name a folder of .json files or a .jsonl file")
    with source.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _one(f"{source.name}:{number}", line)


def _one(where: str, data: bytes) -> ChangeRequest | Refused:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        return Refused(where, f"{where}: not JSON: {error}")
    try:
        return ChangeRequest.model_validate(found)
    except ValidationError as error:
        named = found.get("id") if isinstance(found, dict) else None
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the request"
        return Refused(named if isinstance(named, str) and named else where, f"{where}: {key}: {first['msg']}")
