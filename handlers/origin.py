"""Telling our own acts from other people's, and our branches from other branches."""

from __future__ import annotations

import re

from schemas.base import Frozen
from schemas.events import Address
from schemas.payloads import Payload, PayloadUser

BRANCH = re.compile(r"interlock/([1-9][0-9]{0,9})(?:-([2-9]|[1-9][0-9]+))?\Z")


class Origin(Frozen):
    """Which App we are."""

    slug: str
    app_id: int

    def ours(self, who: PayloadUser) -> bool:
        """Whether our own bot user did it: type and name, so that other bots are other bots."""
        return who.type == "Bot" and who.login == f"{self.slug}[bot]"


def address_of_branch(payload: Payload, branch: str) -> Address | None:
    """The ticket that a branch belongs to, if it is one of ours."""
    found = BRANCH.match(branch)
    if found is None:
        return None
    return Address(repo_id=payload.repository.id, issue=int(found[1]), generation=int(found[2] or 1))
