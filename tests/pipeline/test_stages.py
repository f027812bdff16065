"""Decisions on single tickets: what people say at odd moments never stops us, and never leaves a ticket waiting for ever."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import get_args

import pytest

from bot.pipeline import stages
from schemas import events as e
from schemas.base import Evidence, Person, RepoRef
from schemas.decision import Decision
from schemas.effects import PostComment
from schemas.lane import EntryState, ErrorClass, Rebase
from schemas.plan import Question, Scope, Task
from schemas.policy import Attempts, Policy
from schemas.ticket import RunState, TaskProgress, TaskState, Ticket, TicketState

T0 = datetime(2026, 1, 1, tzinfo=UTC)
WRITER = Person(id=1, login="ada", permission="write")
BASE, TIP, ONTO = "a" * 40, "b" * 40, "c" * 40
TICKET = Ticket(
    id="o/r#1", repo=RepoRef(id=1, full_name="o/r"), installation=1, issue=1, requester=WRITER, author=WRITER,
    title="t", body="", opened_at=T0, base_ref="main", base=BASE,
)  # fmt: skip
TASK = Task(id="o/r#1/1", ticket="o/r#1", kind="docs", title="t", brief="b", owns=("docs/*",))
SCOPE = Scope(goal="g", kind="docs")


def ticket(state: TicketState, item: TaskProgress | None = None, **fields: object) -> Ticket:
    tasks = (item,) if item else ()
    return TICKET.model_copy(update={"state": state, "tasks": tasks, **fields})


def decide(before: Ticket, event: e.Event) -> Decision:
    decision = stages.decide(before, event, T0)
    assert isinstance(decision, Decision)
    return decision


def says(before: Ticket, text: str) -> Decision:
    return decide(before, e.CommentAdded(ticket=before.id, comment=7, body=f"/interlock {text}", by=WRITER, at=T0))


def comments(decision: Decision) -> list[str]:
    return [effect.body for effect in decision.effects if isinstance(effect, PostComment)]


def test_each_event_has_its_reaction() -> None:
    assert set(get_args(get_args(e.Event)[0])) == set(stages._REACTIONS)


@pytest.mark.parametrize("number", ["²", "9" * 5000, "-1", "one", "3"])
def test_an_answer_to_no_question_is_said_to_be_one(number: str) -> None:
    asking = ticket(TicketState.ASKING, questions=(Question(number=1, text="q"), Question(number=2, text="q")))
    assert comments(says(asking, f"answer {number} yes"))[0].startswith("No open question has that number.")
    assert says(asking, "answer 2 yes").ticket.questions[1].answer is not None


def test_the_orchestrators_questions_lead_back_to_it_after_a_stop() -> None:
    asking = ticket(TicketState.ASKING, questions=(Question(number=1, text="q"),), scope=SCOPE)
    stopped = says(asking, "stop").ticket
    assert (stopped.state, stopped.resume) == (TicketState.STOPPED, TicketState.ASKING)
    resumed = says(stopped, "resume").ticket
    assert says(resumed, "answer 1 yes").ticket.state is TicketState.PLANNING


def test_a_held_change_that_a_stop_takes_back_is_written_anew() -> None:
    item = TaskProgress(task=TASK, state=TaskState.HELD, run=RunState.SUCCEEDED, attempt=1, change="o/r#1/1.1")
    stopped = says(ticket(TicketState.BUILDING, item, scope=SCOPE), "stop")
    assert stopped.withdraw == ("*",) and stopped.ticket.tasks[0].state is TaskState.READY
    assert says(stopped.ticket, "resume").ticket.tasks[0].attempt == 2


def test_a_person_is_told_how_often_a_task_failed() -> None:
    item = TaskProgress(task=TASK, state=TaskState.RUNNING, run=RunState.STARTED, attempt=3, failures=2)
    building = ticket(TicketState.BUILDING, item, scope=SCOPE, policy=Policy(attempts=Attempts(task=3)))
    event = e.RunFailed(ticket=building.id, task=TASK.id, attempt=3, evidence=Evidence(reason="red"))
    assert "failed 3 times" in comments(decide(building, event))[0]


def test_each_trial_that_fails_has_a_rebase_of_its_own() -> None:
    item = TaskProgress(task=TASK, state=TaskState.LANDED, run=RunState.SUCCEEDED, attempt=1, change="o/r#1/1.1")
    names = set()
    for trial in (1, 2):
        trying = ticket(TicketState.TRIALING, item, scope=SCOPE, tip=TIP, trial=trial, trial_running=True)
        event = e.TrialComposed(ticket=trying.id, trial=trial, tip=TIP, onto=ONTO, digest="d", clean=False)
        (entry,) = decide(trying, event).enqueue
        assert entry.rebase == Rebase(fork=BASE, tip=TIP, onto=ONTO)
        names.add(entry.id)
    assert len(names) == 2


def test_whatever_stops_a_ticket_stops_its_agents_and_takes_its_changes_back() -> None:
    running = TaskProgress(task=TASK, state=TaskState.RUNNING, run=RunState.STARTED, attempt=1)
    building = ticket(TicketState.BUILDING, running, scope=SCOPE)
    for event in (
        e.BaseMoved(ticket=building.id, ref="refs/heads/main", head=ONTO, forced=True, by="eve"),
        e.EffectGaveUp(ticket=building.id, effect="o/r#1:run:2.1", effect_kind="run_agent", reason="no disk"),
    ):
        decision = decide(building, event)
        assert decision.ticket.state is TicketState.STOPPED and decision.withdraw == ("*",)
        assert decision.ticket.tasks[0].state is TaskState.READY and decision.ticket.tasks[0].run is RunState.CANCELLED
        assert [effect.kind for effect in decision.effects].count("cancel_runs") == 1


def test_answers_may_stand_on_the_next_line_and_a_resumed_question_has_a_deadline_again() -> None:
    asking = ticket(TicketState.ASKING, questions=(Question(number=1, text="q"), Question(number=2, text="q")))
    answer = says(asking, "answer 2\nyes, both").ticket.questions[1].answer
    assert answer is not None and answer.text == "yes, both"
    assert comments(says(asking, "answer"))[0].startswith("No open question has that number.")
    resumed = says(says(asking, "stop").ticket, "resume").ticket
    assert resumed.state is TicketState.ASKING and resumed.wake_at is not None


@pytest.mark.parametrize("state", [TaskState.HELD, TaskState.QUARANTINED, TaskState.FAILED])
def test_a_change_that_an_operator_puts_back_is_awaited_and_lands(state: TaskState) -> None:
    item = TaskProgress(task=TASK, state=state, run=RunState.SUCCEEDED, attempt=1, change="o/r#1/1.1")
    building = ticket(TicketState.BUILDING, item, scope=SCOPE)
    about = {"ticket": building.id, "entry": "o/r#1/1.1", "entry_kind": "change", "task": TASK.id}
    again = decide(building, e.EntryReopened.model_validate({**about, "by": "ops"}))
    assert again.ticket.tasks[0].state is TaskState.SUBMITTED and "by ops" in again.why
    landed = decide(again.ticket, e.EntryLanded.model_validate({**about, "commit": TIP, "tree": ONTO}))
    assert landed.ticket.tasks[0].state is TaskState.LANDED
    other = decide(building, e.EntryReopened.model_validate({**about, "by": "ops", "entry": "o/r#1/1.0"}))
    assert other.ticket.tasks[0].state is state


@pytest.mark.parametrize("state", [TaskState.HELD, TaskState.SUBMITTED])
def test_a_change_that_an_operator_drops_asks_a_person(state: TaskState) -> None:
    item = TaskProgress(task=TASK, state=state, run=RunState.SUCCEEDED, attempt=1, change="o/r#1/1.1")
    event = e.EntryReturned(
        ticket=TICKET.id, entry="o/r#1/1.1", entry_kind="change", task=TASK.id, state=EntryState.CANCELLED,
        error_class=ErrorClass.POLICY, evidence=Evidence(reason="taken out of the queue by ops"),
    )  # fmt: skip
    dropped = decide(ticket(TicketState.BUILDING, item, scope=SCOPE), event)
    assert dropped.ticket.tasks[0].state is TaskState.FAILED
    assert "taken out of the queue by ops" in comments(dropped)[0] and "/interlock retry 1" in comments(dropped)[0]
    assert says(dropped.ticket, "retry 1").ticket.tasks[0].attempt == 2
