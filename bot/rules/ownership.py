"""What a task may own by what the repository already is: kinds, shared files, tests beside what they test.

Faults send a plan back. Notes are shown to people: what the import graph fears, which a plan alone cannot prove.
"""

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from itertools import permutations
from typing import Final

from bot.rules import globs, impact
from bot.rules.budgets import BYTES_PER_TOKEN
from bot.rules.impact import Graph
from bot.rules.risk import is_test
from bot.rules.sources import language
from schemas.plan import Fault, Plan, Task

_CHANGELOG = re.compile(
    r"(change(s|log)|history|news|releases?|release[-_]notes)(\.(md|rst|txt|adoc))?\Z", re.IGNORECASE
)
_DOCS = re.compile(r"(^|/)(docs?|documentation|website)/", re.IGNORECASE)
MOST_NAMED: Final = 3
"""Paths in one sentence."""
MOST_COMPARED: Final = 200
"""Paths that are compared with one that does not exist."""


def number(task_id: str) -> str:
    """A task's number within its ticket."""
    return task_id.rsplit("/", 1)[-1]


def ancestors(tasks: Iterable[Task]) -> dict[str, set[str]]:
    """For each task, all that it comes after, directly or not."""
    found = {task.id: set(task.after) for task in tasks}
    for middle, before in found.items():
        for after in found.values():
            if middle in after:
                after |= before
    return found


def some(paths: Iterable[str]) -> str:
    """A few of the paths, and how many more there are."""
    names = sorted(paths)
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(map(repr, names[:MOST_NAMED])) + more


def owned(task: Task, graph: Graph) -> Sequence[str]:
    """The files that exist and are the task's, then those that it declares new by naming them."""
    if task.owns not in graph.owned:
        patterns = [glob for glob in task.owns if globs.check(glob) is None]
        wide = [glob for glob in patterns if not globs.literal(glob)]
        found = [path for path in graph.files if globs.matches(wide, path)] if wide else []
        graph.owned[task.owns] = list(dict.fromkeys([*found, *filter(globs.literal, patterns)]))
    return graph.owned[task.owns]


def faults(plan: Plan, graph: Graph, before: Mapping[str, set[str]]) -> list[Fault]:
    """What the tree shows to be wrong with a plan whose patterns are sound; `before` are each task's predecessors."""
    mine = {task.id: owned(task, graph) for task in plan.tasks}
    found = [
        one for task in plan.tasks for one in (*_size(task, mine[task.id], graph), *_kind(task, mine[task.id], graph))
    ]
    return [*found, *_missing(plan, graph), *_common(plan, mine, before), *_tests(plan, mine, graph, before)]


def _fault(rule: str, task: Task, message: str) -> Fault:
    return Fault(rule=rule, task=task.id, message=f"task {number(task.id)} {message}")


def _size(task: Task, mine: Sequence[str], graph: Graph) -> Iterable[Fault]:
    limits, tokens = task.limits, sum(graph.files.get(path, 0) for path in mine) // BYTES_PER_TOKEN
    if len(mine) > limits.files:
        what = f"owns {len(mine)} files and may change {limits.files}: name fewer, or split it"
        yield _fault("too-many-files", task, what)
    if tokens > limits.tokens:
        what = (
            f"owns about {tokens} tokens of text, more than its budget of {limits.tokens}: own fewer files, or split it"
        )
        yield _fault("too-many-tokens", task, what)


def _kind(task: Task, mine: Sequence[str], graph: Graph) -> Iterable[Fault]:
    if task.kind == "bugfix" and not task.checks:
        yield _fault("bugfix-check", task, "is a bugfix without a check: add one that fails now and passes after")
    if task.kind == "refactor" and (touched := [glob for glob in task.owns if _only_tests(glob, mine)]):
        what = (
            f"is a refactor, which may not edit tests, but owns {some(touched)}: leave them out, or make it a feature"
        )
        yield _fault("refactor-tests", task, what)
    if code := [path for path in mine if task.kind == "docs" and _code(path, graph)]:
        what = f"is a docs task, which may not touch code, but owns {some(code)}: name the pages, or make it a feature"
        yield _fault("docs-code", task, what)


def _code(path: str, graph: Graph) -> bool:
    """Whether this is more than what builds the pages: in a folder of theirs only what others use or test is code."""
    used = graph.importers.get(path) or graph.tests_of.get(path)
    return language(path) is not None and (bool(used) or not _DOCS.search(path))


def _only_tests(glob: str, mine: Sequence[str]) -> bool:
    """Patterns that also match source code may be meant for that alone."""
    fits = [path for path in mine if globs.match(glob, path)]
    return bool(fits) and all(map(is_test, fits))


def _missing(plan: Plan, graph: Graph) -> Iterable[Fault]:
    made = [glob for task in plan.tasks for glob in task.owns]
    for task in plan.tasks:
        for path in filter(globs.literal, task.reads):
            if path not in graph.files and all(globs.disjoint(path, glob) for glob in made):
                what = f"reads {path!r}, which does not exist and which no task makes: {_instead(path, graph.files)}"
                yield _fault("reads-nothing", task, what)


def _instead(path: str, files: Iterable[str]) -> str:
    """What may have been meant by a path that is no file."""
    if any(one.startswith(f"{path}/") for one in files):
        return f"it is a folder, write '{path}/**' for all files below it"
    folder, name = posixpath.split(path)
    beside = [one for one in files if posixpath.dirname(one) == folder or posixpath.basename(one) == name]
    near = get_close_matches(path, beside[:MOST_COMPARED], 1)
    return f"did you mean {near[0]!r}?" if near else "leave it out"


def common(path: str) -> bool:
    """Whether a file is one that every change to its folder tends to touch: a lock file, a changelog."""
    return impact.lock(path) or _CHANGELOG.match(posixpath.basename(path)) is not None


def _common(plan: Plan, mine: Mapping[str, Sequence[str]], before: Mapping[str, set[str]]) -> Iterable[Fault]:
    """Such a file belongs to a task that follows all those which own something below its folder."""
    for task in plan.tasks:
        for path in filter(common, mine[task.id]):
            folder = posixpath.dirname(path)
            late = {o for o, files in mine.items() if any(not folder or f.startswith(f"{folder}/") for f in files)}
            if missing := late - before[task.id] - {task.id}:
                numbers = ", ".join(number(one.id) for one in plan.tasks if one.id in missing)
                yield _fault("shared", task, f"owns {path!r}, as others may need to: put it after them ({numbers})")
                break


def _tests(
    plan: Plan, mine: Mapping[str, Sequence[str]], graph: Graph, before: Mapping[str, set[str]]
) -> Iterable[Fault]:
    """Tests that are named after a file belong to the task that changes it (a refactor may not: one of them waits)."""
    sets = {name: set(files) for name, files in mine.items()}
    for task, other in permutations(plan.tasks, 2):
        ordered = other.id in before[task.id] or task.id in before[other.id]
        if task.kind == "refactor" and ordered:
            continue
        pairs = ((path, one) for path in mine[task.id] for one in graph.tests_of.get(path, ()) if one in sets[other.id])
        if pair := next((pair for pair in pairs if pair[1] not in sets[task.id]), None):
            what = f"task {number(task.id)} owns {pair[0]!r} but task {number(other.id)} its test {pair[1]!r}"
            yield Fault(rule="tests-apart", task=other.id, message=f"{what}: give both to one task")


def notes(plan: Plan, graph: Graph) -> list[Fault]:
    """What a person should know of a plan without faults: code that uses what a task owns, and that nobody owns or reads;
    tasks that run together although one imports the other.
    """
    before = ancestors(plan.tasks)
    mine = {task.id: set(owned(task, graph)) for task in plan.tasks}
    held = set().union(*mine.values())
    found = []
    for task in plan.tasks:
        users = {one for path in mine[task.id] for one in graph.importers.get(path, ()) if not is_test(one)} - held
        users = {one for one in users if not globs.matches([glob for each in plan.tasks for glob in each.reads], one)}
        if users and task.kind in ("feature", "refactor"):
            message = f"what task {number(task.id)} owns is used by {some(users)}, which no task owns or reads"
            found.append(Fault(rule="dependents", task=task.id, message=message))
    for user, owner in permutations(plan.tasks, 2):
        together = user.id not in before[owner.id] and owner.id not in before[user.id]
        pairs = [(a, b) for a in sorted(mine[user.id]) for b in graph.imports.get(a, ()) if b in mine[owner.id]]
        if together and pairs:
            what = f"{pairs[0][0]!r} of task {number(user.id)} imports {pairs[0][1]!r} of task {number(owner.id)}"
            message = f"{what}, and both may run together: if its interface changes, put one after the other"
            found.append(Fault(rule="imports-together", task=user.id, message=message))
    return found
