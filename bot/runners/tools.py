"""Our tools, as each role is offered them: an agent's only way to answer.

An `Answers` belongs to one run. It keeps the answer that ended the run; the performer makes an event of it.
"""

import asyncio

import pygit2

from bot.ports import Tool, ToolAnswer
from bot.rules import ownership, paths, planning
from bot.rules.impact import Graph
from bot.runners.collect import Collected, collect
from bot.runners.impact import MEMORY, survey
from bot.runners.workspace import Workspace
from schemas import answers as a
from schemas import events as e
from schemas.effects import RunAgent
from schemas.plan import Fault, Plan, Question, Scope, Task

FAULT_ROUNDS = 2
FILES_GRANTED = 5
NOTES_SHOWN = 2
SURVEY_SECONDS = 30


class PlanningAnswers:
    """Engineer and Orchestrator: the event that their answer makes."""

    def __init__(self, effect: RunAgent, space: Workspace) -> None:
        self._effect, self._ticket, self._space, self._rounds = effect, effect.ticket, space, 0
        self._rules = planning.PlanRules(max_tasks=effect.max_tasks, limits=effect.limits, shared=effect.shared)
        self._event: e.Event | None = None
        self._faults: tuple[Fault, ...] = ()
        self._graph: Graph | None = None

    def outcome(self, otherwise: str) -> e.Event:
        """What the answer became; `otherwise` says why there was none."""
        return self._event or e.AgentFailed(ticket=self._ticket, reason=otherwise, faults=self._faults)

    def tools(self) -> list[Tool]:
        """What this role may call."""
        ask = Tool("ask_questions", "Ask the people behind the issue; ends your run.", a.AskQuestions, self._ask)
        decline = Tool("decline", "Say why this should not be done; ends your run.", a.Decline, self._decline)
        if self._effect.role == "engineer":
            scope = Tool("submit_scope", "Settle what is to be done; ends your run.", a.SubmitScope, self._scope)
            return [ask, scope, decline]
        plan = Tool("submit_plan", "Submit the tasks; answers with faults, or ends your run.", a.SubmitPlan, self._plan)
        return [plan, ask, decline]

    def _end(self, event: e.Event, text: str) -> ToolAnswer:
        self._event = event
        return ToolAnswer(text, ends=True)

    async def _ask(self, said: a.AskQuestions) -> ToolAnswer:
        numbered = enumerate(said.questions, self._effect.first_question)
        questions = tuple(Question(number=number, **asked.model_dump(exclude={"id"})) for number, asked in numbered)
        event = e.QuestionsAsked(ticket=self._ticket, questions=questions)
        return self._end(event, "The questions were put to people.")

    async def _scope(self, said: a.SubmitScope) -> ToolAnswer:
        scope = Scope(**said.model_dump())
        return self._end(e.ScopeSubmitted(ticket=self._ticket, scope=scope), "The scope is settled.")

    async def _decline(self, said: a.Decline) -> ToolAnswer:
        return self._end(e.AgentDeclined(ticket=self._ticket, reason=said.reason), "Noted.")

    async def _plan(self, said: a.SubmitPlan) -> ToolAnswer:
        self._rounds += 1
        self._faults = planning.submission_faults(said)
        if not self._faults:
            plan = planning.from_submission(said, self._ticket, self._effect.base, self._effect.first_task, self._rules)
            if answer := await asyncio.to_thread(self._judge, plan):
                return answer
        lines = "\n".join(f"- {fault.rule}: {fault.message}" for fault in self._faults)
        if self._rounds <= FAULT_ROUNDS:
            keys = ", ".join(f"task {n} is {task.key!r}" for n, task in enumerate(said.tasks, self._effect.first_task))
            return ToolAnswer(f"The plan has faults; mend them and submit it again ({keys}):\n{lines}", ok=False)
        failed = self.outcome(f"the plan still has faults: {self._faults[0].message}")
        return self._end(failed, f"The plan still has faults:\n{lines}")

    def _judge(self, plan: Plan) -> ToolAnswer | None:
        """The plan accepted, mended if it was the last chance; None if it has faults. Takes a while: not on the loop."""
        graph = self._graph = self._graph or self._survey()
        self._faults = planning.faults(plan, graph, self._rules)
        serialised: tuple[str, ...] = ()
        if self._faults:
            mended = planning.repair(plan, graph, self._rules) if self._rounds > FAULT_ROUNDS else None
            if mended is None:
                return None
            plan, serialised = mended, ("Tasks that met in a file were put one after the other.",)
        known = ownership.notes(plan, graph)[:NOTES_SHOWN]
        return self._accept(plan, *serialised, *(f"Note: {note.message}." for note in known))

    def _survey(self) -> Graph:
        """The base's graph; without its imports where they cannot be had."""
        space = self._space
        try:
            return survey(space.git_dir, space.tree, space.git_dir / MEMORY, seconds=SURVEY_SECONDS)
        except (OSError, KeyError, ValueError, RecursionError, pygit2.GitError):
            return Graph(dict.fromkeys(space.named, 0))

    def _accept(self, plan: Plan, *notes: str) -> ToolAnswer:
        return self._end(e.PlanSubmitted(ticket=self._ticket, plan=plan, notes=notes), "The plan is accepted.")


class WorkAnswers:
    """Developer and rework: finish, ask for a file, or give up. `owns` grows by what was granted."""

    def __init__(self, effect: RunAgent, task: Task, space: Workspace) -> None:
        self.effect, self.task, self.space = effect, task, space
        self.owns: tuple[str, ...] = task.owns
        self.summary, self.gave_up = "", ""

    def tools(self) -> list[Tool]:
        """What this role may call."""
        return [
            Tool("finish", "The work is done; looks at your changes and ends your run.", a.Finish, self._finish),
            Tool("request_file", "Ask for one further file that you must change.", a.RequestFile, self._request),
            Tool("give_up", "Say why this cannot be done; ends your run.", a.GiveUp, self._give_up),
        ]

    async def _finish(self, said: a.Finish) -> ToolAnswer:
        if problem := self.problem(await asyncio.to_thread(collect, self.space, self.effect.limits)):
            return ToolAnswer(problem, ok=False)
        self.summary = said.summary
        return ToolAnswer("Taken.", ends=True)

    def problem(self, collected: Collected) -> str:
        """What an agent must mend before its work can be taken; empty if nothing."""
        if collected.problems:
            return "This cannot be taken: " + "; ".join(collected.problems)
        if outside := paths.overreach(collected.paths, self.owns):
            said = f"You changed files outside of what you own: {', '.join(outside[:10])}. Put them back as they were"
            how = "(git checkout -- FILE, or remove new ones), or ask with request_file."
            return f"{said} {how} You own: {', '.join(self.owns)}"
        return "" if collected.edits else "Nothing was changed: do the work first, or call give_up."

    async def _request(self, said: a.RequestFile) -> ToolAnswer:
        path, effect = said.path, self.effect
        reason = paths.refusal(path, siblings=effect.siblings, protected=effect.protected, shared=effect.shared)
        if reason is None and len(self.owns) - len(self.task.owns) >= FILES_GRANTED:
            reason = f"{FILES_GRANTED} further files are the most"
        if reason is not None:
            return ToolAnswer(f"Not granted: {reason}.", ok=False)
        if path not in self.owns:
            self.owns = (*self.owns, path)
        return ToolAnswer(f"Granted: you own {path} now.")

    async def _give_up(self, said: a.GiveUp) -> ToolAnswer:
        self.gave_up = said.reason
        return ToolAnswer("Noted.", ends=True)
