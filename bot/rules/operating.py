"""What an operator may do to an entry of the queue by hand, and why not otherwise."""

from bot.rules.states import ENTRY_MOVES, may, move
from schemas.commands import Verb
from schemas.lane import EntryState
from schemas.ticket import TaskState, Ticket, TicketState

E = EntryState

REOPENABLE = (TaskState.HELD, TaskState.QUARANTINED, TaskState.FAILED)
"""A task in these states has nobody at work on it: its change may be put back into the queue."""

MOVES = {"retry": "retry", "release": "release", "drop": "withdraw"}


def operated(entry: str, state: EntryState, verb: Verb) -> EntryState | str:
    """The entry's next state, or why it has none."""
    if may(ENTRY_MOVES, state, MOVES[verb]):
        return move(ENTRY_MOVES, state, MOVES[verb])
    if state is E.LANDING:
        return f"{entry} is landing: what is landing is not called back"
    takes = ", ".join(one for one in E if may(ENTRY_MOVES, one, MOVES[verb]))
    return f"{entry} is {state}: {verb} takes entries that are {takes}"


def reopening(ticket: Ticket, entry: str, task: str) -> str:
    """Why the ticket would not know what to do with this entry of its own, were it queued again; empty if it would."""
    item = next((one for one in ticket.tasks if one.task.id == task), None)
    where = f"issue #{ticket.issue}"
    if item is None:
        return (
            f"{entry} is not one task's change: comment /interlock resume on {where}, or approve its pull request again"
        )
    if item.change != entry:
        return f"{task} has a newer change ({item.change})"
    if ticket.state is not TicketState.BUILDING:
        return f"{ticket.id} is {ticket.state}: comment /interlock resume on {where} first"
    if item.state not in REOPENABLE:
        return f"{task} is {item.state}: its next change replaces this one; /interlock stop on {where} ends it"
    return ""
