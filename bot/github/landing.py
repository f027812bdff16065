"""The ways onto a protected branch: what its rules ask for, commits that GitHub makes and signs, GitHub's own merge queue."""

import base64
from collections.abc import Awaitable, Callable
from typing import Any, Literal
from urllib.parse import quote

import cachetools

from bot.errors import Rejected, Transient
from bot.github import graphql
from bot.github.app import GitHubApp
from bot.github.ci import Place
from bot.ports import Clock, PushResult
from schemas.base import Sha
from schemas.landing import Draft, Intent, QueuedPull, Wanted, Way
from schemas.ticket import Ticket

REMEMBERED_SECONDS = 60.0
"""For how long a branch's rules are not read again, unless it refuses something."""
INLINE_BYTES = 1_000_000
"""How much text goes along with a tree; what is more, or no text, is sent as a blob of its own."""
NOTHING = "0" * 40
BYPASSES = ("always", "exempt")
STATES: dict[str, Literal["merged", "closed", "out"]] = {"MERGED": "merged", "CLOSED": "closed", "OPEN": "out"}
RED = ("FAILURE", "TIMED_OUT", "STARTUP_FAILURE", "CANCELLED", "ERROR")


class GitHubLanding:
    """`bot.merge.landing.Landing`."""

    def __init__(
        self, app: GitHubApp, place: Callable[[str], Awaitable[Place]],
        ticket: Callable[[str], Awaitable[Ticket | None]], clock: Clock,
    ) -> None:  # fmt: skip
        self._app, self._place, self._ticket = app, place, ticket
        self._ways = cachetools.TTLCache[str, Way](1024, REMEMBERED_SECONDS, timer=clock.boot)

    async def way(self, lane: str, wanted: Wanted, *, fresh: bool = False) -> Way:
        """See bot.merge.landing.Landing."""
        if wanted != "auto":
            return wanted
        known = None if fresh else self._ways.get(lane)
        if known is None:
            known = self._ways[lane] = await self._asked_for(lane)
        return known

    async def _asked_for(self, lane: str) -> Way:
        """What the rules ask for. Those that we may not read ask for nothing: then a push is refused, and says why."""
        repo, installation, _ = await self._place(lane)
        ref = lane.partition(":")[2]
        branch = ref.removeprefix("refs/heads/")
        try:
            rules = await self._app.pages(repo, installation, f"/rules/branches/{quote(branch, safe='')}")
        except Rejected:
            rules = []
        try:
            whose = {"owner": repo.owner, "name": repo.name, "ref": ref, "branch": branch}
            found = (await graphql.ask(self._app, repo, installation, graphql.RULES, **whose))["repository"] or {}
        except Rejected:
            found = {}
        queues = [rule["ruleset_id"] for rule in rules if rule["type"] == "merge_queue"]
        bypassed = [
            (await self._app.call(repo, installation, "GET", f"/rulesets/{one}")).get("current_user_can_bypass")
            for one in queues
        ]
        if not all(how in BYPASSES for how in bypassed) or (not queues and found.get("mergeQueue")):
            return "merge_queue"
        classic = (found.get("ref") or {}).get("refUpdateRule") or {}
        signed = any(rule["type"] == "required_signatures" for rule in rules)
        return "api" if signed or classic.get("requiresSignatures") else "push"

    # --- commits --------------------------------------------------------------------------------------------------
    async def commit(self, lane: str, draft: Draft) -> Sha:
        """See bot.merge.landing.Landing. GitHub signs only what names neither author nor committer."""
        repo, installation, _ = await self._place(lane)
        if draft.tree != draft.before:
            listed: list[dict[str, Any]] = []
            room = INLINE_BYTES
            for path, mode, oid, content in draft.files:
                kind = "commit" if mode == "160000" else "blob"
                entry: dict[str, Any] = {"path": path, "mode": mode or "100644", "type": kind, "sha": oid or None}
                text = None if content is None or len(content) > room else _text(content)
                if content is not None and text is not None:
                    room -= len(content)
                    del entry["sha"]
                    entry["content"] = text
                elif content is not None:
                    blob = {"content": base64.b64encode(content).decode(), "encoding": "base64"}
                    await self._app.call(repo, installation, "POST", "/git/blobs", blob)
                listed.append(entry)
            tree = {"base_tree": draft.before, "tree": listed}
            made = await self._app.call(repo, installation, "POST", "/git/trees", tree)
            if made["sha"] != draft.tree:
                raise Rejected(f"GitHub made the tree {made['sha']} of what is {draft.tree} here")
        body = {"message": draft.message, "tree": draft.tree, "parents": [draft.parent]}
        made = await self._app.call(repo, installation, "POST", "/git/commits", body)
        if made["tree"]["sha"] != draft.tree or [one["sha"] for one in made["parents"]] != [draft.parent]:
            raise Rejected(f"GitHub made another commit than was asked for: {made['sha']}")
        if not made["verification"]["verified"]:
            raise Rejected(f"GitHub did not sign the commit that it made ({made['verification']['reason']})")
        return str(made["sha"])

    async def move(self, lane: str, intent: Intent) -> PushResult:
        """See bot.merge.landing.Landing. By GraphQL's updateRefs, a compare-and-swap; where a server does not have it, by
        PATCH without force, which takes only what descends from the ref's commit."""
        repo, installation, _ = await self._place(lane)
        old, new = intent.expected_old, intent.new_oid
        update = {"name": intent.ref, "beforeOid": old or NOTHING, "afterOid": new, "force": intent.force}
        try:
            node = (await self._app.call(repo, installation, "GET", ""))["node_id"]
            try:
                moved = {"repositoryId": node, "refUpdates": [update]}
                await graphql.ask(self._app, repo, installation, graphql.MOVE, input=moved)
            except Rejected as error:
                if "'updateRefs' doesn't exist" not in str(error) or old is None or intent.force:
                    raise
                path = f"/git/{intent.ref}"
                await self._app.call(repo, installation, "PATCH", path, {"sha": new, "force": False})
        except Transient as error:
            return PushResult("unknown", str(error))
        except Rejected as error:
            return PushResult("closed", " ".join(str(error).split()))
        return PushResult("ok")

    # --- GitHub's merge queue -------------------------------------------------------------------------------------
    async def look(self, lane: str, ticket: str) -> QueuedPull:
        """See bot.merge.landing.Landing."""
        known = await self._ticket(ticket)
        if known is None or known.pull_request is None:
            raise Rejected(f"{ticket} has no pull request")
        repo, installation, _ = await self._place(lane)
        whose = {"owner": repo.owner, "name": repo.name, "number": known.pull_request.number}
        answer = await graphql.ask(self._app, repo, installation, graphql.PULL, **whose)
        pull = answer["repository"]["pullRequest"]
        group = pull["mergeQueueEntry"] or {}
        head, base = ((group.get(end) or {}).get("oid") for end in ("headCommit", "baseCommit"))
        branch = f"{known.base_ref}/pr-{known.pull_request.number}-{base}"
        last = next(iter(pull["timelineItems"]["nodes"]), None) or {}
        by = (last.get("actor") or {}).get("login", "")
        rollup = (last.get("beforeCommit") or {}).get("statusCheckRollup") or {"contexts": {"nodes": []}}
        red = [one for one in rollup["contexts"]["nodes"] if (one.get("conclusion") or one.get("state")) in RED]
        return QueuedPull(
            id=pull["id"], state="waiting" if pull["isInMergeQueue"] else STATES[pull["state"]],
            commit=head or (pull["mergeCommit"] or {}).get("oid"), removal=last.get("id", ""),
            group=f"refs/heads/gh-readonly-queue/{branch}" if head and base else "",
            reason=f"{last.get('reason') or 'unknown'}{f' by {by}' if by else ''}" if last else "",
            failed=", ".join(str(one.get("name") or one.get("context")) for one in red),
        )  # fmt: skip

    async def vouch(self, lane: str, commit: Sha, fault: str) -> None:
        """See bot.merge.landing.Landing."""
        repo, installation, _ = await self._place(lane)
        path = f"/commits/{commit}/check-runs?check_name=interlock&filter=all"
        runs = await self._app.pages(repo, installation, path, "check_runs")
        if all((run["app"] or {}).get("id") != self._app.app_id for run in runs):
            said = fault or "the patch is the one that was approved"
            check = {
                "name": "interlock", "head_sha": commit, "status": "completed", "external_id": f"group@{commit}",
                "conclusion": "failure" if fault else "success", "output": {"title": said[:255], "summary": said},
            }  # fmt: skip
            await self._app.call(repo, installation, "POST", "/check-runs", check)

    async def enqueue(self, lane: str, pull: QueuedPull, head: Sha) -> None:
        """See bot.merge.landing.Landing."""
        repo, installation, _ = await self._place(lane)
        asked = {"pullRequestId": pull.id, "expectedHeadOid": head}
        await graphql.ask(self._app, repo, installation, graphql.ENQUEUE, input=asked)

    async def dequeue(self, lane: str, pull: QueuedPull) -> None:
        """See bot.merge.landing.Landing."""
        repo, installation, _ = await self._place(lane)
        await graphql.ask(self._app, repo, installation, graphql.DEQUEUE, input={"id": pull.id})


def _text(content: bytes) -> str | None:
    """What JSON can carry to the byte."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return None
