"""DEVELOPERS: from a task that is ready to a change request in the queue, with bounded attempts.

Reads RunSucceeded, RunFailed, EntryLanded and EntryReturned of single changes. Wants RunAgent; puts entries into the
ticket's lane. `after` and new runs start from landed commits only.
"""

from __future__ import annotations

from bot.pipeline import messages
from bot.pipeline.turn import INTERRUPTED_LIMIT, Turn
from schemas.base import CheckCommand, Evidence
from schemas.effects import RunAgent
from schemas.events import EntryLanded, EntryReturned, RunFailed, RunSucceeded
from schemas.lane import EntryState, ErrorClass, NewEntry
from schemas.ticket import RunState, TaskProgress, TaskState, Ticket, TicketState


def advance(turn: Turn) -> None:
    """Free what waits, then start what is ready, as far as runners are allowed."""
    if turn.ticket.state is not TicketState.BUILDING or turn.ticket.base is None:
        return
    landed = {item.task.id for item in turn.ticket.tasks if item.state is TaskState.LANDED}
    for item in turn.ticket.tasks:
        if item.state is TaskState.WAITING and set(item.task.after) <= landed:
            turn.move_task(item, "free")
    for item in turn.ticket.tasks:
        running = sum(other.state is TaskState.RUNNING for other in turn.ticket.tasks)
        if item.state is TaskState.READY and running < turn.ticket.policy.concurrency.runs:
            _start(turn, item)


def _start(turn: Turn, item: TaskProgress) -> None:
    ticket = turn.ticket
    base = ticket.tip or ticket.base
    if base is None:
        return
    attempt = item.attempt + 1
    reworked = item.evidence is not None
    turn.move_task(
        item,
        "start",
        attempt=attempt,
        base=base,
        run=RunState.STARTED,
        shown_on=ticket.tip if ticket.tip != ticket.base else None,
    )
    turn.because(f"{'rework' if reworked else 'run'} {item.task.id}.{attempt}")
    turn.effects.append(
        RunAgent(
            **turn.base_of_effect(f"run:{item.task.id.rsplit('/', 1)[1]}.{attempt}"),
            role="rework" if reworked else "developer",
            attempt=attempt,
            base=base,
            title=ticket.title,
            scope=ticket.scope,
            task=item.task,
            siblings=tuple(o for other in ticket.tasks if other.task.id != item.task.id for o in other.task.owns),
            evidence=item.evidence,
            checks=fast_checks(ticket),
            protected=ticket.policy.protected,
            shared=ticket.policy.shared,
            limits=item.task.limits,
            model=ticket.policy.models.developer,
        )
    )


def fast_checks(ticket: Ticket) -> tuple[CheckCommand, ...]:
    """The policy's checks that gate every task."""
    return tuple(
        CheckCommand(name=c.name, command=c.command, timeout_seconds=c.timeout_seconds)
        for c in ticket.policy.checks
        if c.fast
    )


def gate_of(ticket: Ticket, item: TaskProgress) -> tuple[CheckCommand, ...]:
    """A task's gate: its plan's checks and the policy's fast ones; a plan's check never replaces a policy check."""
    named = {check.name: check for check in (*item.task.checks, *fast_checks(ticket))}
    return tuple(named.values())


def _running(turn: Turn, task_id: str, attempt: int) -> TaskProgress | None:
    """The task, if this is the outcome of the run that it waits for (late outcomes of older runs are nothing)."""
    item = turn.task(task_id)
    if item is None or item.state is not TaskState.RUNNING or item.attempt != attempt:
        return None
    return item


def run_succeeded(turn: Turn, event: RunSucceeded) -> None:
    """Put the change request into the ticket's lane; a new attempt supersedes the old one in the same transaction."""
    item = _running(turn, event.task, event.attempt)
    if item is None:
        return
    ticket = turn.ticket
    turn.add_usage(event.usage)
    turn.move_task(
        item,
        "hold" if event.holds else "submit",
        run=RunState.SUCCEEDED,
        change=event.change.id,
        held=event.holds,
        summary=event.summary,
        usage=item.usage.plus(event.usage),
    )
    turn.because(f"{event.change.id} submitted" + (f", held: {'; '.join(event.holds)}" if event.holds else ""))
    turn.enqueue.append(
        NewEntry(
            id=event.change.id,
            lane=ticket.lane,
            ticket=ticket.id,
            task=item.task.id,
            fork=ticket.base,
            change=event.change,
            owns=event.change.owns,
            checks=gate_of(ticket, item),
            held=event.holds,
        )
    )
    if event.holds:
        turn.comment(f"held:{event.change.id}", messages.held(ticket, item, event.change.id, event.holds))


def run_failed(turn: Turn, event: RunFailed) -> None:
    """Try again with the evidence, or ask a person once the attempts are used up."""
    item = _running(turn, event.task, event.attempt)
    if item is None:
        return
    turn.add_usage(event.usage)
    item = turn.set_task(item, usage=item.usage.plus(event.usage))
    if event.interrupted and item.interrupted < INTERRUPTED_LIMIT:
        turn.move_task(item, "return", run=RunState.INTERRUPTED, interrupted=item.interrupted + 1)
        turn.because(f"run {event.task}.{event.attempt} was cut by a restart")
        return
    _failure(turn, item, event.evidence, gave_up=event.gave_up)


def _failure(turn: Turn, item: TaskProgress, evidence: Evidence, *, gave_up: bool = False) -> None:
    failures = item.failures + 1
    run = RunState.FAILED if item.state is TaskState.RUNNING else item.run
    turn.because(f"{item.task.id}: {evidence.reason} ({failures} of {turn.ticket.policy.attempts.task})")
    if not gave_up and failures < turn.ticket.policy.attempts.task:
        turn.move_task(item, "return", run=run, failures=failures, evidence=evidence)
        return
    turn.move_task(item, "fail", run=run, failures=failures, evidence=evidence)
    turn.comment(f"failed:{item.task.id}.{item.attempt}", messages.task_failed(turn.ticket, item, evidence))


def change_landed(turn: Turn, event: EntryLanded) -> None:
    """The task's commit is on the branch."""
    item = turn.task(event.task)
    if item is None or item.change != event.entry or item.state not in (TaskState.SUBMITTED, TaskState.HELD):
        return
    turn.move_task(item, "land", commit=event.commit, paths=event.paths, held=(), evidence=None)
    turn.set(tip=event.commit)
    turn.because(f"{event.entry} {event.state} as {event.commit[:12]}")


def change_returned(turn: Turn, event: EntryReturned) -> None:
    """The queue sent a change back: to the agent with the evidence, or to a person."""
    item = turn.task(event.task)
    if item is None or item.change != event.entry or item.state is not TaskState.SUBMITTED:
        return
    theirs = event.error_class in (ErrorClass.INVALID, ErrorClass.POLICY)
    if event.state is EntryState.REWORK or (event.state is EntryState.QUARANTINED and theirs):
        _failure(turn, item, event.evidence)
    elif event.state is EntryState.QUARANTINED:
        turn.move_task(item, "quarantine", evidence=event.evidence)
        turn.because(f"{event.entry} is in quarantine: {event.evidence.reason}")
        turn.comment(f"quarantined:{event.entry}", messages.quarantined(turn.ticket, item, event.evidence))


def released(turn: Turn, change: str, by: str) -> bool:
    """A person lets a held change go on."""
    for item in turn.ticket.tasks:
        if item.state is TaskState.HELD and (not change or change in (item.change, item.task.id)):
            turn.move_task(item, "release")
            turn.release.append((item.change or "", by))
            turn.because(f"{item.change} released by {by}")
            return True
    return False


def retried(turn: Turn, wanted: str) -> bool:
    """A person wants a failed task to be tried again, with its attempts counted anew."""
    found = False
    for item in turn.ticket.tasks:
        named = wanted in ("", item.task.id, item.task.id.rsplit("/", 1)[1])
        if named and item.state in (TaskState.FAILED, TaskState.QUARANTINED):
            turn.move_task(item, "retry", failures=0)
            turn.because(f"{item.task.id} is tried again")
            found = True
    return found
