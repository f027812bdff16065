"""Webhook deliveries to events, and nothing more. Pure; who may do what is asked by whoever calls this."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from handlers import checks, comments, issues, pull_requests, pushes, reviews
from handlers.origin import Origin
from schemas.events import Addressed
from schemas.payloads import Payload

Handler = Callable[[Payload, Origin], Sequence[Addressed]]

ROUTES: dict[tuple[str, str], Handler] = {
    ("issues", "labeled"): issues.labelled,
    ("issues", "unlabeled"): issues.unlabelled,
    ("issues", "closed"): issues.closed,
    ("issues", "deleted"): issues.closed,
    ("issues", "transferred"): issues.closed,
    ("issue_comment", "created"): comments.created,
    ("pull_request", "closed"): pull_requests.closed,
    ("pull_request_review", "submitted"): reviews.submitted,
    ("pull_request_review", "dismissed"): reviews.submitted,
    ("check_run", "requested_action"): checks.requested_action,
    ("push", ""): pushes.pushed,
}


def translate(event: str, payload: dict[str, Any], *, slug: str, app_id: int) -> Sequence[Addressed]:
    """The events of one delivery; none for what we do not know. Raises ValueError for a body that does not fit."""
    handler = ROUTES.get((event, str(payload.get("action") or "")))
    if handler is None:
        return ()
    return handler(Payload.model_validate(payload), Origin(slug=slug, app_id=app_id))
