"""What happens around a ticket: to its issue, its repository, the base's name and policy, and what the App may reach.

Reads IssueLabelled, IssueUnlabelled, IssueClosed, PlaceChanged, pushes of the policy, and what the repository is found to be
when it is read again. docs/lifecycle.md has a row for each case.
"""

from collections.abc import Callable
from typing import Final

from bot.pipeline import engineer, messages, notices
from bot.pipeline.turn import Turn
from schemas import events as e
from schemas.acts import How
from schemas.effects import ReadRepository
from schemas.ticket import SILENCE, Ticket, TicketState


def issue_labelled(turn: Turn, event: e.IssueLabelled) -> None:
    """The label of a ticket that is there already."""
    turn.because("the ticket is open already")


def issue_unlabelled(turn: Turn, event: e.IssueUnlabelled) -> None:
    """Taking our label off cancels the ticket."""
    if event.label == engineer.TRIGGER_LABEL:
        turn.cancel(f"{event.by.login} took the label off")


def issue_closed(turn: Turn, event: e.IssueClosed) -> None:
    """Closing the issue cancels the ticket."""
    turn.cancel(f"the issue was {event.how} by {event.by.login}")


def place_changed(turn: Turn, event: e.PlaceChanged) -> None:
    """Along the table below."""
    turn.because(f"{event.how} by {event.by.login}")
    _CASES[event.how](turn, event)


def _stays(turn: Turn, event: e.PlaceChanged) -> None:
    """locked: work goes on, and what GitHub does not let us post is kept."""


def _listens(turn: Turn, event: e.PlaceChanged) -> None:
    """unlocked, permissions: what could not be said is said now."""
    turn.again = True
    turn.set(notice="")


def _moved(turn: Turn, event: e.PlaceChanged) -> None:
    """renamed, transferred, added: the repository is followed by its id; the ticket keeps its printed name."""
    ticket = turn.ticket
    turn.set(repo=event.repo or ticket.repo, installation=event.installation or ticket.installation)
    _reachable(turn, event)


def _unreachable(turn: Turn, event: e.PlaceChanged) -> None:
    """archived, removed: stopped; nothing can be said before it is undone."""
    if turn.may("stop"):
        turn.stop(f"{event.how} by {event.by.login}", notices.UNREACHABLE[event.how])


def _reachable(turn: Turn, event: e.PlaceChanged) -> None:
    """unarchived, added, transferred: what stopped for it may be resumed, and people are told so."""
    _listens(turn, event)
    if turn.ticket.state is TicketState.STOPPED and turn.ticket.note in notices.UNREACHABLE.values():
        turn.comment(f"reachable:{turn.ticket.version}", notices.reachable(turn.ticket))


def _over(turn: Turn, event: e.PlaceChanged) -> None:
    """deleted, uninstalled: there is nowhere to say it."""
    turn.cancel(f"the {'repository' if event.how == 'deleted' else 'App'} was {event.how} by {event.by.login}")


def _suspended(turn: Turn, event: e.PlaceChanged) -> None:
    """Everything waits where it is."""
    turn.set(suspended=True)
    turn.pull_back("the App is suspended")


def _unsuspended(turn: Turn, event: e.PlaceChanged) -> None:
    """Everything goes on; GitHub told us nothing meanwhile, so policy, base and tip are looked at again."""
    _listens(turn, event)
    turn.set(suspended=False)
    if turn.ticket.state is TicketState.REVIEWING:
        turn.move("try", "the base may have moved meanwhile", trial_running=False)
    read_again(turn)


def _base_renamed(turn: Turn, event: e.PlaceChanged) -> None:
    """default_branch, base_deleted: GitHub is asked what our base is called now. Another default is not our base."""
    if event.how == "base_deleted" or event.old == turn.ticket.base_ref:
        read_again(turn)


_CASES: Final[dict[How, Callable[[Turn, e.PlaceChanged], None]]] = {
    "locked": _stays, "unlocked": _listens, "permissions": _listens,
    "renamed": _moved, "transferred": _moved, "added": _moved,
    "archived": _unreachable, "removed": _unreachable, "unarchived": _reachable,
    "deleted": _over, "uninstalled": _over,
    "suspended": _suspended, "unsuspended": _unsuspended,
    "default_branch": _base_renamed, "base_deleted": _base_renamed,
}  # fmt: skip


def read_again(turn: Turn) -> None:
    """The base's name or its policy may have changed. Nothing starts or lands before both are known."""
    ticket = turn.ticket
    if ticket.base_ref:
        turn.pull_back("policy and base are read again")
        turn.set(rereading=True)
        turn.want(ReadRepository, f"read:{ticket.version}", slot=f"{ticket.id}:read", base_ref=ticket.base_ref)


def base_moved(turn: Turn, event: e.BaseMoved) -> None:
    """A push may have changed the policy."""
    if event.policy and event.ref.removeprefix("refs/heads/") == turn.ticket.base_ref:
        read_again(turn)


def repository_read(turn: Turn, event: e.RepositoryRead) -> None:
    """The policy as it is now; a base that was renamed is followed."""
    ticket = turn.ticket
    if not ticket.rereading:
        return
    turn.set(rereading=False, policy=event.policy, policy_note=event.policy_note, single_writer=event.single_writer)
    turn.because(
        f"the policy pauses everything: {event.policy.pause}" if event.policy.pause else "the policy is read again"
    )
    if event.base_ref != ticket.base_ref:
        turn.because(f"{ticket.base_ref} is called {event.base_ref} now")
        notice = f"`{ticket.base_ref}` is called `{event.base_ref}` now; the work goes on for it."
        turn.set(base_ref=event.base_ref, notice=notice, trial_running=False)


def repository_refused(turn: Turn, event: e.RepositoryRefused) -> None:
    """The repository cannot be worked on any more."""
    asked = turn.ticket.rereading
    turn.set(rereading=False)
    if asked and turn.may("stop"):
        turn.stop_and_ask(
            event.reason, f"refused:{turn.ticket.version}", notices.refused(messages.one_line(event.reason, 600))
        )


def keep_watch(before: Ticket | None, turn: Turn) -> None:
    """Without news for a while, the ticket says what it waits on and since when."""
    after = turn.ticket
    if before is None or after.since is None or _shown(before) != _shown(after):
        turn.set(since=turn.now, silent=False)
    elif after.speaks_at and turn.now >= after.speaks_at - _EARLY:
        turn.because(f"nothing new since {after.since:%H:%M}")
        turn.set(silent=True)


_EARLY = SILENCE / 1000
"""A tick may come a moment before its time: instants are stored in milliseconds."""


def _shown(ticket: Ticket) -> str:
    return messages.status(ticket.model_copy(update={"silent": False}))
