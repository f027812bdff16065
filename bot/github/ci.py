"""The repository's own CI: a commit on a branch of the queue's, and what check runs and statuses say of it.

Missing, cancelled, stale or waiting for a person is not an answer: it is named, and waited for. Skipped and neutral pass,
as they do where GitHub itself requires a check (a workflow that a path filter leaves out reports so); but not if nothing
else has passed. What failed or was interrupted is asked to run once more, which GitHub grants to few Apps.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from bot.errors import Rejected, Transient
from bot.github.app import GitHubApp
from bot.github.remote import GitHubRemote
from bot.ports import Asked, CiVerdict
from schemas.base import CiCheck, Evidence, RepoRef, Sha

_RED = ("failure", "timed_out", "startup_failure", "error")
_INTERRUPTED = ("cancelled", "stale")
_PASSED = ("success", "skipped", "neutral")
_REFUSED = ""
LOG_LIMIT = 4000

Place = tuple[RepoRef, int, GitHubRemote]
"""A lane's repository, the installation that sees it, and its remote."""


class Said(NamedTuple):
    """A check's conclusion (empty: none yet), its own words, its check run (0: there is none), and which result it is."""

    conclusion: str = ""
    words: str = ""
    run: int = 0
    result: str = ""


class GitHubCi:
    """`bot.ports.Ci`."""

    def __init__(self, app: GitHubApp, place: Callable[[str], Awaitable[Place]]) -> None:
        self._app, self._place = app, place

    async def look(
        self, lane: str, commit: Sha, wanted: Sequence[CiCheck], *, push: bool, asked: Asked = ()
    ) -> CiVerdict:
        """See bot.ports.Ci."""
        repo, installation, remote = await self._place(lane)
        again = dict(asked)
        try:
            if push:
                branch = lane.partition(":")[2].removeprefix("refs/heads/")
                await _push(remote, f"refs/heads/interlock/queue/{branch}", commit)
            path = f"/commits/{commit}"
            runs = await self._app.pages(repo, installation, f"{path}/check-runs?filter=latest", "check_runs")
            statuses = []
            if any(not check.app for check in wanted):
                statuses = await self._app.pages(repo, installation, f"{path}/status", "statuses")
        except Rejected as error:
            names = ", ".join(map(str, wanted))
            return CiVerdict("unknown", summary=f"CI: {names} cannot be asked for ({error}), so it has not reported",
                             asked=asked)  # fmt: skip
        said = {check: _said(check, runs, statuses) for check in wanted}
        for check, one in said.items():
            if push and one.run and one.conclusion in _RED + _INTERRUPTED and str(check) not in again:
                granted = await self._run_again(repo, installation, one.run)
                again[str(check)] = one.result if granted else _REFUSED
        return judged(said, again)._replace(asked=tuple(again.items()))

    async def _run_again(self, repo: RepoRef, installation: int, run: int) -> bool:
        """Whether GitHub passed the wish on; for most Apps it is refused. Raises Transient."""
        try:
            await self._app.call(repo, installation, "POST", f"/check-runs/{run}/rerequest")
        except Rejected:
            return False
        return True


def judged(said: Mapping[CiCheck, Said], again: Mapping[str, str]) -> CiVerdict:
    """All of them together: the first red one, else whatever is not there, else green. Pure.

    `again` has for each check that was to run once more the result that it had then (empty: GitHub would not). GitHub
    leaves that result where it is, so it is the old one until there is another.
    """
    missing: list[str] = []
    first: Evidence | None = None
    for check, one in said.items():
        before = again.get(str(check))
        old = bool(before) and before == one.result
        if one.conclusion in _RED:
            how = "was asked to run again and did not" if old else "twice" if before else "CI is not run again"
            reason = f"CI: {check} concluded {one.conclusion} ({how})"
            evidence = Evidence(reason=reason, check=str(check), log=one.words[-LOG_LIMIT:])
            if not old:
                return CiVerdict("red", evidence)
            first = first or evidence
        if old or one.conclusion not in _PASSED:
            notes = ", ".join(filter(None, (one.conclusion, "to run again" if old else "")))
            missing.append(f"{check} ({notes})" if notes else str(check))
    if missing:
        return CiVerdict("unknown", first, f"CI: {', '.join(missing)} has not reported")
    names = ", ".join(map(str, said))
    if all(one.conclusion != "success" for one in said.values()):
        return CiVerdict("unknown", summary=f"CI: only skipped checks ({names}), so nothing has reported")
    flaky = ", ".join(f"{name} was {result.split()[0]} at first" for name, result in again.items() if result)
    return CiVerdict("green", summary=f"CI: {names}" + (f"; run again: {flaky}" if flaky else ""))


def _said(check: CiCheck, runs: Sequence[dict[str, Any]], statuses: Sequence[dict[str, Any]]) -> Said:
    if not check.app:
        found = [one for one in statuses if one["context"] == check.name]
        status = found[0] if found else None  # the newest comes first
        done = status is not None and status["state"] != "pending"
        return Said(str(status["state"]), str(status["description"] or "")) if status and done else Said()
    mine = [run for run in runs if run["name"] == check.name and (run["app"] or {}).get("slug") == check.app]
    run = max(mine, key=lambda one: int(one["id"]), default=None)
    if run is None or run["status"] != "completed":
        return Said()
    output = run.get("output") or {}
    words = "\n".join(str(output[key]) for key in ("title", "summary", "text") if output.get(key))
    conclusion = str(run["conclusion"])
    return Said(conclusion, words, int(run["id"]), f"{conclusion} {run['id']} {run['completed_at']}")


async def _push(remote: GitHubRemote, ref: str, commit: Sha) -> None:
    """Nothing if it is there already, as after a restart. Raises Transient, or Rejected if the remote's rules forbid it."""
    old = await remote.head(ref)
    if old != commit:
        pushed = await remote.push(ref, old, commit, force=True)
        if pushed.status in ("refused", "closed"):
            raise Rejected(f"{ref} must be ours to push by force: {pushed.message}")
        if await remote.head(ref) != commit:
            raise Transient(f"{ref} could not be pushed for CI: {pushed.message}")
