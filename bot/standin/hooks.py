"""Webhooks: made at each change, signed, delivered in order by one task, kept in a log, never repeated by themselves."""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from typing import Any

import aiohttp
import pygit2

from bot.standin import record, shapes
from bot.standin.state import Item, Json, Repository, State, User, stamp

ANSWER_SECONDS = 10


def emit(state: State, event: str, action: str | None, repo: Repository, sender: User, **body: Any) -> None:
    """Queue one delivery to the App."""
    app = state.app
    if app is None or not app.installation or app.suspended or repo.id in app.without:
        state.touch()
        return
    payload: Json = {"action": action, **body} if action else {**body}
    payload |= {
        "repository": shapes.repository(state, repo),
        "sender": shapes.user(state, sender),
        "installation": {"id": app.installation, "node_id": "I_1"},
    }
    queue(state, event, action, payload, repo.id)


def queue(state: State, event: str, action: str | None, payload: Json, repository: int | None) -> None:
    """A delivery of this payload, unless nobody listens."""
    record.hook(event, payload)
    state.touch()
    if state.app is None or not state.app.webhook_url or state.app.uninstalled:
        return
    delivery = {
        "id": state.next_id(), "guid": str(uuid.uuid4()), "event": event, "action": action,
        "body": json.dumps(payload), "delivered_at": None, "status": "", "status_code": 0, "redelivery": False,
        "repository_id": repository, "at": state.now(),
    }  # fmt: skip
    if any(f.get("drop_event") in (event, "*") and _use(f) for f in state.faults):
        delivery["status"] = "dropped"
        state.deliveries.append(delivery)
        return
    state.deliveries.append(delivery)
    state.outgoing.put_nowait(delivery)
    if any(f.get("duplicate_event") in (event, "*") and _use(f) for f in state.faults):
        state.outgoing.put_nowait(delivery)


def _use(fault: Json) -> bool:
    if fault.get("times", 1) <= 0:
        return False
    fault["times"] = fault.get("times", 1) - 1
    return True


def issue(state: State, action: str, repo: Repository, item: Item, sender: User, **more: Any) -> None:
    """issues.*"""
    found = shapes.issue(state, repo, item, whole_labels=action == "labeled")
    emit(state, "issues", action, repo, sender, issue=found, **more)


def comment(state: State, action: str, repo: Repository, item: Item, found: Json, sender: User, **more: Any) -> None:
    """issue_comment.*"""
    emit(
        state, "issue_comment", action, repo, sender, issue=shapes.issue(state, repo, item),
        comment=shapes.comment(state, repo, item, found), **more,
    )  # fmt: skip


def pull(state: State, action: str, repo: Repository, item: Item, sender: User, **more: Any) -> None:
    """pull_request.*"""
    emit(
        state, "pull_request", action, repo, sender, number=item.number,
        pull_request=shapes.pull(state, repo, item), **more,
    )  # fmt: skip


def review(state: State, action: str, repo: Repository, item: Item, found: Json, sender: User) -> None:
    """pull_request_review.*"""
    emit(
        state, "pull_request_review", action, repo, sender, pull_request=shapes.pull_simple(state, repo, item),
        review=shapes.review(state, repo, item, found, webhook=True),
    )  # fmt: skip


def line(state: State, repo: Repository, item: Item, found: Json, one: Json, sender: User) -> None:
    """pull_request_review_comment.created"""
    emit(
        state, "pull_request_review_comment", "created", repo, sender, pull_request=shapes.pull_simple(state, repo, item),
        comment=shapes.review_comment(state, repo, item, found, one),
    )  # fmt: skip


def check(state: State, action: str, repo: Repository, found: Json, sender: User, **more: Any) -> None:
    """check_run.*"""
    emit(state, "check_run", action, repo, sender, check_run=shapes.check_run(state, repo, found), **more)


def push(state: State, repo: Repository, ref: str, old: str | None, new: str | None, sender: User) -> None:
    """push, and what follows from it for pull requests and check suites."""
    git, repo.pushed = repo.git(), state.now()
    forced = bool(old and new and old != new and not git.descendant_of(new, old))
    commits: list[Json] = []
    if new is not None:
        for count, commit in enumerate(git.walk(new)):
            if str(commit.id) == old or count >= 20:
                break
            commits.append(
                {"id": str(commit.id), "tree_id": str(commit.tree_id), "distinct": True, "message": commit.message,
                 "timestamp": stamp(state.now()), "url": f"{state.url}/{repo.full_name}/commit/{commit.id}",
                 "author": {"name": commit.author.name, "email": commit.author.email},
                 "committer": {"name": commit.committer.name, "email": commit.committer.email},
                 **_paths(commit)}
            )  # fmt: skip
        if old is None:
            commits = commits[:1]
    commits.reverse()
    emit(
        state, "push", None, repo, sender, ref=ref, before=old or "0" * 40, after=new or "0" * 40, created=old is None,
        deleted=new is None, forced=forced, base_ref=None, compare="", commits=commits,
        head_commit=commits[-1] if commits else None, pusher={"name": sender.login, "email": None},
    )  # fmt: skip
    if ref.startswith("refs/heads/"):
        _follow(state, repo, ref.removeprefix("refs/heads/"), new, sender)


def _paths(commit: pygit2.Commit) -> Json:
    """What a commit added, removed and modified, against its first parent."""
    tree = commit.tree
    diff = commit.parents[0].tree.diff_to_tree(tree) if commit.parents else tree.diff_to_tree(swap=True)
    found: dict[str, list[str]] = {"added": [], "removed": [], "modified": []}
    for delta in diff.deltas:
        kind = {"A": "added", "D": "removed"}.get(delta.status_char(), "modified")
        found[kind].append(delta.new_file.path)
    return found


def _follow(state: State, repo: Repository, branch: str, new: str | None, sender: User) -> None:
    """Pull requests follow their head; one whose head the base has come to contain is merged."""
    git = repo.git()
    for item in repo.items.values():
        if item.head_ref is None or item.state != "open":
            continue
        if item.head_ref == branch and new is None:
            close(state, repo, item, sender)
        elif item.head_ref == branch and new is not None and new != item.head_sha:
            before, item.head_sha, item.updated = item.head_sha, new, state.now()
            pull(state, "synchronize", repo, item, sender, before=before, after=new)
        elif item.base_ref == branch and new is not None:
            before, item.base_sha = item.base_sha, new
            if new == item.head_sha or git.descendant_of(new, item.head_sha):
                item.merged, item.merged_by, item.merge_commit = state.now(), sender, item.head_sha
                item.merged_base = before
                close(state, repo, item, sender)


def close(state: State, repo: Repository, item: Item, sender: User) -> None:
    """Close an issue or a pull request."""
    item.state, item.closed, item.updated = "closed", state.now(), state.now()
    if item.head_ref is not None:
        pull(state, "closed", repo, item, sender)
    else:
        item.state_reason = item.state_reason or "completed"
        issue(state, "closed", repo, item, sender)


async def deliver(state: State, session: aiohttp.ClientSession, delivery: Json) -> None:
    """One attempt; whatever comes of it is in the log."""
    app = state.app
    if app is None:
        return
    body = delivery["body"].encode()
    signature = hmac.new(app.secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {
        "Content-Type": "application/json", "User-Agent": "GitHub-Hookshot/standin", "X-GitHub-Event": delivery["event"],
        "X-GitHub-Delivery": delivery["guid"], "X-Hub-Signature-256": f"sha256={signature}", "X-GitHub-Hook-ID": "1",
        "X-GitHub-Hook-Installation-Target-Type": "integration", "X-GitHub-Hook-Installation-Target-ID": str(app.id),
    }  # fmt: skip
    try:
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        async with session.post(app.webhook_url, data=body, headers=headers, timeout=timeout) as answer:
            delivery["status_code"] = answer.status
            delivery["status"] = "OK" if answer.status < 300 else f"Invalid HTTP Response: {answer.status}"
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        delivery["status"], delivery["status_code"] = f"failed to connect: {type(error).__name__}", 0
    delivery["delivered_at"] = state.now()
    state.touch()


async def deliver_all(state: State) -> None:
    """The delivery task: in order, one at a time."""
    async with aiohttp.ClientSession() as session:
        while True:
            await deliver(state, session, await state.outgoing.get())
