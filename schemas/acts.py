"""What every event has, and what happens to a ticket from outside its issue: to its repository and to our access."""

from typing import Literal

from schemas.base import Instant, Kinded, Person, RepoRef


class TicketEvent(Kinded):
    """What all events have. `ticket` is filled in by the inbox when the event arrives with an address instead."""

    ticket: str = ""


class Act(TicketEvent):
    """What a person did. The loop asks GitHub what `by` may do before the event is decided on."""

    by: Person


class DatedAct(Act):
    """What a person did, with GitHub's time for it."""

    at: Instant


How = Literal[
    "locked", "unlocked", "renamed", "transferred", "archived", "unarchived", "deleted", "default_branch", "base_deleted",
    "suspended", "unsuspended", "uninstalled", "removed", "added", "permissions",
]  # fmt: skip
"""docs/lifecycle.md has a row for each."""


class PlaceChanged(TicketEvent, kind="place_changed"):
    """Something happened to where the ticket lives: its issue's conversation, its repository, a branch's name, or what the
    App may reach. Nobody's permission matters. `repo` and `installation` are as they are now, where the event has them.
    """

    how: How
    by: Person
    repo: RepoRef | None = None
    installation: int = 0
    old: str = ""
    """default_branch: what it was before."""


class PullRequestReopened(Act, kind="pull_request_reopened"):
    """The pull request was opened again by somebody else than us."""


class Unreachable(Kinded, kind="unreachable"):
    """Of a lane: GitHub refuses us its repository, or its branch is gone. Trying again changes nothing."""

    reason: str
