"""Performs agent runs: workspace, prompt, session, then our own judgement of what came out. Also stops them.

A run is never continued after a restart of ours: its processes died with us. It is answered as interrupted, which
costs no attempt, and the ticket starts the next one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pygit2

from bot.errors import Transient
from bot.ports import Checker, Clock, Faults, Harness, Lease, Performed, Remote
from bot.rules import risk
from bot.runners import context, workspace
from bot.runners.collect import collect, tree_of
from bot.runners.sandbox import Sandbox
from bot.runners.tools import PlanningAnswers, WorkAnswers
from bot.runners.transcripts import Transcript, file_name
from schemas import events as e
from schemas.agent import Activity, AgentEnd, AgentJob, AgentOutcome, Context, Prompt
from schemas.base import Evidence, RepoRef
from schemas.change_request import ChangeRequest
from schemas.effects import CancelRuns, Effect, RunAgent

_SENTENCES = {
    AgentEnd.TEXT: "the agent ended without an answer",
    AgentEnd.DEADLINE: "the agent ran out of time",
    AgentEnd.IDLE: "the agent fell silent",
    AgentEnd.BUDGET: "the run's budget is used up",
    AgentEnd.MODEL_ERROR: "the model gave no answer",
    AgentEnd.DIED: "the agent's process died",
}


@dataclass(kw_only=True, eq=False)
class AgentRuns:
    """Performs `run_agent`; the loop asks for as many at a time as the settings allow."""

    harness: Harness
    remotes: Callable[[RepoRef, int], Awaitable[Remote]]
    sandbox: Sandbox
    checker: Checker
    logs: Path
    clock: Clock
    faults: Faults
    write_prompt: Callable[[RunAgent, Context], Prompt]
    kinds = frozenset({"run_agent"})
    _running: dict[str, asyncio.Task[Performed]] = field(default_factory=dict, init=False)

    async def perform(self, effect: Effect, lease: Lease) -> Performed:
        """See bot.ports.Performer."""
        assert isinstance(effect, RunAgent)
        if lease.interrupted:
            return Performed(_failed(effect, Evidence(reason="cut by a restart"), interrupted=True))
        name = f"{effect.task.id if effect.task else f'{effect.ticket}/{effect.role}'}.{effect.attempt}"
        work = self._running[name] = asyncio.create_task(self._run(effect, name))
        work.add_done_callback(lambda _: self._running.pop(name))
        try:
            await asyncio.wait({work})
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        if work.cancelled():
            return Performed(_failed(effect, Evidence(reason="stopped by a person"), interrupted=True))
        return work.result()

    async def cancel(self, ticket: str, task: str = "") -> None:
        """Stop a ticket's runs (or one task's) and wait until their processes are dead."""
        prefix = f"{task}." if task else f"{ticket}/"
        chosen = [work for name, work in self._running.items() if name.startswith(prefix)]
        for work in chosen:
            work.cancel()
        await asyncio.gather(*chosen, return_exceptions=True)

    async def _run(self, effect: RunAgent, name: str) -> Performed:
        git_dir = await self._fetched(effect)
        folder = self.sandbox.area / f"run-{file_name(name)}"
        transcript = Transcript(self.logs, name, self.clock)
        try:
            space = await asyncio.to_thread(workspace.prepare, git_dir, effect.base, folder)
            answers = WorkAnswers(effect, effect.task, space) if effect.task else PlanningAnswers(effect, space)
            prompt = self.write_prompt(effect, await asyncio.to_thread(context.read, space, effect))
            job = AgentJob(
                run=name, role=effect.role, prompt=prompt.text, nudge=prompt.nudge, model=effect.model,
                deadline_seconds=effect.limits.minutes * 60, max_tokens=effect.limits.tokens,
            )  # fmt: skip
            self.faults.reach(f"run:{effect.role}:before")
            outcome = await self.harness.run(job, space.folder, answers.tools(), transcript.add)
            if isinstance(answers, PlanningAnswers):
                event = answers.outcome(_sentence(outcome))
            else:
                event = await self._judge(answers, outcome, transcript)
            self.faults.reach(f"run:{effect.role}:after")
            return Performed(event.model_copy(update={"usage": outcome.usage}), shown=prompt.text)
        finally:
            transcript.close()
            await asyncio.to_thread(workspace.remove, folder)

    async def _fetched(self, effect: RunAgent) -> Path:
        """The git dir that holds the run's base."""
        remote = await self.remotes(effect.repo, effect.installation)
        if effect.base not in pygit2.Repository(str(remote.git_dir)):
            number = effect.ticket.rsplit("#", 1)[1]
            await remote.head(f"refs/heads/interlock/{number.replace('~', '-')}")
            if effect.base not in pygit2.Repository(str(remote.git_dir)):
                raise Transient(f"the commit {effect.base} cannot be fetched any more")
        return remote.git_dir

    async def _judge(self, answers: WorkAnswers, outcome: AgentOutcome, transcript: Transcript) -> e.Event:
        """What a Developer's work is worth: collected and checked anew, whatever was said during the run."""
        effect, task, space = answers.effect, answers.task, answers.space
        if answers.gave_up:
            return _failed(effect, Evidence(reason=f"the agent gave up: {answers.gave_up}"), gave_up=True)
        if outcome.end is not AgentEnd.TOOL:
            return _failed(effect, Evidence(reason=_sentence(outcome)))
        collected = await asyncio.to_thread(collect, space, effect.limits)
        if problem := answers.problem(collected):
            return _failed(effect, Evidence(reason=problem))
        change = ChangeRequest(
            id=f"{task.id}.{effect.attempt}", task=task.id, base=effect.base, title=task.title,
            summary=answers.summary, owns=answers.owns, patch=collected.edits,
        )  # fmt: skip
        checks = tuple({check.name: check for check in (*task.checks, *effect.checks)}.values())
        if checks:
            transcript.add(Activity(kind="note", text=f"running {', '.join(check.name for check in checks)}"))
            tree = await asyncio.to_thread(tree_of, space, change.patch)
            verdict = await self.checker.check(space.git_dir, tree, checks)
            said = f"checks are {verdict.outcome} after {verdict.seconds:.1f} s"
            transcript.add(Activity(kind="note", text=said))
            if verdict.outcome != "green":
                evidence = verdict.evidence or Evidence(reason="the checks could not be run")
                # Our machine's trouble costs the agent no attempt.
                return _failed(effect, evidence, interrupted=verdict.outcome == "unknown")
        return e.RunSucceeded(
            ticket=effect.ticket, task=task.id, attempt=effect.attempt, change=change, summary=answers.summary,
            holds=risk.holds(change.patch, protected=effect.protected, tested=bool(checks)),
        )  # fmt: skip


class RunCanceller:
    """Performs `cancel_runs`: of its own kind, so that it never waits behind the runs that it stops."""

    kinds = frozenset({"cancel_runs"})

    def __init__(self, runs: AgentRuns) -> None:
        self._runs = runs

    async def perform(self, effect: Effect, lease: Lease) -> Performed:
        """See bot.ports.Performer."""
        assert isinstance(effect, CancelRuns)
        await self._runs.cancel(effect.ticket, effect.task)
        return Performed()


def _sentence(outcome: AgentOutcome) -> str:
    sentence = _SENTENCES.get(outcome.end, "the agent gave no answer")
    return f"{sentence}: {outcome.error}" if outcome.error else sentence


def _failed(effect: RunAgent, evidence: Evidence, *, interrupted: bool = False, gave_up: bool = False) -> e.Event:
    if effect.task is None:
        return e.AgentFailed(ticket=effect.ticket, reason=evidence.reason, interrupted=interrupted)
    return e.RunFailed(
        ticket=effect.ticket, task=effect.task.id, attempt=effect.attempt, evidence=evidence, interrupted=interrupted,
        gave_up=gave_up,
    )  # fmt: skip
