"""ENGINEER: from a labelled issue and people's answers to an agreed scope.

Reads IssueLabelled, RepositoryRead, RepositoryRefused, QuestionsAsked, ScopeSubmitted, AgentDeclined, AgentFailed,
CommentAdded (answers) and Ticked (silence). Wants ReadRepository, RunAgent and comments. Never waits in memory.
"""

from collections.abc import Set
from datetime import datetime, timedelta

from bot.pipeline import messages, replies, rollback
from bot.pipeline.turn import INTERRUPTED_LIMIT, Said, Turn
from bot.rules import gating
from bot.rules.sanitise import clean
from schemas import events as e
from schemas.effects import ReadRepository
from schemas.plan import Answer
from schemas.ticket import Ticket, TicketState

TRIGGER_LABEL = "interlock"
BEST_JUDGEMENT = "Nobody answered; use your best judgement and state it as an assumption."


def open_ticket(event: e.Event, now: datetime, generation: int) -> Turn | str:
    """The ticket of a freshly labelled issue; a sentence if this event requests nothing."""
    if isinstance(event, e.RollbackAsked):
        return rollback.open_ticket(event, now, generation)
    if not isinstance(event, e.IssueLabelled):
        return f"{event.kind} for a ticket that does not exist"
    if event.label != TRIGGER_LABEL or not event.by.writes:
        return f"label {event.label!r} by {event.by.login} requests nothing"
    title, removed_title = clean(event.title)
    body, removed_body = clean(event.body)
    ticket = Ticket(
        id=event.ticket, repo=event.repo, installation=event.installation, issue=event.issue, generation=generation,
        requester=event.by, author=event.author, title=title, body=body, opened_at=now,
        hidden_removed=removed_title + removed_body,
    )  # fmt: skip
    turn = Turn(ticket, now)
    turn.because(f"labelled by {event.by.login}, who may write")
    turn.want(ReadRepository, "read:1")
    return turn


def repository_read(turn: Turn, event: e.RepositoryRead) -> None:
    """Start clarifying on the base as it stands now."""
    if turn.ticket.state is not TicketState.OPENED:
        return
    turn.set(
        base_ref=event.base_ref, base=event.base, policy=event.policy, policy_note=event.policy_note,
        outline=event.outline, single_writer=event.single_writer,
    )  # fmt: skip
    if gating.may_steer(turn.ticket, turn.ticket.requester):
        action = "take back" if turn.ticket.rolls_back else "read"
        turn.move(action, f"read {event.base_ref} at {event.base[:12]}")
    else:
        why = f"The policy asks for an admin to label issues, which {turn.ticket.requester.login} is not."
        turn.move("decline", why, note=why)


def repository_refused(turn: Turn, event: e.RepositoryRefused) -> None:
    """This repository cannot be worked on."""
    if turn.ticket.state is TicketState.OPENED:
        turn.move("decline", event.reason, note=event.reason)


def advance(turn: Turn) -> None:
    """Clarifying means that exactly one Engineer is at work."""
    if turn.ticket.state is TicketState.CLARIFYING and not turn.ticket.agent_running:
        attempt = turn.ticket.engineer_attempt + 1
        turn.call_agent("engineer", attempt, turn.ticket.policy.models.engineer)
        turn.set(engineer_attempt=attempt)


def questions_asked(turn: Turn, event: e.QuestionsAsked) -> None:
    """Put the questions to people, numbered over the ticket's life."""
    ticket = turn.ticket
    if not turn.agent_ended(event.usage):
        return
    first = len(ticket.questions) + 1
    asked = tuple(q.model_copy(update={"number": n, "answer": None}) for n, q in enumerate(event.questions, first))
    turn.move("ask", f"{len(asked)} questions", questions=ticket.questions + asked, failures=0)
    wait_for_answers(turn)
    turn.comment(f"questions:{first}", messages.questions(ticket, asked))


def answer(turn: Turn, event: Said, rest: str) -> str:
    """A writer answers the question whose number comes first. Returns the reply, empty if there is nothing to say."""
    number, text = (*rest.split(maxsplit=1), "", "")[:2]
    if number and answered(turn, event, text, number):
        return ""
    return replies.NO_SUCH_QUESTION


def answered(turn: Turn, event: Said, text: str, number: str = "") -> bool:
    """A writer answered: all open questions, or the one named. False if no such question is open."""
    wanted = {q.number for q in turn.ticket.questions if q.answer is None and number in ("", str(q.number))}
    if turn.ticket.state is not TicketState.ASKING or not wanted:
        return False
    turn.because(f"{event.by.login} answered {', '.join(str(n) for n in sorted(wanted))}")
    _record(turn, wanted, Answer(by=event.by.login, at=event.at, text=clean(text)[0]))
    return True


def _record(turn: Turn, numbers: Set[int], said: Answer) -> None:
    questions = turn.ticket.questions
    turn.set(questions=tuple(q.model_copy(update={"answer": said}) if q.number in numbers else q for q in questions))
    wait_for_answers(turn)


def wait_for_answers(turn: Turn) -> None:
    """Back to whoever asked, once nothing is open; until then, for as long as the policy has patience."""
    if all(question.answer for question in turn.ticket.questions):
        back = "plan" if turn.ticket.scope else "clarify"
        turn.move(back, "all questions are answered", wake_at=None, offered=())
    else:
        turn.set(wake_at=turn.now + timedelta(hours=turn.ticket.policy.questions.deadline_hours))


def offer(turn: Turn, event: e.CommentAdded) -> None:
    """Keep what the issue's author says until a writer vouches for it."""
    ticket = turn.ticket
    if ticket.state is TicketState.ASKING and event.by.id == ticket.author.id and event.by.type == "User":
        offered = Answer(by=event.by.login, at=event.at, text=clean(event.body)[0])
        turn.set(offered=(*ticket.offered, offered)[-5:])
        turn.because(f"kept the answer of {event.by.login} until a writer accepts it")


def accept(turn: Turn, event: Said, rest: str) -> str:
    """A writer vouches for the author's answers."""
    text = "\n\n".join(offered.text for offered in turn.ticket.offered)
    if turn.ticket.offered and answered(turn, event, text):
        return ""
    return replies.NOTHING_OFFERED


def silence(turn: Turn, event: e.Ticked) -> None:
    """The deadline for answers has passed."""
    ticket = turn.ticket
    if ticket.state is not TicketState.ASKING or ticket.wake_at is None or ticket.wake_at > turn.now:
        return
    if ticket.policy.questions.on_silence == "stop":
        turn.stop_and_ask("nobody answered in time", f"silence:{len(ticket.questions)}", messages.silence(ticket))
        return
    open_ones = {question.number for question in ticket.questions if question.answer is None}
    _record(turn, open_ones, Answer(by="policy", at=turn.now, text=BEST_JUDGEMENT))


def scope_submitted(turn: Turn, event: e.ScopeSubmitted) -> None:
    """The scope is agreed."""
    if turn.agent_ended(event.usage, TicketState.CLARIFYING):
        turn.move("settle", f"scope agreed: {event.scope.kind}", scope=event.scope, failures=0)


def declined(turn: Turn, event: e.AgentDeclined) -> None:
    """The Engineer or the Orchestrator says why this should not be done."""
    if turn.agent_ended(event.usage):
        turn.move("decline", "declined by the agent", note=event.reason)
        turn.comment("declined", messages.declined(turn.ticket, event.reason))


def failed(turn: Turn, event: e.AgentFailed) -> None:
    """A run of the Engineer or the Orchestrator gave no answer: try again, then ask a person."""
    ticket = turn.ticket
    if not turn.agent_ended(event.usage):
        return
    turn.set(faults=event.faults)
    if event.interrupted and ticket.interrupted < INTERRUPTED_LIMIT:
        turn.set(interrupted=ticket.interrupted + 1)
        turn.because("the run was cut by a restart")
        return
    attempts, failures = ticket.policy.attempts, ticket.failures + 1
    limit = attempts.plan if ticket.state is TicketState.PLANNING else attempts.scope
    turn.set(failures=failures)
    turn.because(f"no answer ({failures} of {limit}): {event.reason}")
    if failures >= limit:
        attempt = ticket.engineer_attempt + ticket.orchestrator_attempt
        turn.stop_and_ask(event.reason, f"agent-failed:{attempt}", messages.agent_failed(event.reason))
