"""GitHub's own merge queue: groups on branches of their own, checks asked for, merged in order or let go of.

Each entry's group holds what is ahead of it. It merges when every required check has passed on the group's commit; while
`hold` is set, nothing does.
"""

from __future__ import annotations

from typing import Any

import pygit2
from aiohttp import web

from bot.standin import hooks, shapes
from bot.standin.git_data import address, write_commit
from bot.standin.rulesets import PASSED, check_states, required_checks, rules_for
from bot.standin.state import ApiError, Item, Json, Repository, State, User, stamp

BOT = "github-merge-queue[bot]"
RED = ("failure", "timed_out", "error", "cancelled")


def bot(state: State) -> User:
    """GitHub's own actor."""
    if BOT not in state.users:
        state.users[BOT] = User(state.next_id(), BOT, "Bot")
    return state.users[BOT]


def method(repo: Repository, base: str) -> str | None:
    """The queue's merge method; None if the branch has no queue."""
    found = [rule for rule in rules_for(repo, f"refs/heads/{base}") if rule["type"] == "merge_queue"]
    classic = repo.protection.get(base, {}).get("merge_queue")
    return found[0].get("parameters", {}).get("merge_method", "MERGE") if found else classic


def enqueue(state: State, repo: Repository, item: Item, head: str | None, who: User) -> None:
    """Raises ApiError in GitHub's words."""
    if method(repo, item.base_ref) is None:
        raise ApiError(422, "The pull request's base branch does not have a merge queue")
    if item.state != "open":
        raise ApiError(422, "Pull request is closed")
    if any(one["number"] == item.number for one in repo.queue):
        raise ApiError(422, "Pull request is already in the queue")
    if head not in (None, item.head_sha):
        raise ApiError(422, f"Expected head oid to be {head} but was {item.head_sha}")
    needed = max(
        (
            rule.get("parameters", {}).get("required_approving_review_count", 0)
            for rule in rules_for(repo, f"refs/heads/{item.base_ref}")
            if rule["type"] == "pull_request"
        ),
        default=0,
    )
    given = {one["user"].login for one in item.reviews if one["state"] == "APPROVED"
             and state.role(repo, one["user"]) in ("write", "maintain", "admin")}  # fmt: skip
    if len(given) < needed:
        raise ApiError(
            422, f"Pull request At least {needed} approving review is required by reviewers with write access."
        )
    repo.queue.append(
        {"number": item.number, "head": item.head_sha, "enqueuer": who.login, "group": "", "base": "", "group_was": ""}
    )
    hooks.pull(state, "enqueued", repo, item, who)
    advance(state, repo, item.base_ref)


def let_go(state: State, repo: Repository, number: int, reason: str, who: User) -> None:
    """Take one out; what was built on it is built anew."""
    entry = next(one for one in repo.queue if one["number"] == number)
    at = repo.queue.index(entry)
    for one in repo.queue[at:]:
        _drop_group(state, repo, one, "dequeued" if one is entry else "invalidated")
    repo.queue.remove(entry)
    item = repo.items[number]
    repo.removals.setdefault(number, []).append(
        {"id": f"RFMQE_{state.next_id()}", "reason": reason, "actor": who.login, "commit": entry["group_was"]}
    )
    webhook = {"manual": "MANUAL", "failed_checks": "CI_FAILURE", "merge_conflict": "MERGE_CONFLICT"}
    hooks.pull(state, "dequeued", repo, item, who, reason=webhook.get(reason, "UNKNOWN_REMOVAL_REASON"))
    advance(state, repo, item.base_ref)


def advance(state: State, repo: Repository, base: str) -> None:
    """Build the groups that are missing, merge those that are green at the front, let go of red ones."""
    while True:
        ahead = str(repo.head(base))
        for entry in list(repo.queue):
            item = repo.items[entry["number"]]
            if entry["head"] != item.head_sha:
                return let_go(state, repo, item.number, "manual", bot(state))
            if entry["group"] and entry["base"] != ahead:
                _drop_group(state, repo, entry, "invalidated")
            if not entry["group"]:
                group = _build(state, repo, item, entry, ahead)
                if group is None:
                    return let_go(state, repo, item.number, "merge_conflict", bot(state))
                _ask_for_checks(state, repo, item, entry, ahead, group)
            ahead = entry["group"]
        if not repo.queue or repo.queue_held:
            return None
        first = repo.queue[0]
        required = required_checks(repo, f"refs/heads/{base}")
        said = [check_states(repo, first["group"], context, app) for context, app in required]
        if any(one & set(RED) for one in said):
            return let_go(state, repo, first["number"], "failed_checks", bot(state))
        if not all(one & set(PASSED) for one in said):
            return None
        _merge(state, repo, base, first)


def _ref(base: str, entry: Json) -> str:
    return f"refs/heads/gh-readonly-queue/{base}/pr-{entry['number']}-{entry['base']}"


def _build(state: State, repo: Repository, item: Item, entry: Json, ahead: str) -> str | None:
    """The group's commit on what is ahead, by the queue's method; None for a conflict."""
    git, how = repo.git(), method(repo, item.base_ref)
    fork = git.merge_base(ahead, item.head_sha)
    if fork is None:
        return None
    title = f"{item.title} (#{item.number})"
    if how != "REBASE":
        index = git.merge_commits(ahead, item.head_sha)
        if index.conflicts is not None:
            return None
        spoiled = entry.get("spoil")
        if spoiled:
            index.add(pygit2.IndexEntry("spoiled.txt", git.create_blob(b"wrong\n"), pygit2.enums.FileMode.BLOB))
        tree = str(index.write_tree(git))
        if how == "MERGE":
            message = f"Merge pull request #{item.number} from {item.head_ref}\n\n{item.title}\n"
            parents = [ahead, item.head_sha]
        else:
            mine = [c for c in git.walk(item.head_sha) if not git.descendant_of(fork, c.id) and c.id != fork]
            message = "\n\n".join([title, *(f"* {one.message.strip()}" for one in reversed(mine))])
            parents = [ahead]
        return write_commit(state, repo, tree, parents, message, address(item.user), signed=True)
    walker = git.walk(item.head_sha, pygit2.enums.SortMode.TOPOLOGICAL | pygit2.enums.SortMode.REVERSE)
    walker.hide(fork)
    at = ahead
    for commit in walker:
        before = git[commit.parent_ids[0]].peel(pygit2.Tree)
        index = git.merge_trees(before, git[at].peel(pygit2.Tree), commit.tree)
        if index.conflicts is not None:
            return None
        who = (commit.author.name, commit.author.email)
        at = write_commit(state, repo, str(index.write_tree(git)), [at], commit.message, who, signed=False)
    return at


def _payload(repo: Repository, base: str, entry: Json, state: State) -> Json:
    commit = repo.git()[entry["group"]].peel(pygit2.Commit)
    who = {"name": commit.author.name, "email": commit.author.email}
    return {
        "head_sha": entry["group"], "head_ref": _ref(base, entry), "base_sha": entry["base"],
        "base_ref": f"refs/heads/{base}",
        "head_commit": {"id": entry["group"], "tree_id": str(commit.tree_id), "message": commit.message,
                        "timestamp": stamp(state.now()), "author": who, "committer": who},
    }  # fmt: skip


def _ask_for_checks(state: State, repo: Repository, item: Item, entry: Json, ahead: str, group: str) -> None:
    entry.update(group=group, base=ahead, group_was=group)
    repo.git().references.create(_ref(item.base_ref, entry), pygit2.Oid(hex=group), force=True)
    found = _payload(repo, item.base_ref, entry, state)
    hooks.emit(state, "merge_group", "checks_requested", repo, bot(state), merge_group=found)


def _drop_group(state: State, repo: Repository, entry: Json, reason: str) -> None:
    if entry["group"]:
        base = repo.items[entry["number"]].base_ref
        found = _payload(repo, base, entry, state)
        repo.git().references.delete(_ref(base, entry))
        hooks.emit(state, "merge_group", "destroyed", repo, bot(state), merge_group=found, reason=reason)
    entry["group"] = ""


def _merge(state: State, repo: Repository, base: str, entry: Json) -> None:
    item, who = repo.items[entry["number"]], bot(state)
    old, new = str(repo.head(base)), entry["group"]
    _drop_group(state, repo, entry, "merged")
    repo.queue.remove(entry)
    repo.git().references.create(f"refs/heads/{base}", pygit2.Oid(hex=new), force=True)
    item.merged, item.merged_by, item.merge_commit, item.base_sha = state.now(), who, new, new
    hooks.close(state, repo, item, who)
    hooks.push(state, repo, f"refs/heads/{base}", old, new, who)


def queued(state: State, repo: Repository, item: Item) -> Json:
    """The pull request as GraphQL knows it."""
    removal = repo.removals.get(item.number, [None])[-1]
    nodes: list[Json] = []
    if removal:
        runs = [run for run in repo.checks.values() if run["head_sha"] == removal["commit"]]
        contexts: list[Json] = [
            {"name": run["name"], "conclusion": str(run.get("conclusion") or "").upper() or None} for run in runs
        ]
        for one in repo.statuses.get(removal["commit"], []):
            contexts.append({"context": one["context"], "state": one["state"].upper()})
        rollup = {"contexts": {"nodes": contexts}} if contexts else None
        commit = {"statusCheckRollup": rollup} if removal["commit"] else None
        actor = {"login": removal["actor"].removesuffix("[bot]")}
        nodes = [{"id": removal["id"], "reason": removal["reason"], "actor": actor, "beforeCommit": commit}]
    entry = next((one for one in repo.queue if one["number"] == item.number), None)
    group = {"headCommit": {"oid": entry["group"]}, "baseCommit": {"oid": entry["base"]}} if entry else None
    return {
        "id": f"PR_{item.id}", "state": "MERGED" if item.merged else item.state.upper(),
        "isInMergeQueue": entry is not None, "mergeQueueEntry": group,
        "mergeCommit": {"oid": item.merge_commit} if item.merge_commit else None, "timelineItems": {"nodes": nodes},
    }  # fmt: skip


def routes(state: State) -> list[web.RouteDef]:
    """What people do to the queue, and what goes wrong in it: hold, enqueue, remove, order, spoil."""

    async def act(request: web.Request) -> web.Response:
        body: dict[str, Any] = await request.json()
        repo = state.repositories[int(request.match_info["id"])]
        repo.queue_held = body.get("hold", repo.queue_held)
        if "enqueue" in body:
            enqueue(state, repo, repo.items[body["enqueue"]], None, state.user(body["login"]))
        if "remove" in body:
            let_go(state, repo, body["remove"], body.get("reason", "manual"), state.user(body["login"]))
        if "order" in body:
            repo.queue.sort(key=lambda one: body["order"].index(one["number"]))
        for one in repo.queue:
            if one["number"] == body.get("spoil"):
                one["spoil"] = True
                _drop_group(state, repo, one, "invalidated")
        advance(state, repo, repo.default_branch)
        state.touch()
        listed = [{**one, "pull": shapes.pull(state, repo, repo.items[one["number"]])["number"]} for one in repo.queue]
        return web.json_response({"queue": listed})

    return [web.post("/_standin/repositories/{id}/queue", act)]
