"""What the pages show, from the stand-in's state: plain dicts for the templates of site/."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import Any
from urllib.parse import quote

import pygit2

from bot.standin import markup
from bot.standin.code import mergeable
from bot.standin.state import ApiError, Item, Json, Repository, State, User

COMMITS = 100
FILE_LIMIT = 512 * 1024


def people(state: State) -> list[str]:
    """Who can be picked: whoever has a role in a repository."""
    return sorted({login for repo in state.repositories.values() for login in repo.roles})


def commit(found: pygit2.Commit) -> Json:
    """A commit in words."""
    subject, _, rest = found.message.partition("\n")
    return {
        "id": str(found.id), "subject": subject or "(no subject)", "rest": rest.strip(), "author": found.author.name,
        "when": datetime.fromtimestamp(found.commit_time, UTC), "parents": [str(one) for one in found.parent_ids],
    }  # fmt: skip


def commits(repo: Repository, tip: str, without: str | None = None) -> list[Json]:
    """Newest first."""
    git = repo.git()
    walker = git.walk(tip)
    if without is not None:
        walker.hide(without)
    return [commit(one) for one in islice(walker, COMMITS)]


def runs(repo: Repository, sha: str) -> list[Json]:
    """The newest check run of each name on a commit."""
    found: dict[Any, Json] = {}
    for check in sorted(repo.checks.values(), key=lambda one: int(one["id"])):
        if check["head_sha"] == sha:
            found[check["name"], check.get("by", {}).get("slug")] = check
    return list(found.values())


def listing(repo: Repository, shown: str, *, pulls: bool) -> Json:
    """Issues or pull requests, the newest first."""
    found = [item for item in repo.items.values() if (item.head_ref is not None) == pulls]
    counts = {state: sum(item.state == state for item in found) for state in ("open", "closed")}
    items = sorted((item for item in found if item.state == shown), key=lambda item: -item.number)
    return {"items": items, "counts": counts, "shown": shown, "pulls": pulls}


def issue(repo: Repository, item: Item) -> Json:
    """An issue with the pull requests of its branches."""
    pulls = [one for one in repo.items.values() if (one.head_ref or "").partition("-")[0] == f"interlock/{item.number}"]
    labels = sorted({"interlock"} | {name for one in repo.items.values() for name in one.labels})
    return {"item": item, "pulls": pulls, "labels": labels}


def pull(state: State, repo: Repository, item: Item, part: str, me: User | None, pending: list[Json]) -> Json:
    """A pull request: its conversation, commits or files."""
    base = item.merged_base or item.base_sha
    files = markup.diff(repo.git(), base, item.head_sha)
    found = commits(repo, item.head_sha, base)
    page: Json = {"item": item, "part": part, "count": len(found), "changed": len(files), "found": found}
    if part == "talk":
        said = [{"user": one["user"], "at": one["created"], "body": one["body"]} for one in item.comments]
        page |= {
            "talk": sorted([*item.reviews, *said], key=lambda one: one["at"]), "runs": runs(repo, item.head_sha),
            "verdict": _verdict(state, repo, item), "mergeable": item.state == "open" and mergeable(repo, item),
        }  # fmt: skip
    if part == "files":
        lines: dict[str, list[Json]] = {}
        given = [(one, "wrote") for review in item.reviews for one in review.get("comments", [])]
        for one, note in [*given, *((one, "will say") for one in pending)]:
            key = f"{one['path']}:{'-' if one['side'] == 'LEFT' else ''}{one['line']}"
            user = one.get("user") or me
            lines.setdefault(key, []).append({**one, "user": user, "at": one.get("at") or state.now(), "note": note})
        page |= {"files": files, "talk": lines, "pending": len(pending)}
    return page


def _verdict(state: State, repo: Repository, item: Item) -> Json:
    """The last words of those who may write."""
    last: dict[str, str] = {}
    for review in item.reviews:
        if review["state"] != "COMMENTED" and state.role(repo, review["user"]) in ("write", "maintain", "admin"):
            last[review["user"].login] = review["state"]
    for word, text in (("CHANGES_REQUESTED", "asked for changes"), ("APPROVED", "approved")):
        if who := [login for login, said in last.items() if said == word]:
            return {"word": word, "text": f"{' and '.join(who)} {text}"}
    return {"word": "review_required", "text": "Nobody who may write has approved yet"}


def split_ref(repo: Repository, rest: str) -> tuple[str, str, str]:
    """(ref, its commit, path) of what follows /tree/ or /blob/; the longest branch wins. Raises ApiError 404."""
    parts = rest.strip("/").split("/")
    for count in range(len(parts), 0, -1):
        name = "/".join(parts[:count])
        if (sha := repo.head(name)) is not None:
            return name, sha, "/".join(parts[count:])
    if len(parts[0]) == 40 and set(parts[0]) <= set("0123456789abcdef") and parts[0] in repo.git():
        return parts[0], parts[0], "/".join(parts[1:])
    raise ApiError(404, f"There is no branch or commit {parts[0]} here")


def tree(repo: Repository, root: str, rest: str) -> Json:
    """A folder or a file at a branch or commit; an empty `rest` is the default branch's root."""
    if not rest and repo.head(repo.default_branch) is None:
        return {"ref": repo.default_branch, "path": "", "entries": [], "text": None, "commit": None, "crumbs": []}
    ref, sha, path = split_ref(repo, rest or repo.default_branch)
    tip = repo.git()[sha].peel(pygit2.Commit)
    try:
        found = tip.tree[path] if path else tip.tree
    except KeyError:
        raise ApiError(404, f"There is no {path} at {ref}") from None
    place = f"{root}/tree/{quote(ref)}"
    crumbs, so_far = [(repo.name, place)], ""
    for name in path.split("/") if path else ():
        so_far = f"{so_far}/{name}"
        crumbs.append((name, place + quote(so_far)))
    page: Json = {"ref": ref, "path": path, "entries": None, "text": None, "commit": commit(tip), "crumbs": crumbs}
    if isinstance(found, pygit2.Tree):
        entries = [_entry(one, place, path) for one in found]
        page["entries"] = sorted(entries, key=lambda one: (not one["folder"], one["name"]))
        readme = next((one for one in found if (one.raw_name or b"").lower() == b"readme.md"), None)
    else:
        readme = found
    if isinstance(readme, pygit2.Blob):
        raw = readme.data
        page |= {"text": "A binary file." if readme.is_binary else raw[:FILE_LIMIT].decode("utf-8", "replace"),
                 "size": len(raw), "readme": page["entries"] is not None, "path": path or "README.md"}  # fmt: skip
    return page


def _entry(one: pygit2.Object, place: str, path: str) -> Json:
    name = (one.raw_name or b"").decode("utf-8", "replace")
    full = f"{path}/{name}" if path else name
    return {"name": name, "folder": isinstance(one, pygit2.Tree), "link": f"{place}/{quote(full)}"}
