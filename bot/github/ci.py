"""The repository's own CI: a commit on a branch of the queue's, and what check runs and statuses say of it.

Missing, cancelled or stale is not an answer: it is named, and waited for. Skipped and neutral pass, as they do where GitHub
itself requires a check (a workflow that a path filter leaves out reports so); but not if nothing else has passed.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from bot.errors import Transient
from bot.github.app import GitHubApp
from bot.github.remote import GitHubRemote
from bot.ports import CheckVerdict
from schemas.base import CiCheck, Evidence, RepoRef, Sha

_RED = ("failure", "timed_out", "action_required", "startup_failure", "error")
_PASSED = ("success", "skipped", "neutral")
LOG_LIMIT = 4000

Place = tuple[RepoRef, int, GitHubRemote]
"""A lane's repository, the installation that sees it, and its remote."""


class GitHubCi:
    """`bot.ports.Ci`."""

    def __init__(self, app: GitHubApp, place: Callable[[str], Awaitable[Place]]) -> None:
        self._app, self._place = app, place

    async def look(self, lane: str, commit: Sha, wanted: Sequence[CiCheck], *, push: bool) -> CheckVerdict:
        """See bot.ports.Ci."""
        repo, installation, remote = await self._place(lane)
        if push:
            branch = lane.partition(":")[2].removeprefix("refs/heads/")
            await _push(remote, f"refs/heads/interlock/queue/{branch}", commit)
        path = f"/commits/{commit}/check-runs?filter=latest"
        runs = await self._app.pages(repo, installation, path, "check_runs")
        statuses = (await self._app.call(repo, installation, "GET", f"/commits/{commit}/status"))["statuses"]
        return judged({check: _said(check, runs, statuses) for check in wanted})


Said = tuple[str, str]
"""A check's conclusion (empty: none yet) and its own words."""


def judged(said: dict[CiCheck, Said]) -> CheckVerdict:
    """All of them together: the first red one, else whatever is not there, else green. Pure."""
    for check, (conclusion, words) in said.items():
        if conclusion in _RED:
            reason = f"CI: {check} concluded {conclusion} (CI is not run again)"
            return CheckVerdict("red", Evidence(reason=reason, check=str(check), log=words[-LOG_LIMIT:]))
    missing = {check: conclusion for check, (conclusion, _) in said.items() if conclusion not in _PASSED}
    if missing:
        names = ", ".join(
            f"{check} ({conclusion})" if conclusion else str(check) for check, conclusion in missing.items()
        )
        return CheckVerdict("unknown", summary=f"CI: {names} has not reported")
    if all(conclusion != "success" for conclusion, _ in said.values()):
        return CheckVerdict(
            "unknown", summary=f"CI: only skipped checks ({', '.join(map(str, said))}), so nothing has reported"
        )
    return CheckVerdict("green", summary=f"CI: {', '.join(map(str, said))}")


def _said(check: CiCheck, runs: Sequence[dict[str, Any]], statuses: Sequence[dict[str, Any]]) -> Said:
    if not check.app:
        found = [one for one in statuses if one["context"] == check.name]
        status = found[0] if found else None  # the newest comes first
        done = status is not None and status["state"] != "pending"
        return (str(status["state"]), str(status["description"] or "")) if status and done else ("", "")
    mine = [run for run in runs if run["name"] == check.name and (run["app"] or {}).get("slug") == check.app]
    if not mine:
        return "", ""
    run = max(mine, key=lambda one: int(one["id"]))
    output = run.get("output") or {}
    words = "\n".join(str(output[key]) for key in ("title", "summary", "text") if output.get(key))
    return (str(run["conclusion"]), words) if run["status"] == "completed" else ("", "")


async def _push(remote: GitHubRemote, ref: str, commit: Sha) -> None:
    """Nothing if it is there already, as after a restart. Raises Transient."""
    old = await remote.head(ref)
    if old != commit:
        pushed = await remote.push(ref, old, commit, force=True)
        if await remote.head(ref) != commit:
            raise Transient(f"{ref} could not be pushed for CI: {pushed.message}")
