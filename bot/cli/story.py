"""A ticket's or a local entry's story: one document, and its lines for people."""

from collections.abc import Iterator
from typing import Any

from bot.cli.text import one_line
from bot.rules.landing import BY
from bot.rules.lane_turn import kind_of
from bot.store.store import SqliteStore
from bot.store.trace import Landing, Told
from schemas.lane import Entry
from schemas.ticket import Ticket

Document = dict[str, Any]
ERASED = "(erased)"


async def local_story(store: SqliteStore, commit: str) -> list[Document]:
    """The entries of a local queue that landed as this commit."""
    found = []
    for entry, digest in await store.entries_like(commit=commit):
        landing = await store.landing(entry)
        verdict = await store.verdict_of(entry.lane, landing.train) if landing else None
        title = entry.change.title if entry.change else ""
        found.append({**_entry(entry, landing, verdict), "title": title, "content": digest})
    return found


async def ticket_story(store: SqliteStore, ticket: Ticket) -> Document:
    """Everything that the records have of a ticket."""
    runs = [_run(told) for told in await store.told(ticket.id, "run_succeeded", "run_failed")]
    landed = {told.text["entry"]: told.text for told in await store.told(ticket.id, "entry_landed") if told.text}
    changes, landings = [], []
    for entry, _ in await store.entries_like(ticket=ticket.id):
        known = landed.get(entry.id, {})
        row = _entry(entry, await store.landing(entry), known.get("verdict") or None)
        commits = [commit for _, commit in known.get("commits", ())] or row["commits"]
        row = {**row, "commits": list(dict.fromkeys(commits)), "way": known.get("way")}
        if kind_of(entry) == "change" and entry.task:
            changes.append({**row, **_task(ticket, entry.task), "runs": [r for r in runs if r["task"] == entry.task]})
        else:
            landings.append({**row, "kind": kind_of(entry), "digest": known.get("digest") or ticket.digest})
    forgotten = await store.told(ticket.id, "forgotten")
    approved = ticket.approved_plan
    return {
        "ticket": {
            "id": ticket.id, "title": ticket.title, "state": ticket.state, "issue": ticket.issue,
            "opened": ticket.opened_at.isoformat(), "requester": ticket.requester.login, "author": ticket.author.login,
            "base": ticket.base_ref, "branch": ticket.branch, "landed": list(dict.fromkeys(ticket.landed)),
            "pull_request": ticket.pull_request.number if ticket.pull_request else None,
            "erased": {"by": forgotten[-1].actor, "at": forgotten[-1].at.isoformat()} if forgotten else None,
        },
        "questions": [
            {"number": one.number, "question": one.text, "answer": one.answer.text if one.answer else None,
             "by": one.answer.by if one.answer else None, "at": one.answer.at.isoformat() if one.answer else None}
            for one in ticket.questions
        ],
        "goal": ticket.scope.goal if ticket.scope else None,
        "plan": {
            "hash": approved.hash, "approved_by": approved.by.login if approved.by else None,
            "at": approved.at.isoformat(),
        } if approved else None,
        "changes": changes, "landings": landings, "digest": ticket.digest,
        "reviews": [
            {"by": one.by.login, "digest": one.digest, "head": one.head, "at": one.at.isoformat()}
            for one in ticket.approvals
        ],
    }  # fmt: skip


def _run(told: Told) -> Document:
    text = told.text or {"task": None, "attempt": None, "usage": None}
    outcome = "succeeded" if told.kind == "run_succeeded" else "interrupted" if text.get("interrupted") else "failed"
    return {"task": text["task"], "attempt": text["attempt"], "outcome": outcome, "at": told.at.isoformat(),
            "usage": text["usage"]}  # fmt: skip


def _task(ticket: Ticket, name: str) -> Document:
    item = next((one for one in ticket.tasks if one.task.id == name), None)
    known = {"title": item.task.title, "kind": item.task.kind, "attempts": item.attempt} if item else {}
    return {"task": name, "title": None, "kind": None, "attempts": None, **known}


def _entry(entry: Entry, landing: Landing | None, verdict: str | None) -> Document:
    carriage = landing.carriage if landing else None
    return {
        "id": entry.id, "lane": entry.lane, "state": entry.state, "released_by": entry.released_by,
        "checks": [check.name for check in entry.checks], "verdict": verdict, "commit": entry.commit,
        "commits": [commit for _, commit in carriage.commits] if carriage else [entry.commit] if entry.commit else [],
        "rung": carriage.rung if carriage else None,
        "train": landing.train if landing else None, "at": landing.at.isoformat() if landing else None,
        "onto": landing.onto if landing else None,
    }  # fmt: skip


# --- for people -------------------------------------------------------------------------------------------------------
def lines(found: Document) -> Iterator[str]:
    """The document of one question, as people read it."""
    if "tickets" in found:
        for ticket in found["tickets"]:
            yield from _ticket_lines(ticket)
        return
    yield f"{found['commit']}  {one_line(found['subject'])}"
    if not found["ours"]:
        yield f"  not made by Interlock: the author is {one_line(found['author'])}"
        yield from (f"  {one_line(hint)}" for hint in found["hints"])
    elif "ticket" in found:
        yield from _ticket_lines(found)
    else:
        for entry in found["changes"]:
            yield from _entry_lines(entry)
            yield f"    content  {entry['content']}"


def _ticket_lines(found: Document) -> Iterator[str]:
    ticket, plan = found["ticket"], found["plan"]
    gone = ticket["erased"]
    yield f"{ticket['id']}  {ticket['state']}  {one_line(ticket['title']) or (ERASED if gone else '')}"
    yield f"  asked by {ticket['requester']}, {ticket['opened'][:19]}"
    if gone:
        yield f"  its texts were erased {gone['at'][:19]} by {gone['by'] or 'nobody named'}"
    for one in found["questions"]:
        yield f"  question {one['number']}  {one_line(one['question'])}"
        yield f"    {one['by']}: {one_line(one['answer'])}" if one["by"] else "    not answered"
    if found["goal"]:
        yield f"  goal     {one_line(found['goal'])}"
    if plan:
        yield f"  plan     {plan['hash']}, approved by {plan['approved_by'] or 'nobody (policy)'}, {plan['at'][:19]}"
    for change in found["changes"]:
        yield f"  task     {change['task']}  {one_line(change['title'] or ERASED)}"
        for run in change["runs"]:
            used = run["usage"]
            tokens = f", {used['input_tokens']} + {used['output_tokens']} tokens" if used else ""
            yield f"    run {run['attempt']}  {run['outcome']} {run['at'][:19]}{tokens}"
        yield from _entry_lines(change)
    for review in found["reviews"]:
        same = "what is there now" if review["digest"] == found["digest"] else "another patch"
        yield f"  review   {review['by']} approved {review['digest']} ({same}), {review['at'][:19]}"
    for landing in found["landings"]:
        yield from _entry_lines(landing)


def _entry_lines(entry: Document) -> Iterator[str]:
    yield f"    {entry['id']}  {entry['state']} in {entry['lane']}"
    if entry["checks"] or entry["verdict"]:
        yield f"    checks   {', '.join(entry['checks']) or 'none'}: {one_line(entry['verdict'] or 'no verdict is recorded')}"
    if entry["released_by"]:
        yield f"    released by {entry['released_by']}"
    if entry["at"]:
        rung = f", by {entry['rung']} merge" if entry["rung"] else ""
        onto = f" onto {entry['onto'][:12]}" if entry["onto"] else ""
        way = f", {BY[entry['way']]}" if entry.get("way") else ""
        yield f"    landed   {entry['at'][:19]}{onto} as {entry['commit'] or 'nothing'}, train {entry['train']}{rung}{way}"
