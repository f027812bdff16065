"""Performs agent runs: workspace, prompt, session, then our own judgement of what came out. Also stops them.

A run is never continued after a restart of ours: its processes died with us. It is answered as interrupted, which
costs no attempt, and the ticket starts the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path

import pygit2

from bot.errors import Transient
from bot.ports import Clock, Faults, Harness, Performed, Remote
from bot.rules import risk
from bot.runners import context, workspace
from bot.runners.checks import SandboxChecker
from bot.runners.collect import collect
from bot.runners.sandbox import Sandbox
from bot.runners.submission import Submission, submit
from bot.runners.tools import PlanningAnswers, WorkAnswers
from bot.runners.transcripts import Transcript
from bot.runners.workspace import Workspace
from schemas.agent import Activity, AgentEnd, AgentJob, AgentOutcome, Context, Prompt, Usage
from schemas.base import Evidence, RepoRef
from schemas.effects import CancelRuns, Effect, RunAgent
from schemas.events import AgentFailed, Event, RunFailed, RunSucceeded
from schemas.lease import Lease

WritePrompt = Callable[[RunAgent, Context], Prompt]
Remotes = Callable[[RepoRef, int], Awaitable[Remote]]
OnActivity = Callable[[str, Activity], None]

_SENTENCES = {
    AgentEnd.TEXT: "the agent ended without an answer",
    AgentEnd.DEADLINE: "the agent ran out of time",
    AgentEnd.IDLE: "the agent fell silent",
    AgentEnd.BUDGET: "the run's budget is used up",
    AgentEnd.MODEL_ERROR: "the model gave no answer",
    AgentEnd.DIED: "the agent's process died",
}


class AgentRuns:
    """Performs `run_agent`, `slots` at a time over all tickets."""

    kinds = frozenset({"run_agent"})

    def __init__(
        self,
        *,
        harness: Harness,
        remotes: Remotes,
        sandbox: Sandbox,
        checker: SandboxChecker,
        logs: Path,
        clock: Clock,
        faults: Faults,
        write_prompt: WritePrompt,
        slots: int,
        on_activity: OnActivity | None = None,
    ) -> None:
        self._harness, self._remotes, self._sandbox, self._checker = harness, remotes, sandbox, checker
        self._logs, self._clock, self._faults, self._write_prompt = logs, clock, faults, write_prompt
        self._slots = asyncio.Semaphore(slots)
        self._on_activity = on_activity
        self._running: defaultdict[str, dict[str, asyncio.Task[object]]] = defaultdict(dict)

    async def perform(self, effect: Effect, lease: Lease) -> Performed:
        """See bot.ports.Performer."""
        assert isinstance(effect, RunAgent)
        if lease.interrupted:
            return Performed(_failed(effect, Evidence(reason="cut by a restart"), interrupted=True))
        async with self._slots:
            name = run_name(effect)
            work = asyncio.ensure_future(self._run(effect, name))
            self._running[effect.ticket][name] = work
            try:
                return await asyncio.shield(work)
            except asyncio.CancelledError:
                work.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await work
                if asyncio.current_task() is not None and asyncio.current_task().cancelling():  # type: ignore[union-attr]
                    raise
                return Performed(_failed(effect, Evidence(reason="stopped by a person"), interrupted=True))
            finally:
                del self._running[effect.ticket][name]

    async def cancel(self, ticket: str, task: str = "") -> None:
        """Stop a ticket's runs (or one task's) and wait until their processes are dead."""
        chosen = [work for name, work in self._running[ticket].items() if not task or name.startswith(f"{task}.")]
        for work in chosen:
            work.cancel()
        await asyncio.gather(*chosen, return_exceptions=True)

    async def _run(self, effect: RunAgent, name: str) -> Performed:
        remote = await self._remotes(effect.repo, effect.installation)
        if effect.base not in pygit2.Repository(str(remote.git_dir)):
            await remote.head(f"refs/heads/{_branch_of(effect)}")
            if effect.base not in pygit2.Repository(str(remote.git_dir)):
                raise Transient(f"the commit {effect.base} cannot be fetched any more")
        folder = self._sandbox.area / f"run-{re.sub(r'[^A-Za-z0-9._-]', '_', name)}"
        space = await asyncio.to_thread(workspace.prepare, remote.git_dir, effect.base, folder)
        transcript = Transcript(self._logs, name, self._clock)

        def heard(activity: Activity) -> None:
            transcript.add(activity)
            if self._on_activity:
                self._on_activity(name, activity)

        try:
            prompt = self._write_prompt(effect, await asyncio.to_thread(context.read, remote.git_dir, effect))
            job = AgentJob(
                run=name,
                role=effect.role,
                prompt=prompt.text,
                nudge=prompt.nudge,
                model=effect.model,
                deadline_seconds=effect.limits.minutes * 60,
                max_tokens=effect.limits.tokens,
            )
            self._faults.reach(f"run:{effect.role}:before")
            if effect.task is None:
                event = await self._plan(effect, job, space, heard)
            else:
                event = await self._work(effect, job, space, heard)
            self._faults.reach(f"run:{effect.role}:after")
            return Performed(event, shown=prompt.text)
        finally:
            transcript.close()
            await asyncio.to_thread(workspace.remove, folder)

    async def _plan(
        self, effect: RunAgent, job: AgentJob, space: Workspace, heard: Callable[[Activity], None]
    ) -> Event:
        files = await asyncio.to_thread(context.paths, space.git_dir, effect.base)
        answers = PlanningAnswers(effect, files)
        outcome = await self._harness.run(job, space.folder, answers.tools(), heard)
        if answers.event is not None:
            return answers.event.model_copy(update={"usage": outcome.usage})
        return _failed(effect, Evidence(reason=_sentence(outcome)), usage=outcome.usage, faults=answers)

    async def _work(
        self, effect: RunAgent, job: AgentJob, space: Workspace, heard: Callable[[Activity], None]
    ) -> Event:
        answers = WorkAnswers(effect, space)
        outcome = await self._harness.run(job, space.folder, answers.tools(), heard)
        if answers.gave_up:
            evidence = Evidence(reason=f"the agent gave up: {answers.gave_up}")
            return _failed(effect, evidence, gave_up=True, usage=outcome.usage)
        if outcome.end is not AgentEnd.TOOL:
            return _failed(effect, Evidence(reason=_sentence(outcome)), usage=outcome.usage)
        collected = await asyncio.to_thread(collect, space, effect.limits)
        problem = answers.problem(collected)
        if problem:
            return _failed(effect, Evidence(reason=problem), usage=outcome.usage)
        made: Submission = await asyncio.to_thread(submit, effect, answers, collected, space)
        if made.checks:
            heard(Activity(kind="note", text=f"running {', '.join(c.name for c in made.checks)}"))
            verdict = await self._checker.check(space.git_dir, made.tree, made.checks)
            heard(Activity(kind="note", text=f"checks are {verdict.outcome} after {verdict.seconds:.1f} s"))
            if verdict.outcome != "green":
                evidence = verdict.evidence or Evidence(reason="the checks could not be run")
                ours = verdict.outcome == "unknown"  # our machine's trouble costs the agent no attempt
                return _failed(effect, evidence, interrupted=ours, usage=outcome.usage)
        assert effect.task is not None
        held = risk.holds(made.change.patch, protected=effect.protected, tested=bool(made.checks))
        return RunSucceeded(
            ticket=effect.ticket,
            task=effect.task.id,
            attempt=effect.attempt,
            change=made.change,
            holds=held,
            summary=answers.summary,
            usage=outcome.usage,
        )


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


def run_name(effect: RunAgent) -> str:
    """`octo/app#12/3.1`, or `octo/app#12/engineer.1` for a role without a task."""
    return f"{effect.task.id if effect.task else f'{effect.ticket}/{effect.role}'}.{effect.attempt}"


def _branch_of(effect: RunAgent) -> str:
    number = effect.ticket.rsplit("#", 1)[1]
    return f"interlock/{number.replace('~', '-')}"


def _sentence(outcome: AgentOutcome) -> str:
    sentence = _SENTENCES.get(outcome.end, "the agent gave no answer")
    return f"{sentence}: {outcome.error}" if outcome.error else sentence


def _failed(
    effect: RunAgent,
    evidence: Evidence,
    *,
    interrupted: bool = False,
    gave_up: bool = False,
    usage: Usage | None = None,
    faults: PlanningAnswers | None = None,
) -> Event:
    usage = usage or Usage()
    if effect.task is None:
        return AgentFailed(
            ticket=effect.ticket,
            reason=evidence.reason,
            interrupted=interrupted,
            usage=usage,
            faults=faults.faults if faults else (),
        )
    return RunFailed(
        ticket=effect.ticket,
        task=effect.task.id,
        attempt=effect.attempt,
        evidence=evidence,
        interrupted=interrupted,
        gave_up=gave_up,
        usage=usage,
    )
