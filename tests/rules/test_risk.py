"""Why a person must look at a change, and the corpora of hostile paths and comments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from bot.rules import commands, paths, risk, sanitise
from schemas.change_request import Add, Delete, Edit

CORPUS = Path(__file__).parents[1] / "corpus" / "hostile"
PATHS: list[dict[str, Any]] = json.loads((CORPUS / "paths.json").read_text("utf-8"))
COMMENTS: list[dict[str, Any]] = json.loads((CORPUS / "comments.json").read_text("utf-8"))
PROTECTED = (".github/**", ".git*", "CODEOWNERS", "**/AGENTS.md", ".mcp.json")


def test_each_reason_is_named() -> None:
    edits: list[Edit] = [
        Add(path=".github/workflows/x.yml", content="on: push\n"),
        Delete(path="tests/test_a.py", before="a" * 40),
        Add(path="src/a.py", content="x = 1  # \u202e evil\n"),
    ]
    found = risk.holds(edits, protected=PROTECTED, tested=False)
    assert [reason.split(":")[0] for reason in found] == [
        "it touches protected files",
        "it takes tests away",
        "it adds characters that nobody can see",
        "nothing was tested",
    ]
    assert risk.holds([Add(path="src/a.py", content="é 日本\n")], protected=PROTECTED, tested=True) == ()


@pytest.mark.parametrize("case", [c for c in PATHS if c["expect"] == "REJECT"], ids=lambda c: c["id"])
def test_hostile_paths_are_refused(case: dict[str, Any]) -> None:
    existing = case["existing"]
    try:
        Add(path=case["path"], content="")
    except ValidationError:
        return

    def names(directory: str) -> list[str]:
        return [p[len(directory) :].split("/")[0] for p in existing if p.startswith(directory)]

    parts = case["path"].split("/")
    blocked = any("/".join(parts[:n]) in existing for n in range(1, len(parts))) or any(
        p.startswith(case["path"] + "/") for p in existing
    )
    assert paths.fault(case["path"]) or paths.twin(case["path"], names) or blocked, case["name"]


@pytest.mark.parametrize("case", COMMENTS, ids=lambda c: c["id"])
def test_hostile_comments_carry_nothing_hidden_and_command_nothing(case: dict[str, Any]) -> None:
    text = case["text"] if isinstance(case["text"], str) else ""
    cleaned, removed = sanitise.clean(text)
    if "hidden_removed" in case:
        assert removed >= min(case["hidden_removed"], 1), case["name"]
    again, _ = sanitise.clean(cleaned)
    assert again == cleaned
    assert "<!--" not in cleaned


def test_commands_count_on_the_first_line_alone() -> None:
    assert commands.parse("/interlock approve abcdef12") == commands.Command(verb="approve", rest="abcdef12")
    assert commands.parse("> /interlock approve x") is None
    assert commands.parse("hello\n/interlock stop") is None
    assert commands.parse("/interlocked stop") is None
    unknown = commands.parse("/interlock fly")
    assert unknown is not None and unknown.verb == "unknown"


def test_tokens_are_left_out_of_texts() -> None:
    text = "ghs_1234567890abcdef github_pat_abcdefghijkl sk-0123456789abcdefXYZ Bearer abcdefghijklmnop"
    assert "[redacted]" in sanitise.redacted(text) and "abcdef" not in sanitise.redacted(text)
