"""What the store does for whole repositories and installations: who is told, under which name, and what is tried again."""

from __future__ import annotations

from pathlib import Path

from bot.store.entries import save_lane
from schemas.base import RepoRef
from schemas.effects import CancelRuns
from schemas.events import Address, Addressed, LaneStopped, PlaceChanged
from schemas.lane import LaneState
from schemas.ticket import TicketState
from tests.store.parts import (
    ALICE,
    BASE,
    REPO,
    T0,
    TICKET,
    agent,
    close_ticket,
    comment,
    decide,
    entry,
    label,
    labelled,
    open_ticket,
    opened,
    outbox_rows,
    post,
    status,
)  # fmt: skip

KINDS = ("post_comment", "update_status", "run_agent")


def place(key: str, **to: int) -> Addressed:
    return Addressed(key=key, to=Address(**to), event=PlaceChanged(how="archived", by=ALICE))


async def test_a_repository_or_an_installation_tells_its_open_tickets_and_no_others(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await open_ticket(store, 12)
        await open_ticket(store, 13, change={"installation": 2})
        await open_ticket(store, 14)
        await close_ticket(store, "octo/app#14", 14)
        await store.put([label("labelled:15", 15)], T0)  # it has an id and nothing else yet
        assert await store.put([place("a", repo_id=7)], T0) == 3
        assert await store.put([place("b", repo_id=8)], T0) == 0
        assert await store.put([place("c", installation=2)], T0) == 1
        assert await store.put([place("c", installation=2)], T0) == 0


async def test_a_name_that_another_repository_has_taken_over_gives_other_ids(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await open_ticket(store, 12)
        event = labelled().model_copy(update={"repo": RepoRef(id=9, full_name="octo/app")})
        again = Addressed(key="other", to=Address(repo_id=9, issue=12), event=event)
        assert await store.put([again], T0) == 1
        assert await store.due_tickets() == [f"{TICKET}~2"]
        await decide(store, of=f"{TICKET}~2", change={"repo": RepoRef(id=9, full_name="octo/app")})
        await store.put([again.model_copy(update={"key": "more"})], T0)  # of the open ticket
        await decide(store, of=f"{TICKET}~2", change={"state": TicketState.CANCELLED})
        await store.put([again.model_copy(update={"key": "last"})], T0)
        assert await store.due_tickets() == [f"{TICKET}~3"]


async def test_an_effect_is_performed_under_the_repository_s_newest_name(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await open_ticket(store, effects=(post("1"),))
        await store.put([comment("renamed")], T0)
        await decide(store, change={"repo": RepoRef(id=7, full_name="octo/new"), "installation": 5})
        _, effect = await store.lease(KINDS, "me", 60, T0)
        assert (effect.repo.full_name, effect.installation, effect.key) == ("octo/new", 5, f"{TICKET}:1")


async def test_what_github_refused_to_post_is_tried_again_when_it_listens(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await open_ticket(store, effects=(post("refused"), status("refused too"), post("waits")))
        for _ in range(2):
            lease, _ = await store.lease(KINDS, "me", 60, T0)
            await store.refuse(lease, "the issue is locked", T0)
        lease, _ = await store.lease(KINDS, "me", 60, T0)
        await store.nack(lease, "suspended", 300.0, T0, counts=False)
        assert await store.lease(KINDS, "me", 60, T0) is None
        while await store.next_event(TICKET):
            await decide(store)
        await store.put([comment("unlocked")], T0)
        await decide(store, again=True)
        states = {row.key.partition(":")[2]: (row.state, row.attempts) for row in await outbox_rows(store, TICKET)}
        assert states == {"refused": ("pending", 0), "refused too": ("gave_up", 1), "waits": ("pending", 0)}
        lease, _ = await store.lease(KINDS, "me", 60, T0)
        assert lease.key == f"{TICKET}:refused"


async def test_runs_that_wait_for_a_runner_do_not_begin_once_they_are_stopped(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await open_ticket(store, effects=(agent("a"), agent("b")))
        running, _ = await store.lease(KINDS, "me", 60, T0)
        await store.put([comment("stop")], T0)
        cancel = CancelRuns(key=f"{TICKET}:cancel", ticket=TICKET, repo=REPO, installation=1)
        await decide(store, effects=(cancel, agent("c")))
        lease, _ = await store.lease(KINDS, "me", 60, T0)
        assert (running.key, lease.key) == (f"{TICKET}:a", f"{TICKET}:c")
        assert await store.lease(KINDS, "me", 60, T0) is None


async def test_a_ticket_that_enters_a_paused_lane_is_told_why_it_waits(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await open_ticket(store)
        lane = (await store.lane(BASE)).model_copy(update={"state": LaneState.PAUSED, "why": "CI never reported"})
        await store.database.write("put", lambda conn: save_lane(conn, lane))
        await store.enqueue([entry("x", BASE, ticket=TICKET), entry("y", BASE)], T0)
        due = await store.next_event(TICKET)
        assert due.event == LaneStopped(ticket=TICKET, lane=BASE, why="CI never reported")
