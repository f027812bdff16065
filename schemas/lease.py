"""The right to do one piece of work until a time."""

from schemas.base import Frozen


class Lease(Frozen):
    """`fence` grows with every grant; a write that carries an older one is refused (bot.errors.Stale)."""

    key: str
    owner: str
    fence: int
    attempts: int = 0
    interrupted: int = 0
