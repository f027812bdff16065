"""Webhook deliveries to events, and nothing more. Pure; who may do what is asked by whoever calls this."""

from collections.abc import Callable, Sequence
from typing import Any

from handlers import branches, issues
from handlers.origin import Origin
from schemas.events import Addressed
from schemas.payloads import Payload, parse

Handler = Callable[[Payload, Origin], Addressed | None]

ROUTES: dict[str, tuple[Handler, frozenset[str]]] = {
    "issues": (issues.changed, frozenset({"labeled", "unlabeled", "closed", "deleted", "transferred"})),
    "issue_comment": (issues.commented, frozenset({"created"})),
    "pull_request": (branches.closed, frozenset({"closed"})),
    "pull_request_review": (branches.reviewed, frozenset({"submitted", "dismissed"})),
    "check_run": (branches.pressed, frozenset({"requested_action"})),
    "push": (branches.pushed, frozenset({""})),
}
"""For each event its handler and the actions that it is for."""


def translate(event: str, payload: dict[str, Any], *, slug: str, app_id: int) -> Sequence[Addressed]:
    """The events of one delivery; none for what we do not know. Raises ValueError for a body that does not fit."""
    handler, actions = ROUTES.get(event, (None, frozenset()))
    if handler is None or str(payload.get("action") or "") not in actions:
        return ()
    read = parse(payload)
    found = handler(read, Origin(slug=slug, app_id=app_id))
    where = {"repo": read.repository, "installation": read.installation}
    return (found.model_copy(update=where),) if found else ()
