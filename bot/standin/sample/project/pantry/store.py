"""The list on disk, as JSON."""

import json
from pathlib import Path

from pantry.items import Item


def load(path):
    """The items of a file; none if it does not exist."""
    path = Path(path)
    if not path.exists():
        return []
    return [Item(**fields) for fields in json.loads(path.read_text("utf-8"))]


def save(path, items):
    """Write the items."""
    text = json.dumps([vars(item) for item in items], indent=1)
    Path(path).write_text(text + "\n", "utf-8")
