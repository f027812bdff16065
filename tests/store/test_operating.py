"""An operator's acts: along the tables, in one transaction with the chain's row and the ticket's event, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bot.errors import Rejected
from bot.rules.operating import MOVES, operated
from bot.rules.states import ENTRY_MOVES, leads
from bot.store.operating import Ambiguous, Unknown
from schemas.commands import Command
from schemas.decision import EntryMove
from schemas.events import EntryReopened, EntryReturned, LaneOpened
from schemas.lane import EntryState, LaneState
from schemas.plan import Task
from schemas.ticket import TaskProgress, TaskState, TicketState
from tests.store.parts import BASE, BRANCH, T0, TICKET, entry, history, open_ticket, opened
from tests.store.test_queue import lane_lease, move, state

E = EntryState
TASK = Task(id=f"{TICKET}/1", ticket=TICKET, kind="docs", title="t", brief="b", owns=("docs/*",))


def command(verb: str, name: str = "a", **more: Any) -> Command:
    return Command.model_validate({"command": verb, "entry": name, "by": "ops", **more})


def progress(task: TaskState, change: str = "a") -> dict[str, Any]:
    item = TaskProgress(task=TASK, state=task, attempt=1, change=change)
    return {"state": TicketState.BUILDING, "tasks": (item,)}


@pytest.mark.parametrize("verb", list(MOVES))
@pytest.mark.parametrize("before", list(E))
def test_each_act_goes_along_the_table_or_says_why_not(before: EntryState, verb: Any) -> None:
    after = operated("a", before, verb)
    if isinstance(after, EntryState):
        assert leads(ENTRY_MOVES, before, after)
    else:
        assert (after.startswith(f"a is {before}") and before is not E.QUARANTINED) or verb == "drop"


@pytest.mark.parametrize("verb", ["release", "drop"])
async def test_a_ticket_is_told_in_the_same_transaction(tmp_path: Path, verb: str) -> None:
    async with opened(tmp_path) as store:
        held = entry("a", ticket=TICKET, task=TASK.id, held=("protected",))
        await open_ticket(store, enqueue=(held,), change=progress(TaskState.HELD))
        done = await store.operate(command(verb), T0)
        found, due = await state(store, "a"), await store.next_event(TICKET)
        assert (done.before, found.state) == (E.HELD, E.QUEUED if verb == "release" else E.CANCELLED)
        assert found.released_by == ("ops" if verb == "release" else "")
        assert due is not None and due.event.kind == {"release": "entry_reopened", "drop": "entry_returned"}[verb]
        assert isinstance(due.event, EntryReopened | EntryReturned) and due.event.task == TASK.id
        row, told, _ = (await history(store, BRANCH))[-1]
        assert (row.kind, row.actor, row.before, row.after) == (f"operator_{verb}", "ops", "held", found.state)
        assert Command.model_validate_json(told) == command(verb) and not (await store.verify()).faults


@pytest.mark.parametrize(
    ("ticket", "why"),
    [(progress(TaskState.RUNNING), "is running"), (progress(TaskState.READY), "is ready"),
     (progress(TaskState.FAILED, "b"), "newer change"),
     ({**progress(TaskState.FAILED), "state": TicketState.STOPPED}, "/interlock resume"),
     ({"state": TicketState.REVIEWING}, "not one task's change")],
)  # fmt: skip
async def test_an_entry_that_its_ticket_left_behind_is_not_queued_again(
    tmp_path: Path, ticket: dict[str, Any], why: str
) -> None:
    async with opened(tmp_path) as store:
        await open_ticket(store, enqueue=(entry("a", ticket=TICKET, task=TASK.id),), change=ticket)
        lease = await lane_lease(store)
        await move(store, lease, *_back("a"))
        rows = len(await history(store))
        with pytest.raises(Rejected, match=why):
            await store.operate(command("retry"), T0)
        assert (await state(store, "a")).state is E.REWORK and len(await history(store)) == rows
        assert await store.next_event(TICKET) is None


def _back(name: str) -> list[EntryMove]:
    return [EntryMove(entry=name, to=E.REWORK, error="no", counts=True)]


async def test_names_that_are_unknown_or_in_two_lanes(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.enqueue([entry("octo/app#1/1.1"), entry("x"), entry("x", BASE)], T0)
        with pytest.raises(Unknown, match=r"did you mean octo/app#1/1\.1\?"):
            await store.operate(command("drop", "octo/app#1/1"), T0)
        with pytest.raises(Ambiguous, match=f"2 lanes .{BRANCH}, {BASE}."):
            await store.operate(command("drop", "x"), T0)
        assert (await store.operate(command("drop", "x", lane=BASE), T0)).lane == BASE
        with pytest.raises(Unknown, match="interlock/12"):
            await store.operate(Command(command="release", lane="7:refs/heads/interlock/1", by="ops"), T0)


async def test_a_paused_lane_is_resumed_and_those_who_wait_are_told(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await open_ticket(store, enqueue=(entry("a", ticket=TICKET),))
        lease = await lane_lease(store)
        await move(store, lease, state=LaneState.PAUSED, why="by hand")
        done = await store.operate(command("release", BRANCH), T0)
        lane = await store.lane(BRANCH)
        assert (done.after, lane.state, lane.why, lane.version) == ("open", LaneState.OPEN, "", 2)
        due = await store.next_event(TICKET)
        assert due is not None and due.event == LaneOpened(ticket=TICKET, lane=BRANCH)
        with pytest.raises(Rejected, match="nothing to resume"):
            await store.operate(command("release", BRANCH), T0)


async def test_a_frozen_lane_asks_its_base_again_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await open_ticket(store, enqueue=(entry("a", ticket=TICKET),))
        lease = await lane_lease(store)
        waits = EntryMove(entry="a", to=E.QUEUED, error="the base is red", delay_seconds=60)
        await move(store, lease, waits, state=LaneState.FROZEN, why="the base is red")
        assert await store.busy_lanes(T0) == []
        done = await store.operate(command("release", BRANCH), T0)
        assert (done.before, done.after) == (LaneState.FROZEN, LaneState.OPEN)
        assert [one.id for one in await store.due_entries(BRANCH, 9, T0)] == ["a"]
        due = await store.next_event(TICKET)
        assert due is not None and due.event == LaneOpened(ticket=TICKET, lane=BRANCH)


async def test_the_last_failure_and_its_count_survive_a_retry_and_the_landing(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.enqueue([entry("a"), entry("b")], T0)
        lease = await lane_lease(store)
        await move(store, lease, *_back("a"))
        await store.operate(command("retry"), T0)
        await move(store, lease, *_back("a"))
        await store.operate(command("retry"), T0)
        await move(store, lease, EntryMove(entry="a", to=E.LANDED, commit="c" * 40))
        (row,), many = await store.failed_rows(9)
        assert (row.id, row.state, row.attempts, row.error, row.failed, many) == ("a", "landed", 2, "no", T0, 1)


async def test_a_database_of_the_first_schema_keeps_its_failures(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.enqueue([entry("a"), entry("b")], T0)
        lease = await lane_lease(store)
        await move(store, lease, *_back("a"))
        script = """DROP INDEX entries_failed; ALTER TABLE entries DROP COLUMN failures;
            ALTER TABLE entries DROP COLUMN failed_at; UPDATE entry_bodies SET body = json_set(body, '$.change', json(change));
            DROP INDEX entries_set_aside; ALTER TABLE entries DROP COLUMN content;
            ALTER TABLE lanes DROP COLUMN due_at;
            ALTER TABLE entry_bodies DROP COLUMN change; PRAGMA user_version = 1"""
        await store.database.write("older", lambda conn: [conn.execute(one) for one in script.split(";")] and None)
    async with opened(tmp_path) as store:
        (row,), _ = await store.failed_rows(9)
        assert (row.id, row.attempts, row.error) == ("a", 1, "no") and row.failed == T0
        assert await store.enqueue([entry("b")], T0) == [("b", True)]  # known, and the same
        assert (await store.entries(BRANCH, ["b"], whole=True))[0].change == entry("b").change
