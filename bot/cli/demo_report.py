"""The demo's report: what is on GitHub and in the bot's database at the end, each checked against the other."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot.clock import SystemClock
from bot.merge.objects import Objects
from bot.merge.trees import tree_digest
from bot.standin.person import Person, Seen
from bot.store.store import open_store
from schemas import ticket as t


@dataclass(frozen=True)
class Story:
    """What happened in front of people; `failure` says why nothing landed, `played` that the people were no people."""

    person: Person
    seen: Seen
    seconds: float
    scripted: bool
    failure: str
    played: bool = True


@dataclass(frozen=True)
class Result:
    """`document` is contract.md's; `text` says the same for people."""

    document: dict[str, Any]
    text: str
    landed: bool


async def make(data_dir: Path, story: Story) -> Result:
    """Read the database of the stopped bot, verify its audit chain, and write the report."""
    person, seen = story.person, story.seen
    async with open_store(data_dir / "interlock.db", SystemClock(), exclusive=False) as store:
        tickets = [ticket for ticket in await store.tickets() if ticket.issue == person.issue]
        rows = await store.report_rows()
        verified = await store.verify()
    ticket = tickets[-1] if tickets else None
    tasks = ticket.tasks if ticket else ()
    document = {
        "ticket": ticket.id if ticket else None,
        "state": str(ticket.state) if ticket else None,
        "tasks": [{"id": x.task.id, "state": str(x.state), "commit": x.commit, "attempts": x.attempt} for x in tasks],
        "pull_request": ticket.pull_request.number if ticket and ticket.pull_request else None,
        "checks": [{"name": check["name"], "conclusion": check["conclusion"]} for check in seen.checks],
        "reviews": seen.reviews,
        "base": {"before": person.repo.head, "after": seen.head},
        "landed": sum(row.state == "landed" for row in rows if ticket and row.lane == ticket.lane),
        "quarantined": sum(row.state == "quarantined" for row in rows),
        "seconds": round(story.seconds, 1),
        "audit": {"records": verified.records, "verified": not verified.faults},
    }
    if story.failure:
        document["failure"] = story.failure
    if ticket is None:
        return Result(document, f"No ticket was opened. {story.failure}".strip(), landed=False)
    done = ticket.state is t.TicketState.DONE and not story.failure and not verified.faults
    digest = _digest(data_dir, story) if done else ""
    return Result(document, "\n".join(_lines(ticket, story, document, digest)), done)


def _digest(data_dir: Path, story: Story) -> str:
    """Of what landed, computed anew from the bot's mirror."""
    objects = Objects(data_dir / "mirrors" / f"{story.person.repo.id}.git")
    return tree_digest(objects, objects.tree_of(story.person.repo.head), objects.tree_of(story.seen.head))


def _lines(ticket: t.Ticket, story: Story, document: dict[str, Any], digest: str) -> list[str]:
    person, seen, usage, audit = story.person, story.seen, ticket.usage, document["audit"]
    outcome = "landed" if ticket.state is t.TicketState.DONE else f"did not land ({ticket.state})"
    lines = ["", f"{ticket.id} {outcome} in {document['seconds']} s", ""]
    lines += [f"  asked     {question}\n  answered  {answer}" for question, answer in person.asked]
    if approved := ticket.approved_plan:
        who = approved.by.login if approved.by else "nobody (policy)"
        lines.append(f"  plan      {approved.hash[:12]}, approved by {who}")
    for item in ticket.tasks:
        after = f", after {', '.join(name.rsplit('/', 1)[1] for name in item.task.after)}" if item.task.after else ""
        tries = f" in {item.attempt} attempts" if item.attempt > 1 else ""
        lines.append(f"  task      {item.task.id} {item.task.title}: {item.state}{tries}{after}")
    for commit in seen.commits:
        subject, *rest = commit["commit"]["message"].splitlines()
        trailers = [line for line in rest if line.startswith(("Ticket:", "Task:", "Change-Request:"))]
        lines.append(f"  commit    {commit['sha'][:12]} {subject}\n            {'  '.join(trailers)}")
    lines += dict.fromkeys(f"  check     {check['name']}: {check['conclusion']}" for check in seen.checks)
    for approval in ticket.approvals:
        same = "the digest that landed" if approval.digest == digest else "NOT the digest that landed"
        lines.append(f"  review    {approval.by.login} approved {approval.digest[:16]}, {same}")
    landed = sum(item.state is t.TaskState.LANDED for item in ticket.tasks)
    quarantined = f", {document['quarantined']} quarantined" if document["quarantined"] else ""
    model = "the model (a script that knows the sample)" if story.scripted else ""
    stood_in = ("GitHub", "the two people" if story.played else "", model)
    lines += [
        f"  queue     {document['landed']} change requests landed for {landed} tasks{quarantined}",
        f"  comments  {seen.comments} by the bot",
        f"  tokens    {usage.input_tokens} in, {usage.output_tokens} out, {usage.model_calls} model calls"
        + (" (of the scripted model)" if story.scripted else ""),
        f"  audit     {audit['records']} records, {'verified' if audit['verified'] else 'CHANGED'}",
        f"  base      {person.repo.branch}: {person.repo.head[:12]} -> {seen.head[:12]}",
        "",
        "Real: the Copilot CLI in its sandbox, git over HTTP, signed webhooks, SQLite, the merge queue, the checks.",
        f"Stand-in: {', '.join(filter(None, stood_in))}.",
    ]
    return [*lines, "", f"Not landed: {story.failure}"] if story.failure else lines
