"""Performs agent runs: workspace, prompt, session with its transcript, then our own judgement of what came out.

A run is never continued after a restart of ours: its processes died with us. It is answered as interrupted, which
costs no attempt, and the ticket starts the next one. Also stops runs.
"""

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pygit2

from bot.errors import Transient
from bot.ports import Checker, Clock, Faults, Harness, Lease, Performed, Remotes
from bot.rules import budgets, risk, sanitise
from bot.runners.collect import collect, tree_of
from bot.runners.environment import Environments
from bot.runners.layers import Trees
from bot.runners.tools import PlanningAnswers, WorkAnswers
from bot.runners.workspace import Workspace
from schemas import events as e
from schemas.agent import Activity, AgentEnd, AgentJob, AgentOutcome, Context, Prompt
from schemas.base import Evidence
from schemas.change_request import ChangeRequest
from schemas.effects import CancelRuns, Effect, RunAgent

PROMPT_TOKENS = 40_000
LINE_CHARACTERS, FILE_BYTES = 8000, 20 * 2**20
_SENTENCES = {
    AgentEnd.TEXT: "the agent ended without an answer",
    AgentEnd.DEADLINE: "the agent ran out of time",
    AgentEnd.IDLE: "the agent fell silent",
    AgentEnd.BUDGET: "the run's budget is used up",
    AgentEnd.MODEL_ERROR: "the model gave no answer",
    AgentEnd.DIED: "the agent's process died",
}


class Transcript:
    """What an agent did, line by line, without secrets: what `interlock logs` shows. Stops growing at 20 MiB."""

    def __init__(self, path: Path, clock: Clock) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._clock, self._left, self.file = clock, FILE_BYTES, path.open("a", encoding="utf-8")

    def __enter__(self) -> "Transcript":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def add(self, activity: Activity) -> None:
        """One line, while the run goes on."""
        if self._left < 0:
            return
        text = sanitise.redacted(activity.text)[:LINE_CHARACTERS]
        line = json.dumps({"at": self._clock.wall().isoformat(), "kind": activity.kind, "text": text})
        self._left -= len(line)
        if self._left < 0:
            line = json.dumps({"kind": "note", "text": "the transcript is full: the rest is not kept"})
        print(line, file=self.file, flush=True)


@dataclass(kw_only=True, eq=False)
class AgentRuns:
    """Performs `run_agent`; the loop asks for as many at a time as the settings allow."""

    harness: Harness
    remotes: Remotes
    area: Path
    trees: Trees
    environments: Environments
    checker: Checker
    logs: Path
    clock: Clock
    faults: Faults
    write_prompt: Callable[[RunAgent, Context], Prompt]
    kinds = frozenset({"run_agent"})
    running: dict[str, asyncio.Task[Performed]] = field(default_factory=dict, init=False)

    async def perform(self, effect: Effect, lease: Lease) -> Performed:
        """See bot.ports.Performer."""
        assert isinstance(effect, RunAgent)
        if lease.interrupted:
            return Performed(_failed(effect, Evidence(reason="cut by a restart"), interrupted=True))
        name = f"{effect.task.id if effect.task else f'{effect.ticket}/{effect.role}'}.{effect.attempt}"
        work = self.running[name] = asyncio.create_task(self._run(effect, name))
        work.add_done_callback(lambda _: self.running.pop(name))
        try:
            await asyncio.wait({work})
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        if work.cancelled():
            return Performed(_failed(effect, Evidence(reason="stopped by a person"), interrupted=True))
        return work.result()

    async def _run(self, effect: RunAgent, name: str) -> Performed:
        git_dir = await self._fetched(effect)
        plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)
        folder = self.area / f"run-{plain}"
        with Transcript(self.logs / f"{plain}.jsonl", self.clock) as transcript:
            async with (
                self.trees.workspace(git_dir, effect.base, folder, git=True) as space,
                self.environments.lent(space, effect.environment),
            ):
                return await self._session(effect, name, space, transcript)

    async def _session(self, effect: RunAgent, name: str, space: Workspace, transcript: Transcript) -> Performed:
        """One session in its workspace, and what came of it."""
        answers = WorkAnswers(effect, effect.task, space) if effect.task else PlanningAnswers(effect, space)
        wanted = space.texts((effect.task.owns, effect.task.reads) if effect.task else ())
        budget = min(PROMPT_TOKENS, effect.limits.tokens // 4)
        prompt = self.write_prompt(effect, await asyncio.to_thread(budgets.pack, wanted, budget))
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
        change = ChangeRequest(id=f"{task.id}.{effect.attempt}", task=task.id, base=effect.base, title=task.title,
                               summary=answers.summary, owns=answers.owns, patch=collected.edits)  # fmt: skip
        checks = tuple({check.command: check for check in (*task.checks, *effect.checks)}.values())
        if checks:
            transcript.add(Activity(kind="note", text=f"running {', '.join(check.name for check in checks)}"))
            tree = await asyncio.to_thread(tree_of, space, change.patch)
            verdict = await self.checker.check(space.git_dir, tree, checks, effect.environment)
            transcript.add(Activity(kind="note", text=f"checks are {verdict.outcome} after {verdict.seconds:.1f} s"))
            if verdict.outcome != "green":
                evidence = verdict.evidence or Evidence(reason="the checks could not be run")
                # Our machine's trouble costs the agent no attempt.
                return _failed(effect, evidence, interrupted=verdict.outcome == "unknown")
        return e.RunSucceeded(
            ticket=effect.ticket, task=task.id, attempt=effect.attempt, change=change, summary=answers.summary,
            holds=risk.holds(change.patch, protected=effect.protected, tested=bool(checks)),
        )  # fmt: skip


@dataclass
class RunCanceller:
    """Performs `cancel_runs`: of its own kind, so that it never waits behind the runs that it stops."""

    runs: AgentRuns
    kinds = frozenset({"cancel_runs"})

    async def perform(self, effect: Effect, lease: Lease) -> Performed:
        """Stops a ticket's runs (or one task's) and waits until their processes are dead. See bot.ports.Performer."""
        assert isinstance(effect, CancelRuns)
        prefix = f"{effect.task}." if effect.task else f"{effect.ticket}/"
        chosen = [work for name, work in self.runs.running.items() if name.startswith(prefix)]
        for work in chosen:
            work.cancel()
        await asyncio.gather(*chosen, return_exceptions=True)
        return Performed()


def _sentence(outcome: AgentOutcome) -> str:
    sentence = _SENTENCES.get(outcome.end, "the agent gave no answer")
    return f"{sentence}: {outcome.error}" if outcome.error else sentence


def _failed(effect: RunAgent, evidence: Evidence, *, interrupted: bool = False, gave_up: bool = False) -> e.Event:
    if effect.task is None:
        return e.AgentFailed(ticket=effect.ticket, reason=evidence.reason, interrupted=interrupted)
    return e.RunFailed(ticket=effect.ticket, task=effect.task.id, attempt=effect.attempt, evidence=evidence,
                       interrupted=interrupted, gave_up=gave_up)  # fmt: skip
