"""Probes of a real history: does the queue land what git would land, and how much lands without a person?

Each probe is one step of the history, made on an older base and landed on the commit before it. On older bases the queue's
verdict is held against `git merge-tree`. On fresh bases (0 to 1 behind) what conflicts climbs the ladder and then goes
to a rework agent that is a fixed rule; the check is that every Python file that the step leaves compiles.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bot.bench.workload import Step, Workload
from bot.merge.commits import Landed
from bot.merge.compose import Start, compose
from bot.merge.git import run_git
from bot.merge.lines import Conflict, merge_lines
from bot.merge.objects import Objects
from bot.merge.trees import Blob, changes_between, lookup, rewrite
from schemas.base import Instant
from schemas.change_request import ChangeRequest
from schemas.lane import Entry, Outcome, Rungs


def against_git(work: Workload, at: Instant, say: Callable[[str], None]) -> dict[str, Any]:
    """The verdicts on all steps, by the queue and by git; `differ` names those that are not the same."""
    found: Counter[str] = Counter()
    differ: list[str] = []
    for number, step in enumerate(work.steps):
        result = compose(work.folder, Start(step.before, step.before, step.before, {}), [_entry(step, at)], 1, Landed())
        ours = result.results[0]
        told = _git_says(work.folder, step)
        if ours.outcome is Outcome.CONFLICT:
            found["conflict"] += 1
            same = told is None
        else:
            carriage = ours.carriage
            found[carriage.rung if carriage is not None else ours.outcome] += 1
            same = carriage is not None and told == carriage.tree
        if not same:
            differ.append(f"{ours.entry}: {ours.outcome}, git {told or 'conflict'}")
        if number % 100 == 99:
            say(f"{number + 1} of {len(work.steps)} probes")
    return {"probes": len(work.steps), **found, "differ": differ}


def _git_says(folder: Path, step: Step) -> str | None:
    """The tree of `git merge-tree`; None for a conflict."""
    objects = Objects(folder)
    who = b"Bench <bench@example.org> 1700000000 +0000"
    commit = objects.commit(step.base)
    theirs = commit._replace(tree=step.theirs, parents=(step.base,), author=b"author " + who, text=b"theirs\n")
    side = objects.add_commit(theirs)
    objects.flush([side])
    # In a bare repository git 2.39 reads attributes from this file only.
    attributes = lookup(objects, objects.tree_of(step.before), ".gitattributes")
    (folder / "info").mkdir(exist_ok=True)
    (folder / "info" / "attributes").write_bytes(objects.blob(attributes.oid) if attributes is not None else b"")
    done = run_git(folder, "merge-tree", "--write-tree", "--no-messages", step.before, side)
    return done.stdout.split()[0] if done.returncode == 0 else None


def without_a_person(work: Workload, at: Instant) -> dict[str, Any]:
    """How every step lands, by its rung, with the whole ladder and the rule behind it."""
    found: Counter[str] = Counter()
    other = 0
    objects = Objects(work.folder)
    for step in work.steps:
        entry = _entry(step, at).model_copy(update={"rungs": Rungs(upto="safe")})
        result = compose(work.folder, Start(step.before, step.before, step.before, {}), [entry], 1, Landed()).results[0]
        how, tree = "conflict", ""
        if result.carriage is not None:
            how, tree = result.carriage.rung, result.carriage.tree
        elif result.outcome is Outcome.CONFLICT:
            how, tree = "rework", _reworked(objects, step)
        before = objects.tree_of(step.before)
        if not tree or not _compiles(Objects(work.folder) if how != "rework" else objects, before, tree):
            how = f"person: {how}"
        found[how] += 1
        other += not how.startswith("person") and tree != step.wanted
    alone = sum(count for how, count in found.items() if not how.startswith("person"))
    total = len(work.steps)
    return {
        "changes": total, "by": dict(found), "without_a_person": round(alone / total, 4),
        "differs_from_the_humans_tree": round(other / total, 4),
    }  # fmt: skip


def _reworked(objects: Objects, step: Step) -> str:
    """The rule: submit again on the head; where both sides changed the same lines, insertions of both stay, else ours
    gives way to the submitter's own. Empty where a whole file is in question."""
    base, head = objects.tree_of(step.base), objects.tree_of(step.before)
    result: dict[str, Blob | None] = {}
    for path, theirs in changes_between(objects, base, step.theirs).items():
        was, now = lookup(objects, base, path), lookup(objects, head, path)
        if now == was or theirs == now:
            result[path] = theirs
            continue
        if was is None or now is None or theirs is None:
            return ""
        parts = merge_lines(*(objects.blob(side.oid) for side in (was, now, theirs)))
        if parts is None:
            return ""
        settled = [b"".join(_chosen(part)) if isinstance(part, Conflict) else part for part in parts]
        result[path] = Blob(objects.add_blob(b"".join(settled)), now.mode)
    return rewrite(objects, head, result)


def _chosen(part: Conflict) -> list[bytes]:
    if part.joined is not None:
        return part.joined
    return [*part.ours, *part.theirs] if not part.base else part.theirs


def _compiles(objects: Objects, before: str, tree: str) -> bool:
    """Whether every Python file that changed compiles, if it did before."""
    for path, blob in changes_between(objects, before, tree).items():
        if blob is None or not path.endswith(".py"):
            continue
        old = lookup(objects, before, path)
        if not _compiled(objects, blob) and (old is None or _compiled(objects, old)):
            return False
    return True


def _compiled(objects: Objects, blob: Blob) -> bool:
    try:
        compile(objects.blob(blob.oid), "probe", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True


def _entry(step: Step, at: Instant) -> Entry:
    change = ChangeRequest.model_validate_json(step.line)
    return Entry(id=change.id, lane="probes", seq=0, accepted=at, change=change)
