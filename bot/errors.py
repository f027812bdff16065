"""The four ways in which a call fails, named for what the caller does.

InterlockError
├── Rejected        tell the person; trying again changes nothing
├── Transient       try later (Suspended: once a person has lifted it)
├── Stale           somebody else moved first: reload and decide again
└── Misconfigured   the operator must mend something; the message says what
"""


class InterlockError(Exception):
    """Base of ours; never raised itself."""


class Rejected(InterlockError):
    """The request is refused; the message is for the person who asked."""


class Transient(InterlockError):
    """It may work later. `retry_after` (seconds) is what the other side asked for, if it did."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Suspended(Transient):
    """GitHub lets the App do nothing there until somebody lifts it: waiting costs no attempt."""


class Stale(InterlockError):
    """The lease, version or ref that this relied on has moved."""


class Misconfigured(InterlockError):
    """Something must be set up differently; the message says what to do."""
