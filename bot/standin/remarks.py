"""What people ask for anew, what GitHub does to reviews by itself, and who may do what."""

from __future__ import annotations

from aiohttp import web

from bot.standin import hooks, shapes
from bot.standin.state import ApiError, Item, Json, Repository, State, stamp


def _review(item: Item, number: int) -> Json:
    for found in item.reviews:
        if found["id"] == number:
            return found
    raise ApiError(404, "Not Found")


def _suite(state: State, repo: Repository, head: str) -> Json:
    """check-suite, as GitHub sends it when somebody asks for all of its runs anew."""
    branch = next((ref[11:] for ref, sha in repo.refs().items() if sha == head and ref.startswith("refs/heads/")), None)
    who = {"name": "Interlock", "email": "interlock@users.noreply.invalid"}
    number = repo.suites.setdefault(head, state.next_id())
    api = f"{state.url}/repos/{repo.full_name}/check-suites/{number}"
    return {
        "id": number, "node_id": f"CS_{number}", "head_branch": branch, "head_sha": head, "status": "queued",
        "conclusion": None, "url": api, "before": None, "after": head, "pull_requests": [], "app": shapes.app(state),
        "created_at": stamp(state.now()), "updated_at": stamp(state.now()), "latest_check_runs_count": 1,
        "check_runs_url": f"{api}/check-runs",
        "head_commit": {"id": head, "tree_id": head, "message": "", "timestamp": stamp(state.now()), "author": who,
                        "committer": who},
    }  # fmt: skip


def routes(state: State) -> list[web.RouteDef]:
    """Under /_standin/."""

    async def rerequest(request: web.Request) -> web.Response:
        """A person presses Re-run on one check run, or Re-run all on a commit."""
        body = await request.json()
        repo, who = state.repositories[int(body["repository"])], state.user(body["login"])
        if "check_run" in body:
            hooks.check(state, "rerequested", repo, repo.checks[int(body["check_run"])], who)
        else:
            suite = _suite(state, repo, body["head_sha"])
            hooks.emit(state, "check_suite", "rerequested", repo, who, check_suite=suite)
        return web.json_response({})

    async def move_review(request: web.Request) -> web.Response:
        """GitHub moves a review's commit forward when the base is merged into the branch."""
        body = await request.json()
        repo = state.repositories[int(body["repository"])]
        _review(repo.items[int(body["number"])], int(body["review"]))["commit_id"] = body["commit_id"]
        state.touch()
        return web.json_response({})

    async def roles(request: web.Request) -> web.Response:
        """People come, go, and may do more or less than before; a login that ends in [bot] is an App's."""
        body = await request.json()
        repo = state.repositories[int(body["repository"])]
        repo.roles.update(body["roles"])
        for login in body["roles"]:
            state.user(login).type = "Bot" if login.endswith("[bot]") else "User"
        return web.json_response({})

    return [
        web.post("/_standin/rerequest", rerequest),
        web.post("/_standin/move-review", move_review),
        web.post("/_standin/roles", roles),
    ]
