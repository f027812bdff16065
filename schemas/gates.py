"""A gate's verdict: a status with its reasons, so that a page can explain every wait."""

from enum import StrEnum
from typing import Self

from schemas.base import Frozen


class Status(StrEnum):
    """PENDING waits for somebody, REFUSED will not pass without a change; nothing unknown passes."""

    PASSED = "passed"
    PENDING = "pending"
    REFUSED = "refused"


class Verdict(Frozen):
    """What a gate says, and why."""

    status: Status
    reason: str
    children: tuple[Self, ...] = ()
