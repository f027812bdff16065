"""What every event has; what people say (comments, reviews, presses of a button), and what happens around a ticket."""

from typing import Literal

from schemas.base import Instant, Kinded, Name, Person, RepoRef, Sha


class TicketEvent(Kinded):
    """What all events have. `ticket` is filled in by the inbox when the event arrives with an address instead."""

    ticket: str = ""
    late: bool = False
    """Whether it is heard after the ticket's end, too."""


class Act(TicketEvent):
    """What a person did. The loop asks GitHub what `by` may do before the event is decided on."""

    by: Person


class DatedAct(Act):
    """What a person did, with GitHub's time for it."""

    at: Instant


class IssueEdited(Act, kind="issue_edited"):
    """Title or text of the issue were changed after it was taken on."""


class CommentAdded(DatedAct, kind="comment_added"):
    """A new comment on the issue (edits never count); `late` if it looks like a command."""

    comment: int
    body: str


class ReviewSubmitted(DatedAct, kind="review_submitted"):
    """A pull-request review."""

    review: int
    state: Literal["approved", "changes_requested", "commented", "dismissed"]
    head: Sha
    body: str = ""


class ButtonPressed(DatedAct, kind="button_pressed"):
    """A button on one of our check runs; `identifier` is the button's, `about` the check run's external id."""

    identifier: str
    about: str = ""
    head: Sha
    late: bool = True


class CheckRerequested(TicketEvent, kind="check_rerequested"):
    """Somebody asks for our check runs on a commit anew."""

    head: Sha
    late: bool = True


class ReviewRead(TicketEvent, kind="review_read"):
    """The line comments of a review that asks for changes: `path:line: text`."""

    review: int
    comments: tuple[str, ...] = ()


class RollbackAsked(TicketEvent, kind="rollback_asked"):
    """A person wants a landed ticket taken back; the event opens the ticket that does it."""

    of: Name
    repo: RepoRef
    installation: int
    issue: int
    by: Person


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
