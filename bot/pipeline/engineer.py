"""ENGINEER: from a labelled issue and people's answers to an agreed scope.

Reads IssueLabelled, RepositoryRead, RepositoryRefused, QuestionsAsked, ScopeSubmitted, AgentDeclined, AgentFailed,
CommentAdded (answers) and Ticked (silence). Wants ReadRepository, RunAgent and comments. Never waits in memory.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from bot.pipeline import messages
from bot.pipeline.turn import INTERRUPTED_LIMIT, Turn
from bot.rules import gating
from bot.rules.sanitise import clean
from schemas.effects import ReadRepository, RunAgent
from schemas.events import (
    AgentDeclined,
    AgentFailed,
    CommentAdded,
    IssueLabelled,
    QuestionsAsked,
    RepositoryRead,
    RepositoryRefused,
    ScopeSubmitted,
)
from schemas.plan import Answer
from schemas.ticket import Ticket, TicketState

TRIGGER_LABEL = "interlock"
BEST_JUDGEMENT = "Nobody answered; use your best judgement and state it as an assumption."


def open_ticket(event: IssueLabelled, now: datetime, generation: int) -> Turn | None:
    """The ticket of a freshly labelled issue; None if this label by this person requests nothing."""
    if event.label != TRIGGER_LABEL or not event.by.writes:
        return None
    title, removed_title = clean(event.title)
    body, removed_body = clean(event.body)
    ticket = Ticket(
        id=event.ticket,
        repo=event.repo,
        installation=event.installation,
        issue=event.issue,
        generation=generation,
        requester=event.by,
        author=event.author,
        title=title,
        body=body,
        text_digest=hashlib.sha256(f"{event.title}\n{event.body}".encode("utf-8", "surrogatepass")).hexdigest(),
        hidden_removed=removed_title + removed_body,
        opened_at=now,
    )
    turn = Turn(ticket, now)
    turn.because(f"labelled by {event.by.login}, who may write")
    turn.effects.append(ReadRepository(**turn.base_of_effect("read:1")))
    return turn


def repository_read(turn: Turn, event: RepositoryRead) -> None:
    """Start clarifying on the base as it stands now."""
    if turn.ticket.state is not TicketState.OPENED:
        return
    turn.move(
        "read",
        f"read {event.base_ref} at {event.base[:12]}",
        base_ref=event.base_ref,
        base=event.base,
        policy=event.policy,
        policy_note=event.policy_note,
        outline=event.outline,
        single_writer=event.single_writer,
    )
    if not gating.may_steer(turn.ticket, turn.ticket.requester):
        why = f"The policy asks for an admin to label issues, which {turn.ticket.requester.login} is not."
        turn.move("decline", why, note=why)


def repository_refused(turn: Turn, event: RepositoryRefused) -> None:
    """This repository cannot be worked on."""
    if turn.ticket.state is TicketState.OPENED:
        turn.move("decline", event.reason, note=event.reason)


def advance(turn: Turn) -> None:
    """Clarifying means that exactly one Engineer is at work."""
    ticket = turn.ticket
    if ticket.state is not TicketState.CLARIFYING or ticket.agent_running or ticket.base is None:
        return
    attempt = ticket.engineer_attempt + 1
    turn.because(f"Engineer run {attempt}")
    turn.effects.append(
        RunAgent(
            **turn.base_of_effect(f"engineer:{attempt}"),
            role="engineer",
            attempt=attempt,
            base=ticket.base,
            title=ticket.title,
            body=ticket.body,
            questions=ticket.questions,
            outline=ticket.outline,
            checks=ticket.policy.checks,
            first_question=len(ticket.questions) + 1,
            limits=ticket.policy.limits,
            model=ticket.policy.models.engineer,
        )
    )
    turn.set(agent_running=True, engineer_attempt=attempt)


def questions_asked(turn: Turn, event: QuestionsAsked) -> None:
    """Put the questions to people, numbered over the ticket's life."""
    ticket = turn.ticket
    if ticket.state not in (TicketState.CLARIFYING, TicketState.PLANNING) or not ticket.agent_running:
        return
    start = len(ticket.questions)
    asked = tuple(
        question.model_copy(update={"number": start + index, "answer": None})
        for index, question in enumerate(event.questions, 1)
    )
    deadline = turn.now + timedelta(hours=ticket.policy.questions.deadline_hours)
    turn.add_usage(event.usage)
    turn.move(
        "ask",
        f"{len(asked)} questions",
        questions=ticket.questions + asked,
        agent_running=False,
        failures=0,
        resume=ticket.state,
        wake_at=deadline,
    )
    turn.comment(f"questions:{start + 1}", messages.questions(turn.ticket, asked))


def answered(turn: Turn, event: CommentAdded, number: int | None, text: str) -> bool:
    """A writer answered: all open questions, or the one named. False if no such question is open."""
    answer = Answer(by=event.by.login, at=event.at, text=clean(text)[0])
    wanted = [q for q in turn.ticket.questions if q.answer is None and number in (None, q.number)]
    if turn.ticket.state is not TicketState.ASKING or not wanted:
        return False
    numbers = {question.number for question in wanted}
    turn.set(
        questions=tuple(
            q.model_copy(update={"answer": answer}) if q.number in numbers else q for q in turn.ticket.questions
        )
    )
    turn.because(f"{event.by.login} answered {', '.join(str(n) for n in sorted(numbers))}")
    go_on_when_answered(turn)
    return True


def go_on_when_answered(turn: Turn) -> None:
    """Back to whoever asked, once nothing is open."""
    if any(question.answer is None for question in turn.ticket.questions):
        return
    back = "plan" if turn.ticket.resume is TicketState.PLANNING else "clarify"
    turn.move(back, "all questions are answered", resume=None, wake_at=None, offered=())


def offer(turn: Turn, event: CommentAdded) -> None:
    """Keep what the issue's author says until a writer vouches for it."""
    ticket = turn.ticket
    if ticket.state is TicketState.ASKING and event.by.id == ticket.author.id and event.by.type == "User":
        answer = Answer(by=event.by.login, at=event.at, text=clean(event.body)[0])
        turn.set(offered=(*ticket.offered, answer)[-5:])
        turn.because(f"kept the answer of {event.by.login} until a writer accepts it")


def accept(turn: Turn, event: CommentAdded) -> bool:
    """A writer vouches for the author's answers."""
    if turn.ticket.state is not TicketState.ASKING or not turn.ticket.offered:
        return False
    text = "\n\n".join(answer.text for answer in turn.ticket.offered)
    return answered(turn, event, None, text)


def silence(turn: Turn) -> None:
    """The deadline for answers has passed."""
    ticket = turn.ticket
    if ticket.state is not TicketState.ASKING or ticket.wake_at is None or ticket.wake_at > turn.now:
        return
    if ticket.policy.questions.on_silence == "stop":
        turn.stop("nobody answered in time", f"silence:{len(ticket.questions)}", messages.silence(ticket))
        return
    answer = Answer(by="policy", at=turn.now, text=BEST_JUDGEMENT)
    turn.set(questions=tuple(q if q.answer else q.model_copy(update={"answer": answer}) for q in ticket.questions))
    go_on_when_answered(turn)


def scope_submitted(turn: Turn, event: ScopeSubmitted) -> None:
    """The scope is agreed."""
    if turn.ticket.state is not TicketState.CLARIFYING or not turn.ticket.agent_running:
        return
    turn.add_usage(event.usage)
    turn.move("settle", f"scope agreed: {event.scope.kind}", scope=event.scope, agent_running=False, failures=0)


def declined(turn: Turn, event: AgentDeclined) -> None:
    """The Engineer or the Orchestrator says why this should not be done."""
    if not turn.may("decline") or not turn.ticket.agent_running:
        return
    turn.add_usage(event.usage)
    turn.move("decline", "declined by the agent", note=event.reason, agent_running=False)
    turn.comment("declined", messages.declined(turn.ticket, event.reason))


def failed(turn: Turn, event: AgentFailed, limit: int) -> None:
    """A run of the Engineer or the Orchestrator gave no answer: try again, then ask a person."""
    ticket = turn.ticket
    if ticket.state not in (TicketState.CLARIFYING, TicketState.PLANNING) or not ticket.agent_running:
        return
    turn.add_usage(event.usage)
    turn.set(agent_running=False, faults=event.faults)
    if event.interrupted and ticket.interrupted < INTERRUPTED_LIMIT:
        turn.set(interrupted=ticket.interrupted + 1)
        turn.because("the run was cut by a restart")
        return
    failures = ticket.failures + 1
    turn.set(failures=failures)
    turn.because(f"no answer ({failures} of {limit}): {event.reason}")
    if failures >= limit:
        attempt = ticket.engineer_attempt + ticket.orchestrator_attempt
        turn.stop(event.reason, f"agent-failed:{attempt}", messages.agent_failed(ticket, event.reason), failures=0)
