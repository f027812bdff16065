"""A repository's policy under the server's: never looser than a ceiling, whoever asks for what, and said where it matters."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from bot.rules.policy import TIGHTER, effective, leaves, read_server
from schemas.policy import Policy, ServerPolicy

CHECKS = st.lists(
    st.builds(lambda name, command: {"name": name, "command": command}, st.sampled_from("abc"), st.sampled_from("xyz")),
    max_size=3, unique_by=lambda check: check["name"],
)  # fmt: skip
GLOBS = st.lists(st.sampled_from(["a/**", "b/*", "c"]), max_size=3, unique=True)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "trigger": st.sampled_from(["admin", "write"]), "approve.by": st.sampled_from(["admin", "write"]),
    "approve.plan": st.sampled_from(["always", "risky", "never"]), "rungs": st.sampled_from(["line", "safe", "driver"]),
    "approve.by_requester": st.sampled_from([True, False, None]), "approve.reviews": st.integers(1, 6),
    "questions.on_silence": st.sampled_from(["stop", "assume"]), "checks": CHECKS, "protected": GLOBS,
    "ci": st.lists(st.sampled_from([{"name": "a"}, {"name": "a", "app": "x"}]), max_size=2),
}  # fmt: skip
NUMBERS = {key: st.integers(1, 10) for key in TIGHTER if key not in VALUES}
MODELS = {f"models.{role}": st.sampled_from(["m1", "m2", None]) for role in ("engineer", "orchestrator", "developer")}
CEILINGS = st.fixed_dictionaries({}, optional={**VALUES, **NUMBERS})
POLICIES = st.fixed_dictionaries({}, optional={**VALUES, **NUMBERS, **MODELS, "merge": st.just("squash")})


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in flat.items():
        *groups, name = key.split(".")
        (found.setdefault(groups[0], {}) if groups else found)[name] = value
    return found


def looser(key: str, value: Any, ceiling: Any) -> bool:
    """Written apart from the product's table."""
    orders: dict[str, list[Any]] = {
        "trigger": ["admin", "write"], "approve.by": ["admin", "write"], "approve.plan": ["always", "risky", "never"],
        "rungs": ["line", "safe", "driver"], "approve.by_requester": [False, None, True],
        "questions.on_silence": ["stop", "assume"],
    }  # fmt: skip
    if key in orders:
        return orders[key].index(value) > orders[key].index(ceiling)
    if isinstance(value, tuple):
        return not set(map(repr, ceiling)) <= set(map(repr, value))
    return bool(value < ceiling) if key == "approve.reviews" else bool(value > ceiling)


@given(CEILINGS, POLICIES, POLICIES, st.sampled_from([[], ["m1"]]))
def test_never_looser_than_the_ceiling(
    ceilings: dict[str, Any], defaults: dict[str, Any], own: dict[str, Any], models: list[str]
) -> None:
    written = {"ceilings": nested(ceilings), "defaults": nested(defaults), "models": models}
    server = read_server(yaml.safe_dump(written).encode())
    assert isinstance(server, ServerPolicy), server
    held = effective(yaml.safe_dump(nested(own)).encode(), server)
    values = leaves(held.policy)
    for key, ceiling in leaves(server.ceilings, given=True).items():
        assert not looser(key, values[key], ceiling), key
    assert not models or {values[key] for key in MODELS} <= {"m1", None}
    wanted = leaves(Policy.model_validate(nested(own)), given=True)
    for key, value in wanted.items():
        assert (values[key] != value) == (key in held.asked)
        # Stricter than the ceiling stays stricter.
        assert key not in VALUES or not looser(key, values[key], value) or key in ("checks", "ci")
    for key in values:
        if key not in held.asked and held.sources[key] != "server":
            assert held.sources[key] == ("repository" if key in wanted else "default")
    assert bool(held.note) == bool(held.asked)


def test_a_check_of_the_servers_is_not_replaced_by_one_of_its_name() -> None:
    server = ServerPolicy(ceilings=Policy.model_validate({"checks": [{"name": "tests", "command": "make test"}]}))
    held = effective(b'checks: [{name: tests, command: "true"}, {name: lint, command: ruff}]', server)
    assert [(check.name, check.command) for check in held.policy.checks] == [("lint", "ruff"), ("tests", "make test")]
    assert (
        held.note
        == "The server's policy is stricter than .github/interlock.yml: checks is lint, tests instead of tests, lint."
    )


def test_a_file_that_cannot_be_read_leaves_the_servers_policy() -> None:
    server = ServerPolicy(defaults=Policy(max_tasks=3), ceilings=Policy(trigger="admin"))
    held = effective(b"trigger: everybody", server)
    assert (held.policy.max_tasks, held.policy.trigger) == (3, "admin")
    assert held.note.startswith(".github/interlock.yml is not used: trigger: ")


def test_a_ceiling_that_means_nothing_is_named() -> None:
    assert read_server(b"ceilings: {merge: squash}") == (
        "ceilings.merge: no value of it is stricter than another: set it under defaults"
    )
    assert str(read_server(b"ceiling: {}")).startswith("ceiling: ")
    assert str(read_server(b"- 1")).startswith("the file: ")
    assert isinstance(read_server(b""), ServerPolicy)


def test_the_note_is_short_however_much_is_asked() -> None:
    server = read_server(b"ceilings: {limits: {files: 1, lines: 1, bytes: 1, tokens: 1, minutes: 1}}")
    assert isinstance(server, ServerPolicy)
    held = effective(b"limits: {files: 2, lines: 2, bytes: 2, tokens: 2, minutes: 2}", server)
    assert held.note.endswith("limits.lines is 1 instead of 2, and 2 more.")
