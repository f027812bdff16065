"""What makes a plan good: faults as sentences that an agent can act on, and a mechanical repair.

Two tasks may run together unless one comes after the other, directly or through others. Whatever may run together
must own disjoint files; that is decided on the patterns, exactly, so that it holds for files that do not exist yet.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from itertools import combinations, permutations, product

from bot.rules import globs, ownership, paths
from bot.rules.impact import Graph
from bot.rules.ownership import ancestors, number
from bot.rules.reasons import first
from schemas.answers import SubmitPlan
from schemas.base import CheckCommand, Frozen, Glob
from schemas.plan import Fault, Limits, Plan, Task


class PlanRules(Frozen):
    """What the policy says about plans."""

    max_tasks: int = 12
    limits: Limits = Limits()
    shared: tuple[Glob, ...] = ()


def submission_faults(submitted: SubmitPlan) -> tuple[Fault, ...]:
    """What must be right before keys can become task ids."""
    return reference_faults([(task.key, task.after) for task in submitted.tasks])


def reference_faults(tasks: Sequence[tuple[str, Sequence[str]]]) -> tuple[Fault, ...]:
    """What is wrong with the names of tasks and of those that they come after."""
    keys = [key for key, _ in tasks]
    found = [
        Fault(rule="duplicate-key", task=key, message=f"two tasks have the key {key!r}: give each its own")
        for key in sorted({key for key in keys if keys.count(key) > 1})
    ]
    for key, after in tasks:
        for other in after:
            if other not in keys:
                message = f"{key!r} comes after {other!r}, which is no task's key; there are {', '.join(keys)}"
                found.append(Fault(rule="unknown-after", task=key, message=message))
            elif other == key:
                found.append(Fault(rule="cycle", task=key, message=f"{key!r} comes after itself"))
    return tuple(found)


def from_submission(submitted: SubmitPlan, ticket: str, base: str, first_task: int, rules: PlanRules) -> Plan:
    """The plan of a submission without `submission_faults`: keys become numbers that this ticket never used before."""
    ids = {task.key: f"{ticket}/{number}" for number, task in enumerate(submitted.tasks, first_task)}
    tasks = tuple(
        Task(
            id=ids[task.key], ticket=ticket, kind=task.kind, title=task.title, brief=task.brief, limits=rules.limits,
            owns=_once(task.owns), reads=_once(task.reads), after=_once(ids[key] for key in task.after),
            checks=tuple(CheckCommand(name=check.name, command=check.command) for check in task.checks),
        )
        for task in submitted.tasks
    )  # fmt: skip
    return hashed(Plan(ticket=ticket, base=base, tasks=tasks, shared=_once(submitted.shared)))


def _once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def hashed(plan: Plan) -> Plan:
    """The plan with its hash: what a person approves, bound to every other byte of it."""
    content = plan.model_dump(mode="json", exclude={"hash"})
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return plan.model_copy(update={"hash": hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()})


def faults(plan: Plan, graph: Graph, rules: PlanRules) -> tuple[Fault, ...]:
    """Everything that is wrong with a plan for this tree; empty if it may be built. A graph without imports will do."""
    if len(plan.tasks) > rules.max_tasks:
        message = f"{len(plan.tasks)} tasks are more than the {rules.max_tasks} allowed: merge the smallest"
        found = [Fault(rule="too-many-tasks", message=message)]
    else:
        found = [fault for task in plan.tasks for fault in _patterns(task, graph.files)]
    before = ancestors(plan.tasks)
    looped = [task.id for task in plan.tasks if task.id in before[task.id]]
    if looped:
        message = f"{', '.join(map(number, looped))} wait for each other: take one `after` away"
        return (*found, Fault(rule="cycle", message=message))
    if found:
        return tuple(found)
    meeting = (*_overlaps(plan, before), *_shared(plan, before, rules), *_reads(plan, before))
    return (*meeting, *ownership.faults(plan, graph, before))


def waves(plan: Plan) -> list[list[str]]:
    """The tasks in the order in which they may start: each wave needs only those before it. None that wait for a cycle."""
    before = ancestors(plan.tasks)
    found: list[list[str]] = []
    done: set[str] = set()
    while wave := [task.id for task in plan.tasks if task.id not in done and before[task.id] <= done]:
        found.append(wave)
        done.update(wave)
    return found


def independent_share(plan: Plan, found: Sequence[Fault] = ()) -> float:
    """The part of the tasks that wait for none and have none of these faults: they own disjoint files, nothing shared."""
    wrong = {fault.task for fault in found}
    return sum(not task.after and task.id not in wrong for task in plan.tasks) / len(plan.tasks)


def _patterns(task: Task, files: Collection[str]) -> Iterable[Fault]:
    for glob in (*task.owns, *task.reads):
        if reason := globs.check(glob):
            yield Fault(rule="glob", task=task.id, message=reason)
    for glob in task.owns:
        if globs.check(glob):
            continue
        if globs.literal(glob):
            if glob not in files and (reason := _uncreatable(glob, files)):
                yield Fault(rule="path", task=task.id, message=f"{glob!r} cannot be created: {reason}")
        elif not any(globs.match(glob, path) for path in files) and not _new_folder(glob, files):
            message = f"{glob!r} matches no file: name the files that will be new, or correct the pattern"
            yield Fault(rule="owns-nothing", task=task.id, message=message)


def _uncreatable(path: str, files: Collection[str]) -> str | None:
    """Why a path that is no file cannot become one; None if it can."""
    parents = [path[:index] for index, char in enumerate(path) if char == "/"]
    return first(
        (any(one.startswith(f"{path}/") for one in files), f"it is a folder, write '{path}/**' for all below it"),
        *((parent in files, f"{parent!r} is a file") for parent in parents),
    ) or paths.fault(path)


def _new_folder(glob: str, files: Collection[str]) -> bool:
    """Whether the pattern starts with a folder that does not exist: such a folder is declared new."""
    head = glob.split("/", 1)[0]
    return "/" in glob and globs.literal(head) and not any(path.startswith(f"{head}/") for path in files)


def _concurrent(one: Task, other: Task, before: dict[str, set[str]]) -> bool:
    return one.id not in before[other.id] and other.id not in before[one.id]


def _meeting(one: Iterable[str], other: Iterable[str]) -> tuple[str, str] | None:
    return next((pair for pair in product(one, other) if not globs.disjoint(*pair)), None)


def _overlaps(plan: Plan, before: dict[str, set[str]]) -> Iterable[Fault]:
    for one, other in combinations(plan.tasks, 2):
        if _concurrent(one, other, before) and (pair := _meeting(one.owns, other.owns)):
            same = f"both own {pair[0]!r}" if pair[0] == pair[1] else f"own {pair[0]!r} and {pair[1]!r}, which can meet"
            what = f"tasks {number(one.id)} and {number(other.id)} may run together but {same}"
            message = f"{what}: give the files to one of them, or put one after the other"
            yield Fault(rule="owns-overlap", task=other.id, message=message)


def _shared(plan: Plan, before: dict[str, set[str]], rules: PlanRules) -> Iterable[Fault]:
    for task in plan.tasks:
        missing = before.keys() - before[task.id] - {task.id}
        if missing and (pair := _meeting(task.owns, (*plan.shared, *rules.shared))):
            what = f"task {number(task.id)} owns the shared {pair[0]!r}"
            numbers = ", ".join(number(one.id) for one in plan.tasks if one.id in missing)
            message = f"{what}, so it must come after all others ({numbers})"
            yield Fault(rule="shared", task=task.id, message=message)


def _reads(plan: Plan, before: dict[str, set[str]]) -> Iterable[Fault]:
    for reader, owner in permutations(plan.tasks, 2):
        if _concurrent(reader, owner, before) and (pair := _meeting(reader.reads, owner.owns)):
            owned = f"{pair[0]!r}, which task {number(owner.id)} changes at the same time"
            message = f"task {number(reader.id)} reads {owned}: put one after the other, or do not read it"
            yield Fault(rule="reads-overlap", task=reader.id, message=message)


def repair(plan: Plan, graph: Graph, rules: PlanRules) -> Plan | None:
    """A plan without faults made by putting tasks after each other; None if that cannot mend it."""
    for _ in range(2 * len(plan.tasks) ** 2 + 1):
        wrong = faults(plan, graph, rules)
        if not wrong:
            return hashed(plan)
        if (changed := _serialised(plan, wrong[0])) is None:
            break
        plan = changed
    return None


def _serialised(plan: Plan, fault: Fault) -> Plan | None:
    """The plan with the fault's task after all that it meets; None if the tasks' order is not what is wrong with it."""
    if fault.rule not in ("owns-overlap", "shared", "reads-overlap"):
        return None
    before = ancestors(plan.tasks)
    late = next(task for task in plan.tasks if task.id == fault.task)
    others = [task for task in plan.tasks if task is not late]
    if fault.rule != "shared":
        mine = late.reads if fault.rule == "reads-overlap" else late.owns
        others = [o for o in others if _concurrent(late, o, before) and _meeting(mine, o.owns)]
    elif any(late.id in before[other.id] for other in others):
        return None
    wanted = {*late.after, *(other.id for other in others)}
    after = tuple(task.id for task in plan.tasks if task.id in wanted)
    changed = late.model_copy(update={"after": after})
    return plan.model_copy(update={"tasks": tuple(changed if task is late else task for task in plan.tasks)})
