"""The demo's report: what is on GitHub and in the bot's database at the end, each checked against the other."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bot.cli.local_github import LocalGitHub, Made
from bot.cli.person import Person
from bot.clock import SystemClock
from bot.merge.digest import tree_digest
from bot.merge.trees import open_repository, tree_of
from bot.store.store import open_store
from schemas.ticket import TaskState, Ticket, TicketState


@dataclass(frozen=True)
class Observed:
    """What people can see at the end."""

    person: Person
    made: Made
    head: str
    commits: list[dict[str, Any]]
    checks: list[dict[str, Any]]
    pulls: list[dict[str, Any]]
    reviews: list[dict[str, Any]] = field(default_factory=list)
    comments: int = 0


@dataclass(frozen=True)
class Result:
    """`document` is contract.md's; `text` says the same for people."""

    document: dict[str, Any]
    text: str
    landed: bool


async def observe(person: Person, github: LocalGitHub, made: Made) -> Observed:
    """Ask the stand-in as a person would."""
    path = f"/repos/{made.full_name}"

    async def get(what: str) -> Any:
        return await github.as_user(person.requester, "GET", f"{path}{what}")

    commits = []
    for commit in await get(f"/commits?sha={made.branch}&per_page=100"):
        if commit["sha"] == made.head:
            break
        commits.append(commit)
    commits.reverse()
    pulls = await get("/pulls?state=all")
    heads = list(dict.fromkeys([c["sha"] for c in commits] + [p["head"]["sha"] for p in pulls]))
    checks = [run for head in heads for run in (await get(f"/commits/{head}/check-runs?filter=all"))["check_runs"]]
    reviews = [review for pull in pulls for review in await get(f"/pulls/{pull['number']}/reviews")]
    comments = await get(f"/issues/{person.issue}/comments?per_page=100")
    head = commits[-1]["sha"] if commits else made.head
    by_bot = sum(comment["user"]["type"] == "Bot" for comment in comments)
    return Observed(person, made, head, commits, checks, pulls, reviews, by_bot)


async def make(data_dir: Path, seen: Observed, seconds: float, *, scripted: bool, failure: str) -> Result:
    """Read the database of the stopped bot, verify its audit chain, and write the report."""
    async with open_store(data_dir / "interlock.db", SystemClock(), exclusive=False) as store:
        tickets = [ticket for ticket in await store.tickets() if ticket.issue == seen.person.issue]
        rows = await store.report_rows()
        verified = await store.verify()
    ticket = tickets[-1] if tickets else None
    landed = sum(row.state == "landed" for row in rows if row.lane.endswith(f"refs/heads/{_branch(ticket)}"))
    done = ticket is not None and ticket.state is TicketState.DONE and not failure and not verified.faults
    tasks = ticket.tasks if ticket else ()
    document = {
        "ticket": ticket.id if ticket else None,
        "state": str(ticket.state) if ticket else None,
        "tasks": [{"id": t.task.id, "state": str(t.state), "commit": t.commit, "attempts": t.attempt} for t in tasks],
        "pull_request": ticket.pull_request.number if ticket and ticket.pull_request else None,
        "checks": [{"name": c["name"], "conclusion": c["conclusion"]} for c in seen.checks],
        "reviews": len(seen.reviews),
        "base": {"before": seen.made.head, "after": seen.head},
        "landed": landed,
        "quarantined": sum(row.state == "quarantined" for row in rows),
        "seconds": round(seconds, 1),
        "audit": {"records": verified.records, "verified": not verified.faults},
    }
    if failure:
        document["failure"] = failure
    digest = _landed_digest(data_dir, seen) if done else ""
    return Result(document, _text(ticket, seen, document, digest, scripted, failure), done)


def _branch(ticket: Ticket | None) -> str:
    return ticket.branch if ticket else ""


def _landed_digest(data_dir: Path, seen: Observed) -> str:
    repo = open_repository(data_dir / "mirrors" / f"{seen.made.id}.git")
    return tree_digest(tree_of(repo, seen.made.head), tree_of(repo, seen.head))


def _text(
    ticket: Ticket | None, seen: Observed, document: dict[str, Any], digest: str, scripted: bool, failure: str
) -> str:
    if ticket is None:
        return f"No ticket was opened. {failure}".strip()
    state = "landed" if document["state"] == "done" else f"did not land ({ticket.state})"
    lines = ["", f"{ticket.id} {state} in {document['seconds']} s", ""]
    lines += [f"  asked     {question}\n  answered  {answer}" for question, answer in seen.person.asked]
    approved = ticket.approved_plan
    if approved:
        who = approved.by.login if approved.by else "nobody (policy)"
        lines.append(f"  plan      {approved.hash[:12]}, approved by {who}")
    for item in ticket.tasks:
        after = f", after {', '.join(a.rsplit('/', 1)[1] for a in item.task.after)}" if item.task.after else ""
        tries = f" in {item.attempt} attempts" if item.attempt > 1 else ""
        lines.append(f"  task      {item.task.id} {item.task.title}: {item.state}{tries}{after}")
    for commit in seen.commits:
        subject, *rest = commit["commit"]["message"].splitlines()
        trailers = [line for line in rest if line.startswith(("Ticket:", "Task:", "Change-Request:"))]
        lines.append(f"  commit    {commit['sha'][:12]} {subject}\n            {'  '.join(trailers)}")
    for name, conclusion in dict.fromkeys((c["name"], c["conclusion"]) for c in seen.checks):
        lines.append(f"  check     {name}: {conclusion}")
    for approval in ticket.approvals:
        same = "the digest that landed" if approval.digest == digest else "NOT the digest that landed"
        lines.append(f"  review    {approval.by.login} approved {approval.digest[:16]}, {same}")
    usage, audit = ticket.usage, document["audit"]
    quarantined = f", {document['quarantined']} quarantined" if document["quarantined"] else ""
    landed = sum(item.state is TaskState.LANDED for item in ticket.tasks)
    lines += [
        f"  queue     {document['landed']} change requests landed for {landed} tasks{quarantined}",
        f"  comments  {seen.comments} by the bot",
        f"  tokens    {usage.input_tokens} in, {usage.output_tokens} out, {usage.model_calls} model calls"
        + (" (of the scripted model)" if scripted else ""),
        f"  audit     {audit['records']} records, {'verified' if audit['verified'] else 'CHANGED'}",
        f"  base      {seen.made.branch}: {seen.made.head[:12]} -> {seen.head[:12]}",
        "",
        "Real: the Copilot CLI in its sandbox, git over HTTP, signed webhooks, SQLite, the merge queue, the checks.",
        f"Stand-in: GitHub, the two people{', and the model (a script that knows the sample)' if scripted else ''}.",
    ]
    if failure:
        lines += ["", f"Not landed: {failure}"]
    return "\n".join(lines)
