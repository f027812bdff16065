"""Judges recorded exchanges and webhooks by GitHub's published schemas, as other people packaged them.

REST and webhooks by githubkit-schemas (pydantic models of GitHub's OpenAPI, version 2022-11-28), GraphQL by
@octokit/graphql-schema. Which model belongs to which call is read from that package's generated client.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from graphql import GraphQLSchema, build_schema, parse, validate
from graphql.execution import get_variable_values
from graphql.language import OperationDefinitionNode
from pydantic import BaseModel, TypeAdapter, ValidationError

PACKAGE = "githubkit_schemas.v2022_11_28"
SCHEMA_FILE = Path(__file__).parents[2] / ".tools/tests/node_modules/@octokit/graphql-schema/schema.graphql"
OURS = "interlock"
"""How our client names itself: whatever it sends is judged, others' requests only if they were accepted."""
_CALL = re.compile(r"^        (GET|POST|PUT|PATCH|DELETE) (/\S+)$", re.M)
_END = re.compile(r"^    (?:@overload|(?:async )?def )", re.M)
_WHOLE_REST = ("path", "ref", "basehead", "base_head")
"""Parameters that may hold slashes."""


@dataclass(frozen=True)
class Operation:
    """One call of the API: its models as expressions, the names of its query."""

    method: str
    template: str
    body: str = ""
    answer: str = ""
    errors: Mapping[str, str] = field(default_factory=dict)
    query: frozenset[str] = frozenset()

    @property
    def pattern(self) -> re.Pattern[str]:
        """What its paths look like."""
        parts = re.split(r"\{(\w+)\}", self.template)
        return re.compile(
            "".join(re.escape(p) if i % 2 == 0 else ".+" if p in _WHOLE_REST else "[^/]+" for i, p in enumerate(parts))
            + r"\Z"
        )


class Models(dict[str, Any]):
    """Names in the package's expressions; each model is imported when it is asked for."""

    def __missing__(self, name: str) -> Any:
        for module in (f"{PACKAGE}.models", "typing"):
            if hasattr(found := importlib.import_module(module), name):
                return getattr(found, name)
        raise KeyError(name)


@cache
def _adapter(expression: str) -> TypeAdapter[Any]:
    return TypeAdapter(eval(expression, {"_dt": importlib.import_module("datetime")}, Models()))


@cache
def _sources() -> tuple[str, ...]:
    place = importlib.import_module(PACKAGE).__path__[0]
    return tuple(path.read_text("utf-8") for path in sorted(Path(place, "rest").glob("[a-z]*.py")))


@cache
def _templates() -> dict[tuple[str, str], str]:
    """(method, path template) to the source of the call, after its docstring."""
    found: dict[tuple[str, str], str] = {}
    for source in _sources():
        for call in _CALL.finditer(source):
            if call.groups() not in found:
                end = _END.search(source, call.end())
                whole = source[call.end() : end.start() if end else len(source)]
                found[call[1], call[2]] = whole.split('"""', 1)[-1]
    return found


@cache
def _candidates(method: str, parts: int) -> tuple[Operation, ...]:
    """The calls of a method, the most literal first. Those of another length are left out."""
    listed = [
        Operation(verb, template)
        for verb, template in _templates()
        if verb == method and (len(template.split("/")) == parts or re.search(r"\{(path|ref|basehead)\}", template))
    ]
    return tuple(sorted(listed, key=lambda one: (one.template.count("{"), -len(one.template))))


@cache
def operation(method: str, path: str) -> Operation | None:
    """GitHub's own description of a call; None if GitHub has no such call."""
    path = re.sub(r"^/repositories/\d+", "/repos/o/r", path)
    for one in _candidates(method, len(path.split("/"))):
        if one.pattern.match(path):
            return _described(one)
    return None


def _described(one: Operation) -> Operation:
    tree = ast.parse(textwrap.dedent(_templates()[one.method, one.template]))
    body, answer, errors, query = "", "", dict[str, str](), set[str]()
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="type_validate_python"), args=[first, *_]):
                body = ast.unparse(first)
            case ast.keyword(arg="response_model", value=value):
                answer = ast.unparse(value)
            case ast.keyword(arg="error_models", value=ast.Dict(keys=keys, values=values)):
                errors = {str(ast.literal_eval(k)): ast.unparse(v) for k, v in zip(keys, values, strict=True) if k}
            case ast.Assign(targets=[ast.Name(id="params")], value=ast.Dict(keys=keys)):
                query = {str(ast.literal_eval(k)) for k in keys if k}
    return Operation(one.method, one.template, body, answer, errors, frozenset(query))


def faults(lines: Iterable[Mapping[str, Any]]) -> list[str]:
    """What is wrong with these records, each sentence once. The records are the stand-in's (bot/standin/record.py)."""
    found: dict[str, None] = {}
    for line in lines:
        judged = _rest(line["rest"]) if "rest" in line else _hook(line["hook"])
        found.update(dict.fromkeys(judged))
    return list(found)


def _rest(record: Mapping[str, Any]) -> Iterator[str]:
    method, path, status = record["method"], record["path"], record["status"]
    name = f"{method} {path}"
    ours = record["agent"].startswith(OURS)
    if path.endswith("/graphql"):
        yield from (f"{name}: {fault}" for fault in _graphql(record["request"]))
        return
    known = operation(method, path)
    if known is None:
        if ours or status < 400:
            yield f"{name}: GitHub has no such call"
        return
    name = f"{method} {known.template}"
    if ours or status < 400:
        asked = record["request"]
        if known.body and asked is not None:
            yield from (f"{name} request{fault}" for fault in misfits(known.body, asked, strict=True))
        elif asked:
            yield f"{name} request: GitHub takes no body here"
        for parameter in sorted(set(record["query"]) - known.query):
            yield f"{name} request: GitHub has no query parameter {parameter}"
    answered = record["response"]
    if status < 300 and known.answer:
        yield from (f"{name} answer {status}{fault}" for fault in misfits(known.answer, answered))
    elif status < 300 and answered:
        yield f"{name} answer {status}: GitHub has no body here"
    elif status >= 300:
        usual = "Union[ValidationError, ValidationErrorSimple]" if status == 422 else "BasicError"
        expression = known.errors.get(str(status), usual)
        yield from (f"{name} answer {status}{fault}" for fault in misfits(expression, answered))


def _hook(record: Mapping[str, Any]) -> Iterator[str]:
    event, payload = record["event"], record["payload"]
    action = payload.get("action")
    name = f"webhook {event}" + (f".{action}" if action else "")
    models = _events(event)
    model = models.get(str(action) if action else "")
    if model is None:
        yield f"{name}: GitHub has no such {'action' if models else 'event'}"
        return
    yield from (f"{name}{fault}" for fault in misfits(model, payload))


@cache
def _events(event: str) -> dict[str, str]:
    """The model for each action of an event, under "" for one without actions."""
    file = Path(importlib.import_module(PACKAGE).__path__[0], "webhooks", f"{event}.py")
    if not file.exists():
        return {}
    for node in ast.parse(file.read_text("utf-8")).body:
        match node:
            case ast.AnnAssign(target=ast.Name(id="action_types"), value=ast.Dict(keys=keys, values=values)):
                return {str(ast.literal_eval(k)): ast.unparse(v) for k, v in zip(keys, values, strict=True) if k}
            case ast.Assign(targets=[ast.Name(id="action_types")], value=value):
                return {"": ast.unparse(value)}
    return {}


def misfits(expression: str, value: Any, *, strict: bool = False) -> list[str]:
    """How a value does not fit a model: missing, of a wrong kind, or (`strict`: even where the schema leaves it open)
    a name that the model does not have."""
    try:
        made = _adapter(expression).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        return [f".{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()[:8]]
    return list(_unknown(made, value, "", strict))


def _unknown(made: Any, value: Any, place: str, strict: bool) -> Iterator[str]:
    if isinstance(made, BaseModel):
        known = {info.alias or name: getattr(made, name) for name, info in type(made).model_fields.items()}
        open_ended = type(made).model_config.get("extra") == "allow" and not (strict and known)
        for name, inner in value.items():
            if name in known:
                yield from _unknown(known[name], inner, f"{place}.{name}", strict)
            elif not open_ended:
                yield f"{place}.{name}: GitHub has no such field"
    elif isinstance(made, list | tuple):
        for one, inner in zip(made, value, strict=False):
            yield from _unknown(one, inner, f"{place}[]", strict)


@cache
def graphql_schema() -> GraphQLSchema:
    """GitHub's, 1.2 MB of it."""
    return build_schema(SCHEMA_FILE.read_text("utf-8"), assume_valid=True)


def _graphql(request: Any) -> Iterator[str]:
    schema = graphql_schema()
    try:
        document = parse(request["query"])
    except Exception as error:
        yield f"not GraphQL: {error}"
        return
    errors = validate(schema, document)
    for operation_ in document.definitions:
        if isinstance(operation_, OperationDefinitionNode) and not errors:
            values = get_variable_values(schema, operation_.variable_definitions or (), request.get("variables") or {})
            errors = values if isinstance(values, list) else []
    yield from (str(error.message) for error in errors)
