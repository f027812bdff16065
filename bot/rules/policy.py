"""What holds in a repository: its own policy file over the server's defaults, under the server's ceilings."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from schemas.base import CheckCommand
from schemas.policy import POLICY_PATH, Policy, ServerPolicy

M = TypeVar("M", bound=BaseModel)
NOTED = 3

Leaves = dict[str, Any]
"""A policy as `approve.reviews: 1`: one entry a key."""


def _strictest(*order: Any) -> Callable[[Any, Any], Any]:
    return lambda asked, ceiling: order[min(order.index(asked), order.index(ceiling))]


def _joined(asked: tuple[Any, ...], ceiling: tuple[Any, ...]) -> tuple[Any, ...]:
    """All of both; one of another content under a name of the ceiling's gives way to it."""
    missing = [one for one in ceiling if one not in asked]
    names = {_name(one) for one in missing}
    return (*(one for one in asked if _name(one) not in names), *missing)


def _name(one: Any) -> str:
    return one.name if isinstance(one, CheckCommand) else str(one)


TIGHTER: Mapping[str, Callable[[Any, Any], Any]] = {
    "trigger": _strictest("admin", "write"),
    "questions.on_silence": _strictest("stop", "assume"),
    "approve.plan": _strictest("always", "risky", "never"),
    "approve.by": _strictest("admin", "write"),
    "approve.by_requester": _strictest(False, None, True),
    "approve.reviews": max,
    **dict.fromkeys(("checks", "ci", "protected"), _joined),
    **dict.fromkeys((f"limits.{name}" for name in ("files", "lines", "bytes", "tokens", "minutes")), min),
    **dict.fromkeys((f"attempts.{name}" for name in ("task", "plan", "scope")), min),
    **dict.fromkeys(("max_tasks", "concurrency.runs"), min),
    "rungs": _strictest("line", "safe", "driver"),
}
"""Of what a repository asks for and a ceiling, the stricter. Keys that are not here are no matter of strictness."""


class Effective(NamedTuple):
    """`sources` says of each key who set it (default, server, repository); `asked` what a repository wanted and does not
    get; `note` is both, or what is wrong with the file, in a sentence."""

    policy: Policy
    sources: dict[str, str]
    asked: Leaves
    note: str


def read(data: bytes) -> Policy | str:
    """The policy of these bytes (empty: the defaults), or what is wrong with them, with its key."""
    return _read(Policy, data)


def read_server(data: bytes) -> ServerPolicy | str:
    """The server's policy of these bytes, or what is wrong with them, with its key."""
    found = _read(ServerPolicy, data)
    if isinstance(found, ServerPolicy):
        for key in leaves(found.ceilings, given=True):
            if key not in TIGHTER:
                return f"ceilings.{key}: no value of it is stricter than another: set it under defaults"
    return found


def _read(kind: type[M], data: bytes) -> M | str:
    try:
        return kind.model_validate(yaml.safe_load(data) or {})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        return f"{where}: {first['msg']}"
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return f"it is not YAML: {error}"


def leaves(model: BaseModel, *, given: bool = False) -> Leaves:
    """All keys with their values; `given`: only those that were written down."""
    found: Leaves = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        if given and name not in model.model_fields_set:
            continue
        if isinstance(value, BaseModel):
            found |= {f"{name}.{key}": inner for key, inner in leaves(value, given=given).items()}
        else:
            found[name] = value
    return found


def effective(data: bytes, server: ServerPolicy) -> Effective:
    """What holds where the policy file has these bytes. One that cannot be read is as if it were not there."""
    own = read(data)
    broken = f"{POLICY_PATH} is not used: {own}. The defaults apply." if isinstance(own, str) else ""
    values = leaves(Policy())
    sources = dict.fromkeys(values, "default")
    for source, layer in (("server", server.defaults), ("repository", Policy() if isinstance(own, str) else own)):
        layered = leaves(layer, given=True)
        values |= layered
        sources |= dict.fromkeys(layered, source)
    kept = {key: TIGHTER[key](values[key], top) for key, top in leaves(server.ceilings, given=True).items()}
    kept |= {
        key: None for key in values if key.startswith("models.") and server.models and values[key] not in server.models
    }
    changed = {key for key in kept if kept[key] != values[key]}
    asked = {key: values[key] for key in sorted(changed) if sources[key] == "repository"}
    values |= kept
    sources |= dict.fromkeys(changed, "server")
    return Effective(_built(values), sources, asked, broken or _note(asked, values))


def _note(asked: Leaves, values: Leaves) -> str:
    if not asked:
        return ""
    said = [f"{key} is {shown(values[key])} instead of {shown(asked[key])}" for key in list(asked)[:NOTED]]
    more = f", and {len(asked) - NOTED} more" if len(asked) > NOTED else ""
    return f"The server's policy is stricter than {POLICY_PATH}: {'; '.join(said)}{more}."


def shown(value: Any) -> str:
    """A value in a line of text."""
    if isinstance(value, tuple):
        return ", ".join(map(_name, value)) or "none"
    return "unset" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _built(values: Leaves) -> Policy:
    nested: Leaves = {}
    for key, value in values.items():
        *groups, name = key.split(".")
        place = nested
        for group in groups:
            place = place.setdefault(group, {})
        place[name] = value
    return Policy.model_validate(nested)
