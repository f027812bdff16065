"""Commits, refs and pull requests: the REST paths around the code."""

from __future__ import annotations

import base64

import pygit2
from aiohttp import web

from bot.standin import hooks, shapes
from bot.standin.rest import Call, page
from bot.standin.rulesets import guarded
from bot.standin.state import ApiError, Item, Json, Repository, invalid


def commit_of(repo: Repository, name: str) -> pygit2.Commit:
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
        commit = commit_of(repo, sha)
        guarded(call.state, repo, name, None, str(commit.id), call.caller.who)
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
    return web.json_response(shapes.git_commit(call.state, repo, commit_of(repo, call.request.match_info["sha"])))


async def list_commits(call: Call) -> web.Response:
    repo = call.repo("contents")
    if not repo.refs():
        raise ApiError(409, "Git Repository is empty.")
    start = commit_of(repo, call.request.query.get("sha") or repo.default_branch)
    found = []
    for count, commit in enumerate(repo.git().walk(start.id)):
        if count >= 300:
            break
        found.append(shapes.git_commit(call.state, repo, commit))
    return page(call, found)


async def get_contents(call: Call) -> web.Response:
    repo = call.repo("contents")
    path = call.request.match_info["path"]
    commit = commit_of(repo, call.request.query.get("ref") or repo.default_branch)
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
def mergeable(repo: Repository, item: Item) -> bool:
    """Whether git finds no conflict with the base branch."""
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
    return web.json_response(shapes.pull(call.state, repo, item, mergeable=mergeable(repo, item)))


async def list_pulls(call: Call) -> web.Response:
    repo = call.repo("pull_requests")
    query = call.request.query
    found = [
        shapes.pull_simple(call.state, repo, item)
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
