"""Commits, refs, pull requests, reviews and check runs: the REST paths around the code."""

from __future__ import annotations

import base64
from typing import Any

import pygit2
from aiohttp import web

from bot.standin import hooks, shapes
from bot.standin.rest import Call, page
from bot.standin.state import ApiError, Item, Json, Repository, invalid, stamp

OUTPUT_LIMIT = 65535
REVIEW_STATES = {"APPROVE": "APPROVED", "REQUEST_CHANGES": "CHANGES_REQUESTED", "COMMENT": "COMMENTED"}


def _commit(repo: Repository, name: str) -> pygit2.Commit:
    git = repo.git()
    sha = repo.head(name.removeprefix("heads/")) or name
    try:
        return git[sha].peel(pygit2.Commit)
    except (KeyError, ValueError, pygit2.GitError):
        raise ApiError(422, f"No commit found for SHA: {name}") from None


# --- git -------------------------------------------------------------------------------------------------------------
def _ref(call: Call, repo: Repository, name: str, sha: str) -> Json:
    api = f"{call.state.url}/repos/{repo.full_name}/git"
    return {
        "ref": name, "node_id": f"REF_{sha[:8]}", "url": f"{api}/{name}",
        "object": {"type": "commit", "sha": sha, "url": f"{api}/commits/{sha}"},
    }  # fmt: skip


async def get_ref(call: Call) -> web.Response:
    repo = call.repo("contents")
    name = f"refs/{call.request.match_info['ref']}"
    sha = repo.refs().get(name)
    if sha is None:
        raise ApiError(404, "Not Found")
    return web.json_response(_ref(call, repo, name, sha))


async def create_ref(call: Call) -> web.Response:
    repo = call.repo("contents", "write")
    name, sha = call.body.get("ref", ""), call.body.get("sha", "")
    async with repo.lock:
        if not repo.refs():
            raise ApiError(409, "Git Repository is empty.")
        if name in repo.refs():
            raise ApiError(422, "Reference already exists")
        commit = _commit(repo, sha)
        repo.git().references.create(name, commit.id)
        hooks.push(call.state, repo, name, None, str(commit.id), call.caller.who)
    return web.json_response(_ref(call, repo, name, str(commit.id)), status=201)


async def delete_ref(call: Call) -> web.Response:
    repo = call.repo("contents", "write")
    name = f"refs/{call.request.match_info['ref']}"
    async with repo.lock:
        old = repo.refs().get(name)
        if old is None:
            raise ApiError(422, "Reference does not exist")
        repo.git().references.delete(name)
        hooks.push(call.state, repo, name, old, None, call.caller.who)
    return web.Response(status=204)


async def get_commit(call: Call) -> web.Response:
    repo = call.repo("contents")
    return web.json_response(shapes.git_commit(call.state, repo, _commit(repo, call.request.match_info["sha"])))


async def list_commits(call: Call) -> web.Response:
    repo = call.repo("contents")
    start = _commit(repo, call.request.query.get("sha") or repo.default_branch)
    found = []
    for count, commit in enumerate(repo.git().walk(start.id)):
        if count >= 300:
            break
        found.append(shapes.git_commit(call.state, repo, commit))
    return page(call, found)


async def get_contents(call: Call) -> web.Response:
    repo = call.repo("contents")
    path = call.request.match_info["path"]
    commit = _commit(repo, call.request.query.get("ref") or repo.default_branch)
    try:
        entry = commit.tree[path]
    except KeyError:
        raise ApiError(404, "Not Found") from None
    if not isinstance(entry, pygit2.Blob):
        raise ApiError(404, "Not Found")
    content = base64.b64encode(entry.data).decode()
    return web.json_response(
        {"type": "file", "encoding": "base64", "size": entry.size, "name": path.rsplit("/", 1)[-1], "path": path,
         "content": content, "sha": str(entry.id), "url": "", "git_url": None, "html_url": None, "download_url": None,
         "_links": {"git": None, "html": None, "self": ""}}
    )  # fmt: skip


# --- pull requests ---------------------------------------------------------------------------------------------------
def _mergeable(repo: Repository, item: Item) -> bool:
    git = repo.git()
    base = repo.head(item.base_ref)
    if base is None:
        return False
    return git.merge_commits(base, item.head_sha).conflicts is None


async def create_pull(call: Call) -> web.Response:
    repo = call.repo("pull_requests", "write")
    state = call.state
    head, base = str(call.body.get("head", "")).split(":")[-1], call.body.get("base", "")
    head_sha, base_sha = repo.head(head), repo.head(base)
    if head_sha is None:
        raise invalid("PullRequest", "head", "invalid")
    if base_sha is None:
        raise invalid("PullRequest", "base", "invalid")
    if repo.git().merge_base(head_sha, base_sha) == pygit2.Oid(hex=head_sha):
        raise ApiError(422, "Validation Failed", [{"resource": "PullRequest", "code": "custom",
                       "message": f"No commits between {base} and {head}"}])  # fmt: skip
    for item in repo.items.values():
        if item.head_ref == head and item.base_ref == base and item.state == "open":
            raise ApiError(422, "Validation Failed", [{"resource": "PullRequest", "code": "custom",
                           "message": f"A pull request already exists for {repo.owner}:{head}."}])  # fmt: skip
    number = max(repo.items, default=0) + 1
    item = Item(
        id=state.next_id(), number=number, title=call.text("title", 256), body=call.body.get("body") or "",
        user=call.caller.who, created=state.now(), updated=state.now(), head_ref=head, head_sha=head_sha, base_ref=base,
        base_sha=base_sha,
    )  # fmt: skip
    repo.items[number] = item
    hooks.pull(state, "opened", repo, item, call.caller.who)
    return web.json_response(shapes.pull(state, repo, item), status=201)


async def get_pull(call: Call) -> web.Response:
    repo = call.repo("pull_requests")
    item = call.state.item(repo, call.number(), pull=True)
    return web.json_response(shapes.pull(call.state, repo, item, mergeable=_mergeable(repo, item)))


async def list_pulls(call: Call) -> web.Response:
    repo = call.repo("pull_requests")
    query = call.request.query
    found = [
        shapes.pull(call.state, repo, item)
        for item in sorted(repo.items.values(), key=lambda i: -i.number)
        if item.head_ref is not None
        and query.get("state", "open") in (item.state, "all")
        and query.get("head", "").split(":")[-1] in ("", item.head_ref)
        and query.get("base", "") in ("", item.base_ref)
    ]
    return page(call, found)


async def patch_pull(call: Call) -> web.Response:
    repo = call.repo("pull_requests", "write")
    item = call.state.item(repo, call.number(), pull=True)
    changed = {"title", "body"} & call.body.keys()
    item.title, item.body = call.body.get("title", item.title), call.body.get("body", item.body)
    item.updated = call.state.now()
    if changed:
        hooks.pull(call.state, "edited", repo, item, call.caller.who, changes={})
    if call.body.get("state") == "closed" and item.state == "open":
        hooks.close(call.state, repo, item, call.caller.who)
    elif call.body.get("state") == "open" and item.state == "closed" and item.merged is None:
        item.state, item.closed = "open", None
        hooks.pull(call.state, "reopened", repo, item, call.caller.who)
    return web.json_response(shapes.pull(call.state, repo, item))


async def pull_files(call: Call) -> web.Response:
    repo = call.repo("pull_requests")
    item = call.state.item(repo, call.number(), pull=True)
    git = repo.git()
    fork = git.merge_base(item.base_sha, item.head_sha)
    if fork is None:
        return page(call, [])
    diff = git.diff(git[fork].peel(pygit2.Commit), git[item.head_sha].peel(pygit2.Commit))
    names = {"A": "added", "D": "removed", "M": "modified", "R": "renamed"}
    found = [
        {"sha": str(patch.delta.new_file.id), "filename": patch.delta.new_file.path,
         "status": names.get(patch.delta.status_char(), "changed"), "additions": patch.line_stats[1],
         "deletions": patch.line_stats[2], "changes": patch.line_stats[1] + patch.line_stats[2],
         "blob_url": "", "raw_url": "", "contents_url": "", "patch": patch.text}
        for patch in diff if patch is not None
    ]  # fmt: skip
    return page(call, found)


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
    if event == "REQUEST_CHANGES" and not call.body.get("body"):
        raise ApiError(422, "Unprocessable Entity", ["Review body is required"])
    found = {
        "id": call.state.next_id(), "user": who, "body": call.body.get("body") or "", "state": REVIEW_STATES[event],
        "commit_id": call.body.get("commit_id") or item.head_sha, "at": call.state.now(),
    }  # fmt: skip
    item.reviews.append(found)
    hooks.review(call.state, "submitted", repo, item, found, who)
    return web.json_response(shapes.review(call.state, repo, item, found))


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


# --- check runs ------------------------------------------------------------------------------------------------------
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
    commit = _commit(repo, call.body.get("head_sha", ""))
    if not call.body.get("name"):
        raise invalid("CheckRun", "name", "missing_field")
    found: Json = {
        "id": call.state.next_id(), "head_sha": str(commit.id), "status": "queued", "name": "", "external_id": "",
        "started_at": call.body.get("started_at") or stamp(call.state.now()), "actions": [], "output": {},
    }  # fmt: skip
    _check_fields(call, found)
    repo.checks[found["id"]] = found
    hooks.check(call.state, "created", repo, found, call.caller.who)
    if found["status"] == "completed":
        hooks.check(call.state, "completed", repo, found, call.caller.who)
    return web.json_response(shapes.check_run(call.state, repo, found), status=201)


def _check(call: Call, repo: Repository) -> Json:
    found = repo.checks.get(int(call.request.match_info["check"]))
    if found is None:
        raise ApiError(404, "Not Found")
    return found


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


async def list_checks(call: Call) -> web.Response:
    repo = call.repo("checks")
    commit = _commit(repo, call.request.match_info["sha"])
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
            newest.setdefault(check["name"], check)
        found = list(newest.values())
    runs = [shapes.check_run(call.state, repo, check) for check in found]
    size = min(int(query.get("per_page", "30")), 100)
    start = (int(query.get("page", "1")) - 1) * size
    return web.json_response({"total_count": len(runs), "check_runs": runs[start : start + size]})
