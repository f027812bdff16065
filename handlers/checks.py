"""check_run: a button of one of our own check runs was pressed."""

from __future__ import annotations

from collections.abc import Sequence

from handlers.origin import Origin
from schemas.events import Address, Addressed, ButtonPressed
from schemas.payloads import NEVER, Payload


def requested_action(payload: Payload, origin: Origin) -> Sequence[Addressed]:
    """The external id names the ticket or the task: `octo/app#12/3@<commit>`."""
    run, action = payload.check_run, payload.requested_action
    if run is None or action is None or run.app is None or run.app.id != origin.app_id:
        return ()
    about = run.external_id or ""
    name = about.split("@", 1)[0]
    _, mark, number = name.partition("#")
    issue, _, _ = number.partition("/")
    plain, _, generation = issue.partition("~")
    if not mark or not plain.isdigit():
        return ()
    event = ButtonPressed(
        identifier=action.identifier, about=about, head=run.head_sha, by=payload.sender.person(), at=NEVER
    )
    to = Address(repo_id=payload.repository.id, issue=int(plain), generation=int(generation or 1))
    key = f"button:{run.id}:{action.identifier}:{run.head_sha}"
    return (Addressed(key=key, to=to, event=event),)
