"""The shape that the project keeps: modules of one purpose, a docstring on each, the folders of the design card."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = [
    path
    for folder in ("bot", "handlers", "schemas")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "sample" not in path.parts
]
CAP = 300


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_small_and_says_what_it_is_for(path: Path) -> None:
    text = path.read_text("utf-8")
    name = str(path.relative_to(ROOT))
    assert len(text.splitlines()) <= CAP
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), name


def test_the_top_level_is_the_design_cards() -> None:
    for name in ("pyproject.toml", "bot", "handlers", "schemas", "tests", "app.yml", "Dockerfile", "docs"):
        assert (ROOT / name).exists()
