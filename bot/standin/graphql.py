"""GraphQL for the documents that the bot sends, told apart by the operation's name."""

from __future__ import annotations

import re
from collections.abc import Callable

from aiohttp import web

from bot.standin import git_data, merge_queue
from bot.standin.rest import Call
from bot.standin.state import ApiError, Item, Json, Repository

NOTHING = "0" * 40
_NAME = re.compile(r"\s*(?:query|mutation)\s+(\w+)")


class Trouble(ApiError):
    """An error as GraphQL has it: 200, with a type."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(200, message)
        self.kind = kind


def _named(call: Call, variables: Json) -> Repository:
    try:
        repo = call.state.repository(variables["owner"], variables["name"])
        call.caller.may(call.state, repo, "metadata", "read")
    except ApiError:
        name = f"{variables['owner']}/{variables['name']}"
        raise Trouble("NOT_FOUND", f"Could not resolve to a Repository with the name '{name}'.") from None
    return repo


def _by_node(call: Call, node: str, permission: str) -> tuple[Repository, Item | None]:
    for repo in call.state.repositories.values():
        item = next((one for one in repo.items.values() if f"PR_{one.id}" == node), None)
        if item is not None or f"R_{repo.id}" == node:
            try:
                call.caller.may(call.state, repo, permission, "write")
            except ApiError:
                raise Trouble("FORBIDDEN", "Resource not accessible by integration") from None
            return repo, item
    raise Trouble("NOT_FOUND", f"Could not resolve to a node with the global id of '{node}'")


def landing_rules(call: Call, variables: Json) -> Json:
    repo = _named(call, variables)
    branch = variables["branch"]
    classic = repo.protection.get(branch)
    rule = {"requiresSignatures": bool(classic.get("required_signatures"))} if classic else None
    ref = {"refUpdateRule": rule} if repo.head(branch) else None
    queue = {"id": f"MQ_{repo.id}"} if merge_queue.method(repo, branch) else None
    return {"repository": {"ref": ref, "mergeQueue": queue}}


def move_ref(call: Call, variables: Json) -> Json:
    given = variables["input"]
    repo, _ = _by_node(call, given["repositoryId"], "contents")
    for update in given["refUpdates"]:
        name, new = update["name"], update["afterOid"]
        old = repo.refs().get(name)
        if (old or NOTHING) != update.get("beforeOid", old or NOTHING):
            raise Trouble("STALE_DATA", f"Expected {name} to be at {update['beforeOid']} but was at {old or NOTHING}")
        git_data.move_ref(call.state, repo, name, old, new, call.caller.who, force=bool(update.get("force")))
    return {"updateRefs": {"clientMutationId": None}}


def queued_pull(call: Call, variables: Json) -> Json:
    repo = _named(call, variables)
    item = repo.items.get(variables["number"])
    if item is None or item.head_ref is None:
        number = variables["number"]
        raise Trouble("NOT_FOUND", f"Could not resolve to a PullRequest with the number of {number}.")
    return {"repository": {"pullRequest": merge_queue.queued(call.state, repo, item)}}


def enqueue(call: Call, variables: Json) -> Json:
    given = variables["input"]
    repo, item = _by_node(call, given["pullRequestId"], "pull_requests")
    assert item is not None
    merge_queue.enqueue(call.state, repo, item, given.get("expectedHeadOid"), call.caller.who)
    return {"enqueuePullRequest": {"clientMutationId": None}}


def dequeue(call: Call, variables: Json) -> Json:
    repo, item = _by_node(call, variables["input"]["id"], "pull_requests")
    assert item is not None
    if all(one["number"] != item.number for one in repo.queue):
        raise Trouble("UNPROCESSABLE", "Pull request is not in the merge queue")
    merge_queue.let_go(call.state, repo, item.number, "manual", call.caller.who)
    return {"dequeuePullRequest": {"clientMutationId": None}}


OPERATIONS: dict[str, Callable[[Call, Json], Json]] = {
    "LandingRules": landing_rules, "MoveRef": move_ref, "QueuedPull": queued_pull, "Enqueue": enqueue, "Dequeue": dequeue,
}  # fmt: skip


async def answer(call: Call) -> web.Response:
    """POST /graphql."""
    if call.caller.user is None:
        raise ApiError(401, "This endpoint requires you to be authenticated.")
    named = _NAME.match(str(call.body.get("query")))
    operation = OPERATIONS.get(named[1]) if named else None
    if operation is None or named is None:
        raise ApiError(400, f"the stand-in does not have the GraphQL operation {named[1] if named else '?'}")
    if named[1] in call.state.missing_operations:
        message = f"Field '{call.state.missing_operations[named[1]]}' doesn't exist on type 'Mutation'"
        return web.json_response({"errors": [{"message": message, "extensions": {"code": "undefinedField"}}]})
    try:
        return web.json_response({"data": operation(call, call.body.get("variables") or {})})
    except ApiError as error:
        kind = error.kind if isinstance(error, Trouble) else "UNPROCESSABLE"
        found: Json = {"type": kind, "message": str(error), "path": [named[1]], "locations": [{"line": 1, "column": 1}]}
        return web.json_response({"data": None, "errors": [found]})
