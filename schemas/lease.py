"""The right to do one piece of work until a time."""

from schemas.base import Frozen


class Lease(Frozen):
    """`fence` grows with every grant; a write that carries an older one is refused (bot.errors.Stale).

    `kind` is the leased effect's; empty for a lane.
    """

    key: str
    owner: str
    fence: int
    kind: str = ""
    attempts: int = 0
    interrupted: int = 0
