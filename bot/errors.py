"""The ways in which a call fails, named for what the caller does.

InterlockError
├── Rejected        tell the person; trying again changes nothing
├── Transient       try later
│   └── Away        GitHub does not answer, or asks us to wait, or the App is suspended: tried for ever
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


class Away(Transient):
    """GitHub cannot be reached or wants to be left alone; whatever is to be done there is never given up for that."""


class Stale(InterlockError):
    """The lease, version or ref that this relied on has moved."""


class Misconfigured(InterlockError):
    """Something must be set up differently; the message says what to do."""
