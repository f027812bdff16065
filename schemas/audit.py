"""A row of the audit chain. Texts are stored apart, by digest, so that they can be erased without breaking the chain."""

from schemas.base import Frozen, Instant


class AuditRow(Frozen):
    """`hash` is the SHA-256 of `previous` and the row's canonical JSON; `texts` are the digests of what it refers to."""

    seq: int
    at: Instant
    subject: str
    """A ticket's id or a lane's key."""
    kind: str
    """The event's kind, or the effect's for what agents were shown."""
    event: str
    """Digest of the event as stored in the texts table."""
    decision: str = ""
    before: str = ""
    after: str = ""
    why: str = ""
    actor: str = ""
    previous: str
    hash: str
