"""Every command of the contract, by everybody and in every form: what it does, and what it answers."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from bot.pipeline import replies
from bot.rules.commands import VERBS, parse
from bot.rules.sanitise import quote_safe
from schemas import events as e
from schemas.base import Person
from schemas.decision import Decision
from schemas.plan import Answer, Plan, Question
from schemas.policy import Policy
from schemas.ticket import RunState, TaskProgress, TaskState, Ticket, TicketState
from tests.pipeline.test_stages import BASE, SCOPE, T0, TASK, TIP, WRITER, comments, decide, ticket

CORPUS = Path(__file__).parents[1] / "corpus" / "hostile" / "comments.json"
COMMENTS: list[dict[str, Any]] = json.loads(CORPUS.read_text("utf-8"))
READER = Person(id=2, login="eve", permission="read")
BOT = Person(id=3, login="robot[bot]", type="Bot", permission="write")
HASH = "0123456789abcdef" * 4
PLAN = Plan(ticket="o/r#1", base=BASE, tasks=(TASK,), hash=HASH)
S, K = TicketState, TaskState


def item(state: TaskState, **more: Any) -> TaskProgress:
    return TaskProgress(task=TASK, state=state, run=RunState.SUCCEEDED, attempt=1, change="o/r#1/1.1", **more)


ASKING = ticket(S.ASKING, questions=(Question(number=1, text="q"), Question(number=2, text="q")),
                offered=(Answer(by="author", at=T0, text="so"),))  # fmt: skip
PROPOSED = ticket(S.PROPOSED, scope=SCOPE, plan=PLAN)
STOPPED = ticket(S.STOPPED, scope=SCOPE, resume=S.PLANNING)
FAILED, HELD = (ticket(S.BUILDING, item(state), scope=SCOPE) for state in (K.FAILED, K.HELD))
REVIEWING = ticket(S.REVIEWING, item(K.LANDED, commit=TIP), scope=SCOPE, tip=TIP)
DONE = ticket(S.DONE, item(K.LANDED, commit=TIP), scope=SCOPE, tip=TIP, landed=(TIP,))
DOES: dict[str, tuple[str, Ticket, TicketState]] = {
    "approve": (f"approve {HASH[:8]}", PROPOSED, S.BUILDING),
    "accept": ("accept", ASKING, S.CLARIFYING),
    "replan": ("replan smaller\nplease", PROPOSED, S.PLANNING),
    "answer": ("answer 2 yes", ASKING, S.ASKING),
    "stop": ("stop for lunch", PROPOSED, S.STOPPED),
    "resume": ("resume", STOPPED, S.PLANNING),
    "retry": ("retry 1", FAILED, S.BUILDING),
    "release": ("release o/r#1/1.1", HELD, S.BUILDING),
    "priority": ("priority 3", REVIEWING, S.REVIEWING),
    "rollback": ("rollback", DONE, S.DONE),
    "status": ("status", REVIEWING, S.REVIEWING),
    "help": ("help", REVIEWING, S.REVIEWING),
}


def typed(before: Ticket, body: str, by: Person = WRITER) -> Decision:
    return decide(before, e.CommentAdded(ticket=before.id, comment=7, body=body, by=by, at=T0, late=True))


def moved(before: Ticket, decision: Decision) -> bool:
    """Whether anything came of it: a comment, an effect, a move, more than the count of decisions and the time of the last."""
    counted = {name: getattr(before, name) for name in ("version", "since", "silent")}
    same = decision.ticket.model_copy(update=counted) == before
    return not same or bool(
        decision.effects or decision.emits or decision.enqueue or decision.release or decision.withdraw
    )


def test_each_command_is_tried_here_and_has_its_usage() -> None:
    assert set(DOES) == set(VERBS) == set(replies.USAGE)
    assert all(f"`{usage}`" in replies.HELP for usage in replies.USAGE.values())


@pytest.mark.parametrize("verb", DOES)
def test_a_writer_is_obeyed_in_any_case_and_with_any_line_end(verb: str) -> None:
    line, before, after = DOES[verb]
    call, _, rest = line.partition(" ")
    for body in (
        f"/interlock {line}", f"/INTERLOCK {call.upper()} {rest}", f"/Interlock\t{line}", f"/interlock  {line}  ",
        f"/interlock {line}\r\nThank you.", f"/interlock {line}\rThank you.", f"/interlock {line}\n" + "x" * 65_000,
    ):  # fmt: skip
        decision = typed(before, body)
        assert decision.ticket.state is after and moved(before, decision), body[:40]
        assert f"{WRITER.login}: /interlock {verb}" in decision.why


@pytest.mark.parametrize("verb", DOES)
def test_nobody_else_is_and_nothing_that_only_looks_like_it(verb: str) -> None:
    line, before, _ = DOES[verb]
    for by in (READER, BOT, Person(id=4, login="gone", permission="none"), Person(id=5, login="unasked")):
        assert not moved(before, typed(before, f"/interlock {line}", by)), by.login
    quiet = before.model_copy(update={"questions": (), "offered": ()})  # a plain comment answers what is asked
    for body in (
        f"> /interlock {line}", f" /interlock {line}", f"\t/interlock {line}", f"`/interlock {line}`", f"\n/interlock {line}",
        f"```\n/interlock {line}\n```", f"Do\n/interlock {line}", f"/interloc\u212a {line}", f"/\u0456nterlock {line}",
        f"\u200b/interlock {line}", f"\ufeff/interlock {line}", f"/interlock\u00a0{line}", f"/interlocked {line}",
        f"/interlock-{line}", f"//interlock {line}", f"\uff0finterlock {line}",
    ):  # fmt: skip
        assert parse(body) is None, body[:40]
        assert not moved(quiet, typed(quiet, body)), body[:40]


@pytest.mark.parametrize("verb", DOES)
def test_wrong_use_is_told_and_does_nothing(verb: str) -> None:
    line, before, _ = DOES[verb]
    if VERBS[verb][1] >= 0:
        decision = typed(before, f"/interlock {line} and more, please")
        assert comments(decision) == [replies.misused(verb)]
        assert decision.ticket.state is before.state
    look_alike = f"/interlock {verb[:-1]}\u0435"
    assert comments(typed(before, look_alike)) == [replies.UNKNOWN]
    unfit = DONE if before is not DONE else REVIEWING
    decision = typed(unfit, f"/interlock {line}")
    assert len(comments(decision)) == 1 and decision.ticket.state is unfit.state
    after_the_end = comments(typed(DONE, f"/interlock {line}")) == [replies.over(DONE)]
    assert after_the_end is (verb not in ("rollback", "status", "help"))


def test_an_author_who_may_not_write_is_heard_as_an_author_alone() -> None:
    author = WRITER.model_copy(update={"permission": "read"})
    for line, kept in (("/interlock accept", 1), ("/interlock answer 2 blue", 2), ("blue", 2)):
        decision = typed(ASKING, line, author)
        assert len(decision.ticket.offered) == kept and not comments(decision) and decision.ticket.state is S.ASKING


@pytest.mark.parametrize("rest", ["", "10", "-1", "\u0663", "1.5", "9 9", "high"])
def test_a_priority_is_one_digit(rest: str) -> None:
    decision = typed(REVIEWING, f"/interlock priority {rest}")
    assert comments(decision) == [replies.misused("priority")] and decision.priority is None
    assert typed(REVIEWING, "/interlock priority 0").priority == 0


def test_a_release_names_one_of_several() -> None:
    other = item(K.HELD).model_copy(update={"task": TASK.model_copy(update={"id": "o/r#1/2"}), "change": "o/r#1/2.1"})
    two = HELD.model_copy(update={"tasks": (*HELD.tasks, other)})
    assert "/interlock release o/r#1/2.1" in comments(typed(two, "/interlock release"))[0]
    assert typed(two, "/interlock release o/r#1/2").release == (("o/r#1/2.1", WRITER.login),)
    assert typed(HELD, "/interlock release").release == (("o/r#1/1.1", WRITER.login),)
    assert comments(typed(two, "/interlock release @everybody")) == [replies.name_the_held(["o/r#1/1.1", "o/r#1/2.1"])]


def test_the_policy_may_ask_for_an_admin() -> None:
    strict = REVIEWING.model_copy(update={"policy": Policy(trigger="admin")})
    assert not moved(strict, typed(strict, "/interlock stop"))
    assert typed(strict, "/interlock stop", WRITER.model_copy(update={"permission": "admin"})).ticket.state is S.STOPPED


def test_a_rollback_opens_the_next_ticket_of_the_issue_once() -> None:
    decision = typed(DONE, "/interlock rollback")
    (asked,) = decision.emits
    assert isinstance(asked, e.RollbackAsked) and (asked.ticket, asked.of) == ("o/r#1~2", "o/r#1")
    second = typed(DONE.model_copy(update={"id": "o/r#1~2", "generation": 2}), "/interlock rollback").emits[0]
    assert second.ticket == "o/r#1~3"
    assert comments(decide(REVIEWING, asked)) == [replies.over_first("o/r#1")], "it was labelled again a moment before"
    assert not comments(decide(REVIEWING.model_copy(update={"rolls_back": "o/r#1"}), asked)), "it was asked for twice"
    for nothing in (DONE.model_copy(update={"landed": ()}), ticket(S.DECLINED), ticket(S.CANCELLED)):
        assert comments(typed(nothing, "/interlock rollback")) and not typed(nothing, "/interlock rollback").emits


def test_no_comment_takes_long_to_read() -> None:
    began = time.process_time()
    for body in (
        "/interlock" + " " * 65_000,
        "/interlock answer " + "1 " * 32_000,
        "/interlock\t" * 6000,
        "\r" * 65_000,
    ):
        parse(body)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize("case", COMMENTS, ids=lambda case: str(case["id"]))
def test_hostile_comments_move_nothing(case: dict[str, Any]) -> None:
    for before in (PROPOSED, HELD, FAILED, REVIEWING, DONE, STOPPED):
        for by in (READER, BOT, WRITER):
            assert not moved(before, typed(before, case["text"], by)), (before.state, by.login)


def test_what_is_posted_for_others_closes_links_mentions_and_tells_nothing() -> None:
    texts = {case["id"]: quote_safe(str(case["text"])) for case in COMMENTS}
    assert not re.search(r"\b(fixes|closes|resolves)\s", texts["C25"], re.I) and "](" not in texts["C27"]
    assert "ghs_" not in texts["C33"] and "[redacted]" in texts["C33"]
    for raw in (
        "<a href='https://evil.test'>github.com</a>",
        "![x](https://evil.test/?q=1)",
        "[1]: https://evil.test",
        "<!-- x -->",
    ):
        safe = quote_safe(raw)
        assert not re.search(r"<[a-zA-Z/!]|\]\(|\]:", safe), safe
    assert not re.search(
        r"fix\w*:?\s*\S*#?\d", quote_safe("Fixes: octo/app#3, fixes https://github.com/o/r/issues/3, FIX GH-3"), re.I
    )
    began = time.process_time()
    for one in ("fix:", "fix #", "[a](", "@a ", "<a ", "](]("):
        quote_safe(one * (65_536 // len(one)))
    assert time.process_time() - began < 3
