"""Writes on GitHub, each keyed and looked up before it is repeated: comments, check runs, pull requests, issues."""

from collections.abc import Set
from typing import Any

import cachetools

from bot.errors import Away, Rejected
from bot.github.app import GitHubApp, Missing
from bot.github.limits import Importance
from bot.ports import Faults, Lease, Performed
from schemas.effects import CloseIssue, Effect, OpenPullRequest, PostComment, PublishCheck, UpdateStatus
from schemas.events import PullRequestOpened

BODY_LIMIT = 65_536
SUMMARY_LIMIT = 65_535
DOUBTS = 7
"""How often a thing may be missing before that is believed: tries are 2 s, 4 s, ... apart, two minutes in all."""
KINDS = (
    frozenset({"post_comment", "update_status"}),
    frozenset({"open_pull_request", "close_issue"}),
    frozenset({"publish_check"}),
)
"""Who never waits behind whom."""
_WEIGHTS = {"comment": Importance.ACKNOWLEDGE, "edit": Importance.COSMETIC, "check-edit": Importance.COSMETIC}
_CUT = "\n\n(cut here: the whole text is in the audit log)"


def marker(key: str) -> str:
    """The hidden line by which a comment is found again."""
    return f"<!-- interlock:{key} -->"


def cut(text: str, limit: int) -> str:
    """A text within GitHub's limit."""
    return text if len(text) <= limit else text[: limit - len(_CUT)] + _CUT


class Forge:
    """Performs the effects of these kinds."""

    def __init__(self, app: GitHubApp, faults: Faults, kinds: Set[str] = frozenset().union(*KINDS)) -> None:
        self._app, self._faults, self.kinds = app, faults, frozenset(kinds)
        self._comments: cachetools.LRUCache[str, int] = cachetools.LRUCache(2048)

    async def perform(self, effect: Effect, lease: Lease) -> Performed:
        """See bot.ports.Performer."""
        try:
            match effect:
                case PostComment() | UpdateStatus():
                    await self._comment(effect)
                case PublishCheck():
                    await self._check(effect)
                case OpenPullRequest():
                    return Performed(await self._pull(effect))
                case CloseIssue():
                    await self._close(effect)
                case _:
                    raise Rejected(f"{effect.kind} is not a write on GitHub")
        except Missing as error:
            if lease.fence < DOUBTS:
                raise Away(str(error)) from None
            raise
        return Performed()

    async def _write(self, effect: Effect, what: str, method: str, path: str, body: dict[str, Any]) -> Any:
        weight = _WEIGHTS.get(what, Importance.LAND)
        self._faults.reach(f"github:{what}:before")
        answer = await self._app.call(effect.repo, effect.installation, method, path, body, weight)
        self._faults.reach(f"github:{what}:after")
        return answer

    async def _comment(self, effect: PostComment | UpdateStatus) -> None:
        key = effect.key if isinstance(effect, PostComment) else f"{effect.ticket}:status"
        body = {"body": cut(f"{marker(key)}\n{effect.body}", BODY_LIMIT)}
        known = self._comments.get(key)
        edits = known is not None and isinstance(effect, UpdateStatus)
        weight = Importance.COSMETIC if edits else Importance.ACKNOWLEDGE
        self._app.check(effect.installation, weight, creates=known is None)
        known = known or await self._find_comment(effect, marker(key))
        if known is None:
            made = await self._write(effect, "comment", "POST", f"/issues/{effect.issue}/comments", body)
            known = int(made["id"])
        elif isinstance(effect, UpdateStatus):
            await self._write(effect, "edit", "PATCH", f"/issues/comments/{known}", body)
        self._comments[key] = known

    async def _find_comment(self, effect: PostComment | UpdateStatus, line: str) -> int | None:
        listed = await self._app.pages(effect.repo, effect.installation, f"/issues/{effect.issue}/comments")
        ours = [comment for comment in listed if comment["user"] and comment["user"]["type"] == "Bot"]
        return next((int(comment["id"]) for comment in ours if str(comment["body"] or "").startswith(line)), None)

    async def _check(self, effect: PublishCheck) -> None:
        self._app.check(effect.installation, Importance.COSMETIC, creates=False)
        body = effect.model_dump(include={"name", "external_id", "status", "conclusion"}, exclude_none=True)
        body["output"] = {"title": effect.title or effect.name, "summary": cut(effect.summary, SUMMARY_LIMIT)}
        body["actions"] = [button.model_dump() for button in effect.buttons]
        path = f"/commits/{effect.head}/check-runs?filter=all"
        for run in await self._app.pages(effect.repo, effect.installation, path, "check_runs"):
            if run["external_id"] == effect.external_id and run["name"] == effect.name:
                await self._write(effect, "check-edit", "PATCH", f"/check-runs/{run['id']}", body)
                return
        await self._write(effect, "check", "POST", "/check-runs", {**body, "head_sha": effect.head})

    async def _pull(self, effect: OpenPullRequest) -> PullRequestOpened:
        path = f"/pulls?state=all&head={effect.repo.owner}:{effect.branch}&base={effect.base}"
        found = await self._app.pages(effect.repo, effect.installation, path)
        found.sort(key=lambda pull: bool(pull["state"] != "open"))  # an open one first
        mine = next((pull for pull in found if pull["merged_at"] is None), None)
        text = {"title": effect.title[:256], "body": cut(effect.body, BODY_LIMIT)}
        if mine is None:
            new = {**text, "head": effect.branch, "base": effect.base, "maintainer_can_modify": False}
            made = await self._write(effect, "pull", "POST", "/pulls", new)
        else:
            change = {**text, "state": "open"} if mine["state"] == "closed" else text
            made = await self._write(effect, "pull-edit", "PATCH", f"/pulls/{mine['number']}", change)
        at = made["updated_at"] if mine else None
        about = {"ticket": effect.ticket, "number": made["number"], "head": made["head"]["sha"], "at": at}
        return PullRequestOpened.model_validate(about)

    async def _close(self, effect: CloseIssue) -> None:
        issue = await self._app.call(effect.repo, effect.installation, "GET", f"/issues/{effect.issue}")
        if issue["state"] != "closed":
            body = {"state": "closed", "state_reason": "completed"}
            await self._write(effect, "close", "PATCH", f"/issues/{effect.issue}", body)
