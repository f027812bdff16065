"""What people do to whole issues, repositories, branches and installations on GitHub's own pages (POST /_standin/lifecycle).

Each act has GitHub's webhooks for it, and its consequences for whoever asks afterwards: redirects, refusals, silence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pygit2
from aiohttp import web

from bot.standin import hooks, shapes
from bot.standin.rest import Call
from bot.standin.state import ApiError, App, Json, Repository, State, User, stamp


def installation(state: State, app: App) -> Json:
    """installation."""
    owner = next(iter(state.repositories.values())).owner if state.repositories else "octo"
    url = f"{state.url}/app/installations/{app.installation}"
    return {
        "id": app.installation, "account": shapes.user(state, state.user(owner)), "app_id": app.id, "app_slug": app.slug,
        "repository_selection": "selected", "access_tokens_url": f"{url}/access_tokens",
        "repositories_url": f"{state.url}/installation/repositories", "html_url": url, "client_id": f"Iv{app.id}",
        "target_id": state.user(owner).id, "target_type": "User", "permissions": app.permissions, "events": ["push"],
        "created_at": "2026-01-01T00:00:00Z", "updated_at": stamp(state.now()), "single_file_name": None,
        "has_multiple_single_files": False, "single_file_paths": [], "suspended_at": stamp(app.suspended),
        "suspended_by": shapes.user(state, state.user(owner)) if app.suspended else None,
    }  # fmt: skip


def _short(repo: Repository) -> Json:
    return {
        "id": repo.id, "node_id": f"R_{repo.id}", "name": repo.name, "full_name": repo.full_name, "private": True,
    }  # fmt: skip


def _tell(state: State, event: str, action: str, who: User, **more: Any) -> None:
    """A webhook of an installation: it has no repository."""
    assert state.app is not None
    sender = shapes.user(state, who)
    payload = {"action": action, "installation": installation(state, state.app), "sender": sender, **more}
    hooks.queue(state, event, action, payload, None)


def _app(state: State) -> App:
    assert state.app is not None
    return state.app


# --- repositories ------------------------------------------------------------------------------------------------------
def _move(state: State, repo: Repository, owner: str, name: str) -> None:
    state.renamed[repo.full_name.lower()] = repo.id
    repo.owner, repo.name = owner, name
    state.renamed.pop(repo.full_name.lower(), None)


def rename(state: State, repo: Repository, who: User, body: Json) -> None:
    old = repo.name
    _move(state, repo, repo.owner, body["name"])
    hooks.emit(state, "repository", "renamed", repo, who, changes={"repository": {"name": {"from": old}}})


def transfer(state: State, repo: Repository, who: User, body: Json) -> None:
    """To somebody who has the App as well: all repositories here are of one installation, which gets another number."""
    old = state.user(repo.owner)
    _move(state, repo, body["owner"], repo.name)
    _app(state).installation = state.next_id()
    changes = {"owner": {"from": {"user": shapes.user(state, old)}}}
    hooks.emit(state, "repository", "transferred", repo, who, changes=changes)


def archive(state: State, repo: Repository, who: User, body: Json) -> None:
    repo.archived = True
    hooks.emit(state, "repository", "archived", repo, who)


def unarchive(state: State, repo: Repository, who: User, body: Json) -> None:
    repo.archived = False
    hooks.emit(state, "repository", "unarchived", repo, who)


def delete(state: State, repo: Repository, who: User, body: Json) -> None:
    hooks.emit(state, "repository", "deleted", repo, who)
    del state.repositories[repo.id]


def default_branch(state: State, repo: Repository, who: User, body: Json) -> None:
    old, repo.default_branch = repo.default_branch, body["branch"]
    repo.git().set_head(f"refs/heads/{repo.default_branch}")
    changes = {"default_branch": {"from": old}}
    hooks.emit(state, "repository", "edited", repo, who, changes=changes)


def rename_branch(state: State, repo: Repository, who: User, body: Json) -> None:
    """Pull requests and the default branch follow."""
    old, new = body["from"], body["to"]
    git = repo.git()
    sha = git.references[f"refs/heads/{old}"].peel(pygit2.Commit).id
    git.references.create(f"refs/heads/{new}", sha)
    git.references.delete(f"refs/heads/{old}")
    repo.renamed_branches[old] = new
    for item in repo.items.values():
        if item.base_ref == old and item.state == "open":
            item.base_ref = new
            hooks.pull(
                state, "edited", repo, item, who, changes={"base": {"ref": {"from": old}, "sha": {"from": str(sha)}}}
            )
    hooks.push(state, repo, f"refs/heads/{new}", None, str(sha), who)
    hooks.push(state, repo, f"refs/heads/{old}", str(sha), None, who)
    if repo.default_branch == old:
        default_branch(state, repo, who, {"branch": new})


# --- issues ------------------------------------------------------------------------------------------------------------
def lock(state: State, repo: Repository, who: User, body: Json) -> None:
    item = repo.items[int(body["number"])]
    item.locked = bool(body.get("locked", True))
    hooks.issue(state, "locked" if item.locked else "unlocked", repo, item, who)


# --- installations -----------------------------------------------------------------------------------------------------
def suspend(state: State, repo: Repository, who: User, body: Json) -> None:
    _app(state).suspended = state.now()
    _tell(state, "installation", "suspend", who)


def unsuspend(state: State, repo: Repository, who: User, body: Json) -> None:
    _app(state).suspended = None
    _tell(state, "installation", "unsuspend", who)


def uninstall(state: State, repo: Repository, who: User, body: Json) -> None:
    _tell(state, "installation", "deleted", who, repositories=[_short(r) for r in state.repositories.values()])
    _app(state).uninstalled = True


def remove(state: State, repo: Repository, who: User, body: Json) -> None:
    _app(state).without.add(repo.id)
    _selected(state, "removed", who, [], [repo])


def add(state: State, repo: Repository, who: User, body: Json) -> None:
    _app(state).without.discard(repo.id)
    _selected(state, "added", who, [repo], [])


def _selected(state: State, action: str, who: User, added: list[Repository], removed: list[Repository]) -> None:
    _tell(
        state, "installation_repositories", action, who, repository_selection="selected", requester=None,
        repositories_added=[_short(repo) for repo in added], repositories_removed=[_short(repo) for repo in removed],
    )  # fmt: skip


def permissions(state: State, repo: Repository, who: User, body: Json) -> None:
    """Taken away without a word, or accepted by the owner (`accepted`), which is told."""
    _app(state).permissions = {**body["permissions"]}
    if body.get("accepted"):
        _tell(state, "installation", "new_permissions_accepted", who)


def calm(state: State, repo: Repository, who: User, body: Json) -> None:
    """Not GitHub's: no more faults on demand."""
    state.faults.clear()


ACTS: dict[str, Callable[[State, Repository, User, Json], None]] = {
    act.__name__: act
    for act in (
        rename, transfer, archive, unarchive, delete, default_branch, rename_branch, lock,
        suspend, unsuspend, uninstall, remove, add, permissions, calm,
    )
}  # fmt: skip


def routes(state: State) -> list[web.RouteDef]:
    """One path: {"act", "repository": its id, "login": who does it, and what the act needs}."""

    async def act(request: web.Request) -> web.Response:
        body = await request.json()
        repo = state.repositories[int(body["repository"])]
        ACTS[body["act"]](state, repo, state.user(body["login"]), body)
        state.touch()
        return web.json_response({})

    return [web.post("/_standin/lifecycle", act)]


# --- REST --------------------------------------------------------------------------------------------------------------
async def get_installation(call: Call) -> web.Response:
    app = call.caller.app
    if app is None:
        raise ApiError(401, "A JSON web token could not be decoded")
    if int(call.request.match_info["installation"]) != app.installation or app.uninstalled:
        raise ApiError(404, "Not Found")
    return web.json_response(installation(call.state, app))


async def get_branch(call: Call) -> web.Response:
    """A branch; 301 from its name before it was renamed."""
    repo, name = call.repo("contents"), call.request.match_info["branch"]
    sha = repo.head(name)
    if sha is None and name in repo.renamed_branches:
        new = quote(repo.renamed_branches[name], safe="")
        url = f"{call.state.url}/repositories/{repo.id}/branches/{new}"
        raise ApiError(301, "Moved Permanently", url=url)
    if sha is None:
        raise ApiError(404, "Branch not found")
    api = f"{call.state.url}/repos/{repo.full_name}"
    commit = shapes.git_commit(call.state, repo, repo.git()[sha].peel(pygit2.Commit))
    return web.json_response(
        {"name": name, "commit": commit, "protected": False, "protection_url": f"{api}/branches/{name}/protection",
         "_links": {"html": f"{call.state.url}/{repo.full_name}/tree/{name}", "self": f"{api}/branches/{name}"},
         "protection": {"enabled": False, "required_status_checks": {"enforcement_level": "off", "contexts": [],
                                                                      "checks": []}}}
    )  # fmt: skip
