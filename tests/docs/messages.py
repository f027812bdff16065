"""docs/messages.md: every comment and every check run's title as it renders, with sample values."""

from __future__ import annotations

import inspect
import re
from datetime import UTC, datetime
from itertools import chain

from bot.pipeline import check_runs, messages, replies
from schemas.base import Evidence, Person, RepoRef
from schemas.plan import Limits, Plan, Question, Scope, Task
from schemas.policy import Policy, PolicyCheck
from schemas.ticket import Objection, PullRequest, TaskProgress, TaskState, Ticket, TicketState

T0 = datetime(2026, 1, 1, tzinfo=UTC)
ALICE, BOB = Person(id=1, login="alice", permission="write"), Person(id=2, login="bob", permission="admin")
BASE, TIP = "b" * 40, "4f2d1c9e8a7b6f5d4c3b2a190817263544332211"
CHECK = PolicyCheck(name="tests", command="pytest -q")
TASKS = tuple(
    Task(
        id=f"octo/app#12/{number}",
        ticket="octo/app#12",
        kind="feature",
        title=title,
        brief=title,
        owns=owns,
        after=after,
    )
    for number, title, owns, after in (
        (1, "Write the list as CSV", ("src/export.py",), ()),
        (2, "Offer it on the command line", ("src/main.py",), ("octo/app#12/1",)),
    )
)
EVIDENCE = Evidence(reason="the check tests failed", command="pytest -q", exit_code=1, log="E  assert 1 == 2")
PLAN = Plan(ticket="octo/app#12", base=BASE, tasks=TASKS, hash="3f9c0a7be1d2" + "0" * 52)
QUESTIONS = (
    Question(number=1, text="Which separator?", why="Both are in use.", options=("comma", "tab")),
    Question(number=2, text="Is a header wanted?"),
)
TICKET = Ticket(
    id="octo/app#12", repo=RepoRef(id=1, full_name="octo/app"), installation=1, issue=12, requester=ALICE, author=ALICE,
    title="Export the list", body="", opened_at=T0, base_ref="main", base=BASE, policy=Policy(checks=(CHECK,), limits=Limits()),
    scope=Scope(goal="The list can be written as CSV", kind="feature", acceptance=("a file opens in a spreadsheet",)),
    state=TicketState.REVIEWING, tip=TIP, digest="8a3e77d0c4b1f2e6", pull_request=PullRequest(number=13, head=TIP), plan=PLAN,
    tasks=(
        TaskProgress(task=TASKS[0], state=TaskState.LANDED, attempt=2, commit=TIP, paths=("src/export.py",)),
        TaskProgress(task=TASKS[1], state=TaskState.LANDED, attempt=1, commit=TIP, paths=("src/main.py",)),
    ),
)  # fmt: skip
CHANGED = TICKET.model_copy(update={"interdiff": '# src/export.py\n-+    sep = ","\n++    sep = ";"'})
FAILED = TICKET.tasks[1].model_copy(update={"state": TaskState.FAILED, "failures": 3, "evidence": EVIDENCE})

SAMPLES: list[tuple[str, str]] = [
    ("status", messages.status(TICKET)),
    ("questions", messages.questions(TICKET, QUESTIONS)),
    ("plan", messages.plan(TICKET, PLAN, ("src/app.py is shared: the last task owns it.",))),
    ("pull_request", messages.pull_request(TICKET)),
    ("pull_request", messages.pull_request(CHANGED)),
    ("look_again", messages.look_again(CHANGED, ["bob", "carol"])),
    ("approve_again", messages.approve_again(TICKET, "bob", "of an earlier commit")),
    ("too_late", messages.too_late(TICKET, TASKS[1])),
    ("held", messages.held(TASKS[1], "octo/app#12/2.1", ("it touches protected files: .github/ci.yml",))),
    ("task_failed", messages.task_failed(FAILED, EVIDENCE)),
    ("quarantined", messages.quarantined(TASKS[1], Evidence(reason="the remote refused the push: GH013"))),
    ("declined", messages.declined(TICKET, "The list is gone since last week.")),
    ("silence", messages.silence(TICKET)),
    ("agent_failed", messages.agent_failed("the agent ended without an answer")),
    ("base_forced", messages.base_forced(TICKET)),
    ("branch_lost", messages.branch_lost(TICKET, "deleted", "bob")),
    ("not_landed", messages.not_landed(TICKET, "the remote refused the push: GH006")),
    (
        "not_allowed",
        messages.not_allowed("GitHub refuses the push to main: changes must be made through a pull request"),
    ),
    ("pull_request_closed", messages.pull_request_closed("bob")),
    ("gave_up", messages.gave_up("open pull request", "GitHub answered 403")),
    ("pressed_in_vain", replies.pressed_in_vain("eve", "eve may not write here")),
    ("misused", replies.misused("priority")),
    ("over", replies.over(TICKET.model_copy(update={"state": TicketState.DONE}))),
    ("over_first", replies.over_first("octo/app#12")),
    ("priority", replies.priority(7)),
    ("nothing_landed", replies.nothing_landed(TICKET)),
    ("nothing_landed", replies.nothing_landed(TICKET.model_copy(update={"state": TicketState.DECLINED}))),
    ("name_the_held", replies.name_the_held(["octo/app#12/1.1", "octo/app#12/2.1"])),
    ("name_the_held", replies.name_the_held([])),
    ("name_the_plan", replies.name_the_plan(PLAN)),
    ("other_plan", replies.other_plan(PLAN)),
    *(
        ("a_sentence", text)
        for name, text in vars(replies).items()
        if name.isupper() and name[0] != "_" and isinstance(text, str)
    ),
]
PARTS = {"your_turn", "one_line", "number", "evidence_text", "waiting_for_review", "quote_safe"}
"""Of sentences, not sentences."""


def missing() -> set[str]:
    """Functions of the messages that have no sample."""
    both = (*inspect.getmembers(messages, inspect.isfunction), *inspect.getmembers(replies, inspect.isfunction))
    functions = {name for name, _ in both if not name.startswith("_")}
    return functions - PARTS - {name for name, _ in SAMPLES}


def visible_lines(text: str) -> int:
    """What a person sees before unfolding anything."""
    shown = re.sub(r"<details>.*?</details>", "", text, flags=re.DOTALL)
    return sum(bool(line.strip()) for line in shown.splitlines())


def titles() -> list[tuple[str, str, str, str]]:
    """Name, conclusion, title and buttons of the check runs that a ticket shows in each of its states."""
    found: dict[tuple[str, str, str, str], None] = {}
    note = {"note": "Stopped by bob."}
    objected = TICKET.model_copy(update={"objections": (Objection(by=BOB, review=1),)})
    held = {"held": ("it takes tests away: tests/test_a.py",), "evidence": EVIDENCE, "shown_on": TIP}
    first = TICKET.tasks[0]
    tickets = chain(
        (TICKET.model_copy(update={"state": state, **note, "tasks": ()}) for state in TicketState), (objected,),
        (TICKET.model_copy(update={"tasks": (first.model_copy(update={"state": s, **held}),)}) for s in TaskState),
    )  # fmt: skip
    for run in (run for ticket in tickets for run in check_runs.shown(ticket)):
        buttons = ", ".join(button.label for button in run.buttons)
        found[run.name.replace(" 1", " N"), run.conclusion or run.status, run.title, buttons] = None
    return list(found)


def page() -> str:
    lines = [
        "# Messages\n",
        "Everything that Interlock writes on GitHub, as it renders with sample values, made from the code by",
        "`python3 dev.py docs`. A new comment comes only when a person must act, as the answer to a command, or at the end.",
        "Texts of people and agents are quoted so that they mention nobody, close nothing, and lead only where they say.\n",
        "## Check runs\n",
        "| check run | shown as | title | buttons |\n| --- | --- | --- | --- |",
        *(f"| {' | '.join(cell or '-' for cell in row)} |" for row in titles()),
        "\n## Comments and descriptions",
    ]
    for name, text in SAMPLES:
        quoted = "\n".join(f"    {line}".rstrip() for line in text.splitlines())
        lines.append(f"\n### {name.replace('_', ' ')}\n\n{quoted}")
    return "\n".join(lines) + "\n"
