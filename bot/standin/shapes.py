"""The JSON of the objects, with the fields that GitHub's schema requires of them."""

from __future__ import annotations

from typing import Any

import pygit2

from bot.standin.state import Item, Json, Repository, State, User, stamp


def user(state: State, who: User) -> Json:
    """simple-user."""
    api, login = f"{state.url}/users/{who.login}", who.login
    return {
        "login": login, "id": who.id, "node_id": f"U_{who.id}", "avatar_url": "", "gravatar_id": "",
        "url": api, "html_url": f"{state.url}/{login}", "followers_url": f"{api}/followers",
        "following_url": f"{api}/following{{/other_user}}", "gists_url": f"{api}/gists{{/gist_id}}",
        "starred_url": f"{api}/starred{{/owner}}{{/repo}}", "subscriptions_url": f"{api}/subscriptions",
        "organizations_url": f"{api}/orgs", "repos_url": f"{api}/repos", "events_url": f"{api}/events{{/privacy}}",
        "received_events_url": f"{api}/received_events", "type": who.type, "site_admin": False, "user_view_type": "public",
    }  # fmt: skip


EVENTS = ["issues", "issue_comment", "pull_request", "pull_request_review", "push", "check_run", "repository"]
_REPO_URLS = [
    "archive",
    "assignees",
    "blobs",
    "branches",
    "collaborators",
    "comments",
    "commits",
    "compare",
    "contents",
    "contributors",
    "deployments",
    "downloads",
    "events",
    "forks",
    "git_commits",
    "git_refs",
    "git_tags",
    "hooks",
    "issue_comment",
    "issue_events",
    "issues",
    "keys",
    "labels",
    "languages",
    "merges",
    "milestones",
    "notifications",
    "pulls",
    "releases",
    "stargazers",
    "statuses",
    "subscribers",
    "subscription",
    "tags",
    "teams",
    "trees",
]


def repository(state: State, repo: Repository) -> Json:
    """repository."""
    api, html = f"{state.url}/repos/{repo.full_name}", f"{state.url}/{repo.full_name}"
    return {
        "id": repo.id, "node_id": f"R_{repo.id}", "name": repo.name, "full_name": repo.full_name, "private": True,
        "owner": user(state, state.user(repo.owner)), "html_url": html, "description": None, "fork": False, "url": api,
        **{f"{name}_url": f"{api}/{name}" for name in _REPO_URLS},
        "git_url": f"git:{html}.git", "ssh_url": f"git@localhost:{repo.full_name}.git", "clone_url": f"{html}.git",
        "svn_url": html, "mirror_url": None, "homepage": None, "language": None, "forks_count": 0, "forks": 0,
        "stargazers_count": 0, "watchers_count": 0, "watchers": 0, "size": 0, "default_branch": repo.default_branch,
        "open_issues_count": 0, "open_issues": 0, "topics": [], "has_issues": True, "has_projects": False,
        "has_wiki": False, "has_pages": False, "has_downloads": True, "has_discussions": False, "archived": repo.archived,
        "disabled": False, "visibility": "private", "pushed_at": stamp(repo.pushed or repo.created),
        "created_at": stamp(repo.created), "updated_at": stamp(repo.created),
        "license": None, "allow_forking": True, "is_template": False,
        "web_commit_signoff_required": False, "has_pull_requests": True, "pull_request_creation_policy": "all",
    }  # fmt: skip


def full_repository(state: State, repo: Repository) -> Json:
    """full-repository, as of GET /repos/o/r."""
    return {**repository(state, repo), "subscribers_count": 0, "network_count": 0}


def label(state: State, repo: Repository, name: str, *, whole: bool = True) -> Json:
    """label; not `whole`: as in most issues."""
    return {
        "id": 1, "node_id": "L_1", "url": f"{state.url}/repos/{repo.full_name}/labels/{name}", "name": name,
        "color": "ededed", "default": False, "description": None,
        **({"archived_at": None, "archived_by": None} if whole else {}),
    }  # fmt: skip


def app(state: State) -> Json | None:
    """integration."""
    if state.app is None:
        return None
    return {
        "id": state.app.id, "slug": state.app.slug, "node_id": "A_1", "client_id": f"Iv{state.app.id}",
        "owner": user(state, state.user("octo")), "name": state.app.more.get("name", state.app.slug), "description": None,
        "external_url": state.url, "html_url": f"{state.url}/apps/{state.app.slug}", "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z", "permissions": state.app.permissions,
        "events": state.app.more.get("events", EVENTS),
    }  # fmt: skip


def issue(state: State, repo: Repository, item: Item, *, whole_labels: bool = False) -> Json:
    """issue (pull requests appear as issues as well, with the key pull_request)."""
    api = f"{state.url}/repos/{repo.full_name}/issues/{item.number}"
    found: Json = {
        "id": item.id, "node_id": f"I_{item.id}", "url": api, "repository_url": f"{state.url}/repos/{repo.full_name}",
        "labels_url": f"{api}/labels{{/name}}", "comments_url": f"{api}/comments", "events_url": f"{api}/events",
        "html_url": f"{state.url}/{repo.full_name}/issues/{item.number}", "number": item.number, "state": item.state,
        "state_reason": item.state_reason, "title": item.title, "body": item.body, "user": user(state, item.user),
        "labels": [label(state, repo, name, whole=whole_labels) for name in item.labels], "assignee": None, "assignees": [],
        "milestone": None, "locked": item.locked, "active_lock_reason": None, "comments": len(item.comments),
        "closed_at": stamp(item.closed), "created_at": stamp(item.created), "updated_at": stamp(item.updated),
        "author_association": "CONTRIBUTOR", "timeline_url": f"{api}/timeline", "performed_via_github_app": None,
    }  # fmt: skip
    found["reactions"] = {
        "url": f"{api}/reactions", "total_count": 0, "+1": 0, "-1": 0, "laugh": 0, "confused": 0, "heart": 0,
        "hooray": 0, "rocket": 0, "eyes": 0,
    }  # fmt: skip
    if item.head_ref is not None:
        pull = f"{state.url}/repos/{repo.full_name}/pulls/{item.number}"
        found["pull_request"] = {"url": pull, "html_url": pull, "diff_url": pull, "patch_url": pull, "merged_at": None}
    return found


def comment(state: State, repo: Repository, item: Item, found: Json) -> Json:
    """issue-comment."""
    api = f"{state.url}/repos/{repo.full_name}/issues"
    return {
        "id": found["id"], "node_id": f"IC_{found['id']}", "url": f"{api}/comments/{found['id']}",
        "html_url": f"{state.url}/{repo.full_name}/issues/{item.number}#issuecomment-{found['id']}",
        "body": found["body"], "user": user(state, found["user"]), "created_at": stamp(found["created"]),
        "updated_at": stamp(found["updated"]), "issue_url": f"{api}/{item.number}", "author_association": "CONTRIBUTOR",
        "performed_via_github_app": app(state) if found["user"].type == "Bot" else None,
        "reactions": {"url": "", "total_count": 0, "+1": 0, "-1": 0, "laugh": 0, "confused": 0, "heart": 0,
                      "hooray": 0, "rocket": 0, "eyes": 0},
    }  # fmt: skip


def _end(state: State, repo: Repository, ref: str, sha: str) -> Json:
    owner = user(state, state.user(repo.owner))
    return {"label": f"{repo.owner}:{ref}", "ref": ref, "sha": sha, "user": owner, "repo": repository(state, repo)}


def pull_simple(state: State, repo: Repository, item: Item) -> Json:
    """pull-request-simple, as in listings and reviews' webhooks."""
    api, html = (
        f"{state.url}/repos/{repo.full_name}/pulls/{item.number}",
        f"{state.url}/{repo.full_name}/pull/{item.number}",
    )
    issues = f"{state.url}/repos/{repo.full_name}/issues/{item.number}"
    urls = {
        "self": {"href": api}, "html": {"href": html}, "issue": {"href": issues},
        "comments": {"href": f"{issues}/comments"}, "review_comments": {"href": f"{api}/comments"},
        "review_comment": {"href": f"{api}/comments{{/number}}"}, "commits": {"href": f"{api}/commits"},
        "statuses": {"href": f"{state.url}/repos/{repo.full_name}/statuses/{item.head_sha}"},
    }  # fmt: skip
    return {
        "url": api, "id": item.id, "node_id": f"PR_{item.id}", "html_url": html, "diff_url": f"{html}.diff",
        "patch_url": f"{html}.patch", "issue_url": issues, "commits_url": f"{api}/commits",
        "review_comments_url": f"{api}/comments", "review_comment_url": f"{api}/comments{{/number}}",
        "comments_url": f"{issues}/comments", "statuses_url": urls["statuses"]["href"], "number": item.number,
        "state": item.state, "locked": item.locked, "title": item.title, "user": user(state, item.user),
        "body": item.body, "labels": [], "milestone": None, "active_lock_reason": None,
        "created_at": stamp(item.created), "updated_at": stamp(item.updated), "closed_at": stamp(item.closed),
        "merged_at": stamp(item.merged), "merge_commit_sha": item.merge_commit, "assignee": None, "assignees": [],
        "requested_reviewers": [], "requested_teams": [], "head": _end(state, repo, item.head_ref or "", item.head_sha),
        "base": _end(state, repo, item.base_ref, item.base_sha), "_links": urls, "author_association": "CONTRIBUTOR",
        "auto_merge": None, "draft": False,
    }  # fmt: skip


def pull(state: State, repo: Repository, item: Item, *, mergeable: bool | None = None) -> Json:
    """pull-request."""
    return {
        **pull_simple(state, repo, item), "merged": item.merged is not None, "mergeable": mergeable,
        "rebaseable": mergeable, "mergeable_state": "clean" if mergeable else "unknown",
        "merged_by": user(state, item.merged_by) if item.merged_by else None, "comments": len(item.comments),
        "review_comments": 0, "maintainer_can_modify": False, "commits": 1, "additions": 0, "deletions": 0,
        "changed_files": 0,
    }  # fmt: skip


def review(state: State, repo: Repository, item: Item, found: Json, *, webhook: bool = False) -> Json:
    """pull-request-review; the state is upper case in REST and lower case in webhooks."""
    html = f"{state.url}/{repo.full_name}/pull/{item.number}#pullrequestreview-{found['id']}"
    api = f"{state.url}/repos/{repo.full_name}/pulls/{item.number}"
    return {
        "id": found["id"], "node_id": f"PRR_{found['id']}", "user": user(state, found["user"]), "body": found["body"],
        "state": found["state"].lower() if webhook else found["state"], "html_url": html, "pull_request_url": api,
        "_links": {"html": {"href": html}, "pull_request": {"href": api}}, "submitted_at": stamp(found["at"]),
        "commit_id": found["commit_id"], "author_association": "CONTRIBUTOR",
        **({"updated_at": stamp(found["at"])} if webhook else {}),
    }  # fmt: skip


def review_comment(state: State, repo: Repository, item: Item, found: Json, one: Json, *, whole: bool = True) -> Json:
    """pull-request-review-comment; not `whole`: legacy, as of one review."""
    api, html = f"{state.url}/repos/{repo.full_name}/pulls", f"{state.url}/{repo.full_name}/pull/{item.number}"
    made = {
        "id": one["id"], "node_id": f"PRRC_{one['id']}", "url": f"{api}/comments/{one['id']}", "diff_hunk": "",
        "path": one["path"], "position": 1, "original_position": 1, "line": one["line"], "original_line": one["line"],
        "side": one["side"], "start_line": None, "start_side": None, "original_start_line": None,
        "commit_id": one["commit_id"], "original_commit_id": one["commit_id"], "pull_request_review_id": found["id"],
        "user": user(state, one["user"]), "body": one["body"], "created_at": stamp(one["at"]),
        "updated_at": stamp(one["at"]), "html_url": f"{html}#discussion_r{one['id']}",
        "pull_request_url": f"{api}/{item.number}", "author_association": "CONTRIBUTOR",
        "_links": {"self": {"href": f"{api}/comments/{one['id']}"}, "html": {"href": html},
                   "pull_request": {"href": f"{api}/{item.number}"}},
        "reactions": {"url": "", "total_count": 0, "+1": 0, "-1": 0, "laugh": 0, "confused": 0, "heart": 0,
                      "hooray": 0, "rocket": 0, "eyes": 0},
    }  # fmt: skip
    return {**made, "subject_type": "line"} if whole else made


def check_run(state: State, repo: Repository, found: Json) -> Json:
    """check-run."""
    api = f"{state.url}/repos/{repo.full_name}/check-runs/{found['id']}"
    html = f"{state.url}/{repo.full_name}/runs/{found['id']}"
    suite = repo.suites.setdefault(found["head_sha"], state.next_id())
    output = found.get("output") or {}
    return {
        "id": found["id"], "node_id": f"CR_{found['id']}", "head_sha": found["head_sha"], "name": found["name"],
        "external_id": found.get("external_id"), "url": api,
        "html_url": html, "details_url": found.get("details_url") or html,
        "status": found["status"], "conclusion": found.get("conclusion"), "started_at": found["started_at"],
        "completed_at": found.get("completed_at"),
        "output": {"title": output.get("title"), "summary": output.get("summary"), "text": output.get("text"),
                   "annotations_count": len(output.get("annotations", [])), "annotations_url": f"{api}/annotations"},
        "check_suite": {"id": suite}, "app": {**(app(state) or {}), **found.get("by", {})},
        "pull_requests": [
            {"id": i.id, "number": i.number, "url": f"{state.url}/repos/{repo.full_name}/pulls/{i.number}",
             "head": {"ref": i.head_ref, "sha": i.head_sha, "repo": {"id": repo.id, "url": "", "name": repo.name}},
             "base": {"ref": i.base_ref, "sha": i.base_sha, "repo": {"id": repo.id, "url": "", "name": repo.name}}}
            for i in repo.items.values()
            if i.head_ref is not None and i.state == "open" and i.head_sha == found["head_sha"]
        ],
    }  # fmt: skip


def git_commit(state: State, repo: Repository, commit: pygit2.Commit) -> Json:
    """commit, as of GET /repos/o/r/commits/SHA."""

    def who(signature: Any) -> Json:
        when = stamp(state.now().fromtimestamp(signature.time, state.now().tzinfo))
        return {"name": signature.name, "email": signature.email, "date": when}

    api = f"{state.url}/repos/{repo.full_name}"
    sha = str(commit.id)
    return {
        "sha": sha, "node_id": f"C_{sha[:8]}", "url": f"{api}/commits/{sha}",
        "html_url": f"{state.url}/{repo.full_name}/commit/{sha}", "comments_url": f"{api}/commits/{sha}/comments",
        "commit": {"author": who(commit.author), "committer": who(commit.committer), "message": commit.message,
                   "tree": {"sha": str(commit.tree_id), "url": f"{api}/git/trees/{commit.tree_id}"},
                   "url": f"{api}/git/commits/{sha}", "comment_count": 0,
                   "verification": {"verified": sha in repo.verified,
                                    "reason": "valid" if sha in repo.verified else "unsigned", "signature": None, "payload": None,
                                    "verified_at": None}},
        "author": None, "committer": None,
        "parents": [{"sha": str(p), "url": f"{api}/commits/{p}", "html_url": ""} for p in commit.parent_ids],
    }  # fmt: skip
