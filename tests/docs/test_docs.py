"""The generated pages equal the code; the requirements have no empty cell; links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from bot.pipeline import notices
from schemas.acts import How
from schemas.events import IssueClosed
from tests.docs import messages
from tests.docs.generate import DOCS, pages

ROOT = DOCS.parent


@pytest.mark.parametrize("path", sorted(pages()), ids=lambda path: path.name)
def test_generated_pages_are_current(path: Path) -> None:
    assert path.read_text("utf-8") == pages()[path], "run python3 dev.py docs"


def test_every_message_is_shown_and_short() -> None:
    assert not messages.missing()
    long = {
        name: text for name, text in messages.SAMPLES if messages.visible_lines(text) > 8 and name != "pull_request"
    }
    assert not long


def _rows(text: str) -> list[list[str]]:
    rows = [line.strip().strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows if not set("".join(row)) <= set("-: ")]


def test_every_turn_of_a_ticket_s_surroundings_has_its_row() -> None:
    rows = _rows((DOCS / "lifecycle.md").read_text("utf-8"))
    assert {*get_args(How), *get_args(IssueClosed.model_fields["how"].annotation)} <= {row[0] for row in rows}
    assert not [row for row in rows if len(row) != 3 or not all(row)]
    said = "\n".join(" ".join(row) for row in rows)
    assert all(why in said for why in notices.UNREACHABLE.values())


def test_no_cell_of_the_requirements_is_empty() -> None:
    rows = _rows((DOCS / "requirements.md").read_text("utf-8"))
    assert len(rows) > 30
    assert not [row for row in rows if not all(row)]


def test_what_the_requirements_name_exists() -> None:
    text = (DOCS / "requirements.md").read_text("utf-8")
    named = re.findall(r"`((?:bot|handlers|schemas|tests|docs)/[\w/.]+)`", text)
    assert len(named) > 20
    assert not [name for name in named if not (ROOT / name).exists()]


def test_links_between_pages_lead_somewhere() -> None:
    broken = []
    for page in [*DOCS.rglob("*.md"), ROOT / "README.md"]:
        for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            if not link.startswith(("http:", "https:", "mailto:")) and not (page.parent / link).exists():
                broken.append(f"{page.name}: {link}")
    assert not broken
