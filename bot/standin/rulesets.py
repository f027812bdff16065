"""Rules on branches: rulesets and classic protection, who may bypass them, and GitHub's words when they refuse."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import pygit2
from aiohttp import web

from bot.standin.rest import Call, page
from bot.standin.state import ApiError, Json, Repository, State, User, stamp

PASSED = ("success", "neutral", "skipped")
PARAMETERS: dict[str, Json] = {
    "merge_queue": {
        "check_response_timeout_minutes": 60, "grouping_strategy": "ALLGREEN", "max_entries_to_build": 5,
        "max_entries_to_merge": 5, "merge_method": "MERGE", "min_entries_to_merge": 1,
        "min_entries_to_merge_wait_minutes": 5,
    },
    "pull_request": {
        "dismiss_stale_reviews_on_push": False, "require_code_owner_review": False, "require_last_push_approval": False,
        "required_approving_review_count": 0, "required_review_thread_resolution": False,
    },
}  # fmt: skip
"""What a rule has where the scene does not say."""


def matching(repo: Repository, ref: str) -> list[Json]:
    """The active rulesets of a branch; a pattern's star also spans slashes here."""
    branch = ref.removeprefix("refs/heads/")
    return [one for one in repo.rulesets.values() if any(fnmatchcase(branch, glob) for glob in one["branches"])]


def rules_for(repo: Repository, ref: str, who: User | None = None) -> list[Json]:
    """The rules on a branch, without those that this actor bypasses."""
    found = [one for one in matching(repo, ref) if who is None or who.login not in one["bypass"]]
    return [{**rule, "ruleset_id": one["id"]} for one in found for rule in one["rules"]]


def check_states(repo: Repository, sha: str, context: str, app: int | None) -> set[str]:
    """What is said of a required check on a commit: conclusions, by the expected App alone if one is named."""
    runs = [run for run in repo.checks.values() if run["head_sha"] == sha and run["name"] == context]
    newest = max(runs, key=lambda run: int(run["id"]), default=None)
    said = set()
    if newest is not None and (app is None or newest.get("by", {}).get("id") == app):
        said.add(newest.get("conclusion") or "pending")
    statuses = [one["state"] for one in repo.statuses.get(sha, []) if one["context"] == context]
    return said | set(statuses[-1:] if app is None else [])


def required_checks(repo: Repository, ref: str) -> list[tuple[str, int | None]]:
    """(context, App's id) of the checks that the branch requires."""
    listed = [rule["parameters"]["required_status_checks"] for rule in rules_for(repo, ref)
              if rule["type"] == "required_status_checks"]  # fmt: skip
    return [(one["context"], one.get("integration_id")) for checks in listed for one in checks]


def _unsigned(repo: Repository, old: str | None, new: str) -> list[str]:
    git = repo.git()
    walker = git.walk(new)
    for sha in [old] if old else set(repo.refs().values()):
        walker.hide(sha)
    return [str(commit.id) for commit in walker if str(commit.id) not in repo.verified]


def broken(
    state: State, repo: Repository, ref: str, old: str | None, new: str | None, who: User
) -> tuple[str, list[str]]:
    """GH006 or GH013 with each broken rule in GitHub's words, if this actor may not move a ref so; else no code."""
    found: list[str] = []
    for rule in rules_for(repo, ref, who) if ref.startswith("refs/heads/") else ():
        kind, parameters = rule["type"], rule.get("parameters", {})
        if kind == "creation" and old is None:
            found.append("Cannot create ref due to creations being restricted.")
        elif kind == "update" and old and new:
            found.append("Cannot update this protected ref.")
        elif kind == "deletion" and new is None:
            found.append("Cannot delete this protected ref.")
        elif kind == "non_fast_forward" and old and new and not repo.git().descendant_of(new, old):
            found.append("Cannot force-push to this branch")
        elif kind == "pull_request" and new and old:
            found.append("Changes must be made through a pull request.")
        elif kind == "merge_queue" and new and old:
            found.append("Changes must be made through the merge queue")
        elif kind == "required_signatures" and new and _unsigned(repo, old, new):
            found.append("Commits must have verified signatures.")
        elif kind == "required_status_checks" and new and old:
            for one in parameters["required_status_checks"]:
                if not check_states(repo, new, one["context"], one.get("integration_id")) & set(PASSED):
                    found.append(f'Required status check "{one["context"]}" is expected.')
    if found:
        return "GH013", found
    classic = repo.protection.get(ref.removeprefix("refs/heads/"))
    if classic is None or who.login in classic.get("bypass", ()):
        return "", []
    if classic.get("required_signatures") and new and _unsigned(repo, old, new):
        found.append("Commits must have verified signatures.")
    if classic.get("required_reviews"):
        found.append("At least 1 approving review is required by reviewers with write access.")
    for context in classic.get("required_checks", ()):
        if new and not check_states(repo, new, context, None) & set(PASSED):
            found.append(f'Required status check "{context}" is expected.')
    return ("GH006", found) if found else ("", [])


def spoken(state: State, repo: Repository, ref: str, code: str, rules: list[str]) -> str:
    """What git's user reads behind `remote: `."""
    if code == "GH006":
        return "\n".join([f"error: GH006: Protected branch update failed for {ref}.", *(f"error: {r}" for r in rules)])
    place = f"Review all repository rules at {state.url}/{repo.full_name}/rules?ref={ref.replace('/', '%2F')}"
    return "\n".join(
        [f"error: GH013: Repository rule violations found for {ref}.", place, "", *(f"- {r}\n" for r in rules)]
    )


def guarded(state: State, repo: Repository, ref: str, old: str | None, new: str | None, who: User) -> None:
    """Raises ApiError 422 as the API words a refusal."""
    code, rules = broken(state, repo, ref, old, new, who)
    if code:
        raise ApiError(422, "Repository rule violations found\n\n" + "\n\n".join(rules) + "\n\n")


# --- REST -------------------------------------------------------------------------------------------------------------
async def branch_rules(call: Call) -> web.Response:
    repo = call.repo()
    ref = f"refs/heads/{call.request.match_info['branch']}"
    source = {"ruleset_source_type": "Repository", "ruleset_source": repo.full_name}
    return page(call, [{**rule, **source} for rule in rules_for(repo, ref)])


async def get_ruleset(call: Call) -> web.Response:
    repo = call.repo()
    found = repo.rulesets.get(int(call.request.match_info["ruleset"]))
    if found is None:
        raise ApiError(404, "Not Found")
    bypass = "always" if call.caller.who.login in found["bypass"] else "never"
    include = [f"refs/heads/{glob}" for glob in found["branches"]]
    return web.json_response(
        {
            "id": found["id"], "name": found["name"], "target": "branch", "source_type": "Repository",
            "source": repo.full_name, "enforcement": "active", "current_user_can_bypass": bypass,
            "node_id": f"RRS_{found['id']}", "conditions": {"ref_name": {"include": include, "exclude": []}},
            "rules": found["rules"], "created_at": stamp(repo.created), "updated_at": stamp(repo.created),
        }
    )  # fmt: skip


async def get_protection(call: Call) -> web.Response:
    """Classic protection alone: 404 where only rulesets hold, and 403 without administration."""
    repo = call.repo("administration")
    branch = call.request.match_info["branch"]
    found = repo.protection.get(branch)
    if found is None:
        raise ApiError(404, "Branch not protected")
    url = f"{call.state.url}/repos/{repo.full_name}/branches/{branch}/protection"
    return web.json_response(
        {"url": url, "required_signatures": {"url": url, "enabled": bool(found.get("required_signatures"))}}
    )


# --- control ----------------------------------------------------------------------------------------------------------
def routes(state: State) -> list[web.RouteDef]:
    """Rules are set by whoever sets the scene; each ruleset has `name`, `branches`, `rules` and `bypass` (logins)."""

    async def set_rules(request: web.Request) -> web.Response:
        body: dict[str, Any] = await request.json()
        repo = state.repositories[int(request.match_info["id"])]
        repo.rulesets.clear()
        for one in body.get("rulesets", []):
            number = state.next_id()
            known = {"name": "rules", "branches": [repo.default_branch], "bypass": [], "rules": []}
            made = {**known, **one, "id": number}
            made["rules"] = [
                {**rule, "parameters": {**PARAMETERS[rule["type"]], **rule.get("parameters", {})}}
                if rule["type"] in PARAMETERS else rule for rule in made["rules"]
            ]  # fmt: skip
            repo.rulesets[number] = made
        repo.protection = body.get("protection", {})
        state.missing_operations = body.get("missing_operations", {})  # what an older Enterprise Server lacks
        state.touch()
        return web.json_response({})

    return [web.post("/_standin/repositories/{id}/rules", set_rules)]


def index_of(git: pygit2.Repository, tree: str) -> pygit2.Index:
    """A tree as an index in memory."""
    index = pygit2.Index()
    index.read_tree(git[tree].peel(pygit2.Tree))
    return index
