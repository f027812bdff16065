"""DEVELOPERS: from a task that is ready to a change request in the queue, with bounded attempts.

Reads RunSucceeded, RunFailed, EntryLanded and EntryReturned of single changes. Wants RunAgent; puts entries into the
ticket's lane. `after` and new runs start from landed commits only.
"""

from bot.pipeline import messages, replies, rollback
from bot.pipeline.turn import INTERRUPTED_LIMIT, Said, Turn
from bot.rules.operating import REOPENABLE
from schemas import events as e
from schemas.base import Evidence
from schemas.effects import RunAgent
from schemas.lane import EntryState, ErrorClass, Rungs
from schemas.policy import PolicyCheck
from schemas.ticket import RunState, TaskProgress, TaskState, Ticket, TicketState


def advance(turn: Turn) -> None:
    """Free what waits, then start what is ready, as far as runners are allowed."""
    if turn.ticket.state is not TicketState.BUILDING:
        return
    landed = {item.task.id for item in turn.ticket.tasks if item.state is TaskState.LANDED}
    for item in turn.ticket.tasks:
        if item.state is TaskState.WAITING and set(item.task.after) <= landed:
            item = turn.move_task(item, "free")
        running = sum(other.state is TaskState.RUNNING for other in turn.ticket.tasks)
        if item.state is TaskState.READY and running < turn.ticket.policy.concurrency.runs:
            _start(turn, item)


def _start(turn: Turn, item: TaskProgress) -> None:
    ticket, policy = turn.ticket, turn.ticket.policy
    base, attempt = ticket.tip or ticket.base, item.attempt + 1
    shown_on = ticket.tip if ticket.tip != ticket.base else None
    item = turn.move_task(item, "start", run=RunState.STARTED, attempt=attempt, base=base, shown_on=shown_on)
    if ticket.rolls_back:
        rollback.start(turn, item)
        return
    turn.because(f"{'rework' if item.evidence else 'run'} {item.task.id}.{attempt}")
    turn.want(
        RunAgent, f"run:{messages.number(item.task.id)}.{attempt}", role="rework" if item.evidence else "developer",
        attempt=attempt, model=policy.models.developer, base=base, title=ticket.title, scope=ticket.scope, task=item.task,
        siblings=tuple(glob for other in ticket.tasks if other.task.id != item.task.id for glob in other.task.owns),
        evidence=item.evidence, checks=fast_checks(ticket), protected=policy.protected, shared=policy.shared,
        environment=policy.environment, limits=item.task.limits,
    )  # fmt: skip


def fast_checks(ticket: Ticket) -> tuple[PolicyCheck, ...]:
    """The policy's checks that gate every task."""
    return tuple(check for check in ticket.policy.checks if check.fast)


def _ended(turn: Turn, event: e.RunSucceeded | e.RunFailed) -> TaskProgress | None:
    """The task whose run this is the end of, with the usage counted; late outcomes of older runs are nothing."""
    item = turn.task(event.task)
    if item is None or item.state is not TaskState.RUNNING or item.attempt != event.attempt:
        return None
    turn.set(usage=turn.ticket.usage.plus(event.usage))
    return turn.set_task(item, usage=item.usage.plus(event.usage))


def run_succeeded(turn: Turn, event: e.RunSucceeded) -> None:
    """Put the change request into the ticket's lane; a new attempt supersedes the old one in the same transaction.

    Its gate: the plan's checks and the policy's fast ones; a plan's check never replaces a policy check.
    """
    item = _ended(turn, event)
    if item is None:
        return
    change, holds = event.change, event.holds
    if turn.ticket.rolls_back and item.change is None:
        turn.set(base=change.base)
    action = "hold" if holds else "submit"
    turn.move_task(item, action, ended="succeed", change=change.id, held=holds, summary=event.summary)
    turn.because(f"{change.id} submitted" + (f", held: {'; '.join(holds)}" if holds else ""))
    gate = {check.command: check for check in (*item.task.checks, *fast_checks(turn.ticket))}
    turn.put(change.id, turn.ticket.lane, task=item.task.id, change=change, owns=change.owns,
             checks=tuple(gate.values()), held=holds,
             rungs=Rungs(upto=turn.ticket.policy.rungs, union=turn.ticket.policy.union))  # fmt: skip
    if holds:
        turn.comment(f"held:{change.id}", messages.held(item.task, change.id, holds))


def run_failed(turn: Turn, event: e.RunFailed) -> None:
    """Try again with the evidence, or ask a person once the attempts are used up."""
    item = _ended(turn, event)
    if item and event.interrupted and item.interrupted < INTERRUPTED_LIMIT:
        turn.move_task(item, "return", ended="interrupt", interrupted=item.interrupted + 1)
        turn.because(f"run {event.task}.{event.attempt} was cut by a restart")
    elif item:
        _failure(turn, item, event.evidence, gave_up=event.gave_up)


def _failure(turn: Turn, item: TaskProgress, evidence: Evidence, *, gave_up: bool = False) -> None:
    failures, limit = item.failures + 1, turn.ticket.policy.attempts.task
    turn.because(f"{item.task.id}: {evidence.reason} ({failures} of {limit})")
    again = failures < limit and not gave_up
    item = turn.move_task(item, "return" if again else "fail", ended="fail", failures=failures, evidence=evidence)
    if not again:
        turn.comment(f"failed:{item.task.id}.{item.attempt}", messages.task_failed(item, evidence))


def change_landed(turn: Turn, event: e.EntryLanded) -> None:
    """The task's commit is on the branch."""
    item = turn.task(event.task)
    if item and item.change == event.entry and item.state in (TaskState.SUBMITTED, TaskState.HELD):
        turn.move_task(item, "land", commit=event.commit, paths=event.paths, held=(), evidence=None)
        turn.set(tip=event.commit)
        turn.because(f"{event.entry} {event.state} as {event.commit[:12]}")


def change_returned(turn: Turn, event: e.EntryReturned) -> None:
    """The queue sent a change back: to the agent with the evidence, or to a person."""
    item = turn.task(event.task)
    if item is None or item.change != event.entry or item.state not in (TaskState.SUBMITTED, TaskState.HELD):
        return
    if event.state is EntryState.CANCELLED:
        turn.move_task(item, "fail", evidence=event.evidence)
        turn.because(f"{event.entry}: {event.evidence.reason}")
        turn.comment(f"dropped:{event.entry}:{turn.ticket.version}", messages.quarantined(item.task, event.evidence))
        return
    theirs = event.error_class in (ErrorClass.INVALID, ErrorClass.POLICY)
    if event.state is EntryState.REWORK or (event.state is EntryState.QUARANTINED and theirs):
        _failure(turn, item, event.evidence)
    elif event.state is EntryState.QUARANTINED:
        turn.move_task(item, "quarantine", evidence=event.evidence)
        turn.because(f"{event.entry} is in quarantine: {event.evidence.reason}")
        turn.comment(f"quarantined:{event.entry}", messages.quarantined(item.task, event.evidence))


def change_reopened(turn: Turn, event: e.EntryReopened) -> None:
    """An operator put the change back into the queue: its task waits for it again."""
    item = turn.task(event.task)
    if item and item.change == event.entry and item.state in REOPENABLE:
        turn.move_task(item, "release" if item.state is TaskState.HELD else "requeue")
        turn.because(f"{event.entry} is back in the queue, by {event.by}")


def release(turn: Turn, event: Said, change: str) -> str:
    """A person lets a held change go on, by its name if there are several. Returns the reply, empty if there is none."""
    held = [item for item in turn.ticket.tasks if item.state is TaskState.HELD]
    named = [item for item in held if change in ("", item.change, item.task.id)]
    if len(named) != 1:
        return replies.name_the_held([item.change or "" for item in held])
    turn.move_task(named[0], "release")
    turn.release.append((named[0].change or "", event.by.login))
    turn.because(f"{named[0].change} released by {event.by.login}")
    return ""


def retry(turn: Turn, event: Said, wanted: str) -> str:
    """A person wants a failed task to be tried again, with its attempts counted anew. Returns the reply."""
    failed = [item for item in turn.ticket.tasks if item.state in (TaskState.FAILED, TaskState.QUARANTINED)]
    named = [item for item in failed if wanted in ("", item.task.id, messages.number(item.task.id))]
    for item in named:
        turn.move_task(item, "retry", failures=0)
        turn.because(f"{item.task.id} is tried again")
    return "" if named else replies.NO_SUCH_TASK
