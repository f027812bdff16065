"""Reviews and check runs: what people and Apps say about the code."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from bot.standin import hooks, merge_queue, shapes
from bot.standin.code import commit_of
from bot.standin.rest import Call, page
from bot.standin.state import ApiError, Json, Repository, State, User, invalid, stamp

OUTPUT_LIMIT = 65535
REVIEW_STATES = {"APPROVE": "APPROVED", "REQUEST_CHANGES": "CHANGES_REQUESTED", "COMMENT": "COMMENTED"}


async def create_review(call: Call) -> web.Response:
    repo = call.repo("pull_requests", "write")
    item = call.state.item(repo, call.number(), pull=True)
    who = call.caller.who
    event = call.body.get("event", "COMMENT")
    if event not in REVIEW_STATES:
        raise invalid("PullRequestReview", "event", "invalid")
    if item.user is who and event != "COMMENT":
        what = "approve" if event == "APPROVE" else "request changes on"
        raise ApiError(422, "Unprocessable Entity", [f"Can not {what} your own pull request"])
    lines = call.body.get("comments") or []
    if event != "APPROVE" and not call.body.get("body") and not (lines and event == "COMMENT"):
        raise ApiError(422, "Unprocessable Entity", ["Review body is required"])
    found: Json = {
        "id": call.state.next_id(), "user": who, "body": call.body.get("body") or "", "state": REVIEW_STATES[event],
        "commit_id": call.body.get("commit_id") or item.head_sha, "at": call.state.now(),
    }  # fmt: skip
    found["comments"] = [_line(call, found, one) for one in lines]
    item.reviews.append(found)
    hooks.review(call.state, "submitted", repo, item, found, who)
    for one in found["comments"]:
        hooks.line(call.state, repo, item, found, one, who)
    return web.json_response(shapes.review(call.state, repo, item, found))


def _line(call: Call, review: Json, one: Json) -> Json:
    """A line comment of a review that is being made. Raises ApiError 422 for one that is about nothing."""
    if not (one.get("path") and one.get("body") and isinstance(one.get("line"), int)):
        raise ApiError(422, "Unprocessable Entity", ["Pull request review thread line must be part of the diff"])
    made = {name: one[name] for name in ("path", "line", "body")}
    made |= {"id": call.state.next_id(), "side": one.get("side", "RIGHT"), "user": review["user"], "at": review["at"]}
    return {**made, "commit_id": review["commit_id"]}


async def may_review(call: Call) -> web.Response:
    """Nothing but the permission."""
    call.state.item(call.repo("pull_requests", "write"), call.number(), pull=True)
    return web.Response(status=204)


async def list_review_comments(call: Call) -> web.Response:
    """Of one review, or of all of a pull request."""
    repo = call.repo("pull_requests")
    item = call.state.item(repo, call.number(), pull=True)
    wanted = call.request.match_info.get("review")
    reviews = [review for review in item.reviews if wanted is None or review["id"] == int(wanted)]
    if wanted is not None and not reviews:
        raise ApiError(404, "Not Found")
    return page(call, [
        shapes.review_comment(call.state, repo, item, review, one, whole=wanted is None)
        for review in reviews for one in review["comments"]
    ])  # fmt: skip


async def list_reviews(call: Call) -> web.Response:
    repo = call.repo("pull_requests")
    item = call.state.item(repo, call.number(), pull=True)
    return page(call, [shapes.review(call.state, repo, item, found) for found in item.reviews])


async def dismiss_review(call: Call) -> web.Response:
    repo = call.repo("pull_requests", "write")
    item = call.state.item(repo, call.number(), pull=True)
    for found in item.reviews:
        if found["id"] == int(call.request.match_info["review"]):
            found["state"] = "DISMISSED"
            hooks.review(call.state, "dismissed", repo, item, found, call.caller.who)
            return web.json_response(shapes.review(call.state, repo, item, found))
    raise ApiError(404, "Not Found")


def _check_fields(call: Call, found: Json) -> None:
    body = call.body
    output = body.get("output") or {}
    if len(output.get("summary") or "") > OUTPUT_LIMIT or len(output.get("text") or "") > OUTPUT_LIMIT:
        raise invalid("CheckRun", "summary", "custom", f"Only {OUTPUT_LIMIT} characters are allowed")
    actions = body.get("actions") or []
    limits = (("label", 20), ("description", 40), ("identifier", 20))
    if len(actions) > 3 or any(len(action.get(name, "")) > most for action in actions for name, most in limits):
        raise invalid("CheckRun", "actions", "invalid")
    if body.get("status") == "completed" and not body.get("conclusion"):
        raise invalid("CheckRun", "conclusion", "missing_field")
    for name in ("name", "external_id", "details_url", "status", "conclusion", "output", "actions"):
        if name in body:
            found[name] = body[name]
    if body.get("conclusion"):
        found["status"] = "completed"
    if found["status"] == "completed":
        found["completed_at"] = body.get("completed_at") or stamp(call.state.now())
    else:
        found["completed_at"], found["conclusion"] = None, None


async def create_check(call: Call) -> web.Response:
    repo = call.repo("checks", "write")
    if call.caller.token is None:
        raise ApiError(403, "You must authenticate via a GitHub App.")
    commit = commit_of(repo, call.body.get("head_sha", ""))
    if not call.body.get("name"):
        raise invalid("CheckRun", "name", "missing_field")
    found: Json = {
        "id": call.state.next_id(), "head_sha": str(commit.id), "status": "queued", "name": "", "external_id": "",
        "started_at": call.body.get("started_at") or stamp(call.state.now()), "actions": [], "output": {},
        "by": {"id": call.state.app.id if call.state.app else 0},
    }  # fmt: skip
    _check_fields(call, found)
    repo.checks[found["id"]] = found
    hooks.check(call.state, "created", repo, found, call.caller.who)
    if found["status"] == "completed":
        hooks.check(call.state, "completed", repo, found, call.caller.who)
        merge_queue.advance(call.state, repo, repo.default_branch)
    return web.json_response(shapes.check_run(call.state, repo, found), status=201)


def check_of(repo: Repository, number: str) -> Json:
    """A check run. Raises ApiError 404."""
    found = repo.checks.get(int(number))
    if found is None:
        raise ApiError(404, "Not Found")
    return found


def _check(call: Call, repo: Repository) -> Json:
    return check_of(repo, call.request.match_info["check"])


def press(state: State, repo: Repository, found: Json, identifier: str, who: User) -> None:
    """A person presses a check run's button. Raises ApiError 422 if there is none."""
    known = {action["identifier"] for action in found.get("actions", [])}
    if found["status"] != "completed" or identifier not in known:
        raise ApiError(422, "no such button on a completed check run")
    hooks.check(state, "requested_action", repo, found, who, requested_action={"identifier": identifier})


async def press_as_caller(call: Call) -> web.Response:
    """Of the path's check run; for those who may write."""
    repo = call.repo("checks", "write")
    press(call.state, repo, _check(call, repo), call.body["identifier"], call.caller.who)
    return web.Response(status=204)


async def get_check(call: Call) -> web.Response:
    repo = call.repo("checks")
    return web.json_response(shapes.check_run(call.state, repo, _check(call, repo)))


async def patch_check(call: Call) -> web.Response:
    repo = call.repo("checks", "write")
    found = _check(call, repo)
    was = found["status"]
    _check_fields(call, found)
    if found["status"] == "completed" and was != "completed":
        hooks.check(call.state, "completed", repo, found, call.caller.who)
    call.state.touch()
    return web.json_response(shapes.check_run(call.state, repo, found))


async def rerequest_check(call: Call) -> web.Response:
    """The run itself stays as it is; its App may make another. GitHub grants this for few Apps' runs."""
    repo = call.repo("checks", "write")
    found = _check(call, repo)
    if not found.get("rerequestable"):
        raise ApiError(403, "This check run is not rerequestable")
    call.state.touch()
    return web.json_response({}, status=201)


async def list_checks(call: Call) -> web.Response:
    repo = call.repo("checks")
    commit = commit_of(repo, call.request.match_info["sha"])
    query = call.request.query
    found = [
        check
        for check in sorted(repo.checks.values(), key=lambda c: -int(c["id"]))
        if check["head_sha"] == str(commit.id)
        and query.get("check_name", check["name"]) == check["name"]
        and query.get("status", check["status"]) == check["status"]
    ]
    if query.get("filter", "latest") == "latest":
        newest: dict[Any, Json] = {}
        for check in found:
            newest.setdefault((check["name"], check.get("by", {}).get("slug")), check)
        found = list(newest.values())
    runs = [shapes.check_run(call.state, repo, check) for check in found]
    return web.json_response({"total_count": len(runs), "check_runs": _part(call, runs)})


def _part(call: Call, found: list[Json]) -> list[Json]:
    """The page of a listing that was asked for."""
    query = call.request.query
    size = min(int(query.get("per_page", "30")), 100)
    start = (int(query.get("page", "1")) - 1) * size
    return found[start : start + size]


async def combined_status(call: Call) -> web.Response:
    repo = call.repo("statuses")
    sha = str(commit_of(repo, call.request.match_info["sha"]).id)
    newest: dict[str, Json] = {}
    for status in reversed(repo.statuses.get(sha, [])):
        newest.setdefault(status["context"], status)
    states = {status["state"] for status in newest.values()}
    bad = bool(states & {"failure", "error"})
    whole = "failure" if bad else "success" if states == {"success"} else "pending"
    return web.json_response(
        {
            "state": whole, "statuses": _part(call, list(newest.values())), "sha": sha, "total_count": len(newest),
            "repository": shapes.repository(call.state, repo), "commit_url": "", "url": "",
        }
    )  # fmt: skip


def ci_said(state: State, repo: Repository, body: Json) -> None:
    """What the repository's own CI reports, which is another App (or, without one, a commit status)."""
    now = stamp(state.now())
    if not body.get("app"):
        status = {"context": body["name"], "state": body["conclusion"], "description": body.get("summary", "")}
        more = {"id": state.next_id(), "node_id": "", "avatar_url": None, "url": "", "target_url": None}
        repo.statuses.setdefault(body["head_sha"], []).append({**status, **more, "created_at": now, "updated_at": now})
    else:
        number = state.next_id()
        done = body.get("conclusion") is not None
        repo.checks[number] = {
            "id": number, "head_sha": body["head_sha"], "name": body["name"], "external_id": "", "started_at": now,
            "status": "completed" if done else "in_progress", "conclusion": body.get("conclusion"), "actions": [],
            "completed_at": now if done else None, "output": {"summary": body.get("summary", "")},
            "by": {"id": 15368, "slug": body["app"], "name": body["app"]},
            "rerequestable": body.get("rerequestable", False),
        }  # fmt: skip
    merge_queue.advance(state, repo, repo.default_branch)
    state.touch()
