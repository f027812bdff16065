"""Git's objects over REST: blobs, trees, and commits that are signed if they name nobody; refs moved without force."""

from __future__ import annotations

import base64
from typing import Any

import pygit2
from aiohttp import web

from bot.standin import hooks
from bot.standin.code import _ref, commit_of
from bot.standin.rest import Call
from bot.standin.rulesets import guarded, index_of
from bot.standin.state import ApiError, Repository, State, User, stamp

SIGNATURE = "-----BEGIN PGP SIGNATURE-----\n\nstand-in\n-----END PGP SIGNATURE-----\n"
NOREPLY = ("GitHub", "noreply@github.com")


async def create_blob(call: Call) -> web.Response:
    repo = call.repo("contents", "write")
    content = call.body.get("content")
    if not isinstance(content, str):
        raise ApiError(422, "Invalid request.")
    data = base64.b64decode(content) if call.body.get("encoding") == "base64" else content.encode()
    sha = str(repo.git().create_blob(data))
    url = f"{call.state.url}/repos/{repo.full_name}/git/blobs/{sha}"
    return web.json_response({"sha": sha, "url": url}, status=201)


async def create_tree(call: Call) -> web.Response:
    repo = call.repo("contents", "write")
    git = repo.git()
    index = index_of(git, call.body["base_tree"]) if call.body.get("base_tree") else pygit2.Index()
    for one in call.body["tree"]:
        if "content" in one:
            sha: Any = git.create_blob(one["content"].encode())
        elif one["sha"] is None:
            if one["path"] not in index:
                raise ApiError(422, "GitRPC::BadObjectState")
            index.remove(one["path"])
            continue
        else:
            sha = one["sha"]
            if one["type"] == "blob" and sha not in git:
                raise ApiError(422, f"tree.sha {sha} is not a valid blob")
        index.add(pygit2.IndexEntry(one["path"], pygit2.Oid(hex=str(sha)), pygit2.enums.FileMode(int(one["mode"], 8))))
    made = git[index.write_tree(git)].peel(pygit2.Tree)
    url = f"{call.state.url}/repos/{repo.full_name}/git"
    listed = [
        {"path": entry.name, "mode": f"{int(entry.filemode):06o}", "type": entry.type_str, "sha": str(entry.id),
         "url": f"{url}/{entry.type_str}s/{entry.id}", **({"size": entry.size} if isinstance(entry, pygit2.Blob) else {})}
        for entry in made
    ]  # fmt: skip
    answer = {"sha": str(made.id), "url": f"{url}/trees/{made.id}", "tree": listed, "truncated": False}
    return web.json_response(answer, status=201)


def write_commit(
    state: State,
    repo: Repository,
    tree: str,
    parents: list[str],
    message: str,
    author: tuple[str, str],
    *,
    signed: bool,
) -> str:
    """A commit of now, which GitHub commits; signed as GitHub signs."""
    when = int(state.now().timestamp())
    people = f"author {author[0]} <{author[1]}> {when} +0000\ncommitter {NOREPLY[0]} <{NOREPLY[1]}> {when} +0000\n"
    head = f"tree {tree}\n" + "".join(f"parent {parent}\n" for parent in parents) + people
    git = repo.git()
    if not signed:
        return str(git.write(pygit2.enums.ObjectType.COMMIT, f"{head}\n{message}".encode()))
    sha = str(git.create_commit_with_signature(f"{head}\n{message}", SIGNATURE, "gpgsig"))
    repo.verified.add(sha)
    return sha


def address(who: User) -> tuple[str, str]:
    """Name and mail address by which GitHub writes somebody as an author."""
    return who.login, f"{who.id}+{who.login}@users.noreply.github.com"


async def create_commit(call: Call) -> web.Response:
    repo = call.repo("contents", "write")
    body, git = call.body, repo.git()
    for name in (body["tree"], *body.get("parents", [])):
        if name not in git:
            raise ApiError(422, "Tree SHA does not exist" if name == body["tree"] else "Parent SHA does not exist")
    given = body.get("author") or body.get("committer")
    author = (given["name"], given["email"]) if given else address(call.caller.who)
    parents, message = body.get("parents", []), body["message"]
    sha = write_commit(call.state, repo, body["tree"], parents, message, author, signed=not given)
    url = f"{call.state.url}/repos/{repo.full_name}/git"
    now = stamp(call.state.now())
    verified = {"verified": True, "reason": "valid", "signature": SIGNATURE, "payload": "", "verified_at": now}
    unsigned = {"verified": False, "reason": "unsigned", "signature": None, "payload": None, "verified_at": None}
    return web.json_response(
        {
            "sha": sha, "node_id": f"C_{sha[:8]}", "url": f"{url}/commits/{sha}", "html_url": f"{url}/commits/{sha}",
            "author": {"name": author[0], "email": author[1], "date": now},
            "committer": {"name": NOREPLY[0], "email": NOREPLY[1], "date": now}, "message": body["message"],
            "tree": {"sha": body["tree"], "url": f"{url}/trees/{body['tree']}"},
            "parents": [{"sha": one, "url": f"{url}/commits/{one}", "html_url": f"{url}/commits/{one}"}
                        for one in parents],
            "verification": unsigned if given else verified,
        },
        status=201,
    )  # fmt: skip


def move_ref(state: State, repo: Repository, name: str, old: str | None, new: str, who: User, *, force: bool) -> None:
    """Raises ApiError 422 for what the rules forbid, or what is no fast forward. The caller holds the lock."""
    git = repo.git()
    if new not in git:
        raise ApiError(422, "Object does not exist")
    if old is not None and not force and old != new and not git.descendant_of(new, old):
        raise ApiError(422, "Update is not a fast forward")
    guarded(state, repo, name, old, new, who)
    git.references.create(name, pygit2.Oid(hex=new), force=True)
    hooks.push(state, repo, name, old, new, who)


async def update_ref(call: Call) -> web.Response:
    repo = call.repo("contents", "write")
    name = f"refs/{call.request.match_info['ref']}"
    async with repo.lock:
        old = repo.refs().get(name)
        if old is None:
            raise ApiError(422, "Reference does not exist")
        new = str(commit_of(repo, call.body["sha"]).id)
        move_ref(call.state, repo, name, old, new, call.caller.who, force=bool(call.body.get("force")))
    return web.json_response(_ref(call, repo, name, new))
