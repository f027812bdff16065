"""`interlock plan check` and `interlock plan impact`: what the Orchestrator's rules and the import graph say, without a model."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import pygit2
from pydantic import ValidationError

from bot.cli.options import FILE, FOLDER
from bot.cli.text import echo_json, one_line, plain
from bot.errors import Misconfigured
from bot.merge.local import find_git_dir
from bot.rules import impact, ownership, planning
from bot.rules import policy as policies
from bot.rules.impact import Graph
from bot.runners.impact import MEMORY, survey
from schemas.answers import SubmitPlan
from schemas.plan import Fault, Plan
from schemas.policy import Policy

POLICY = ".github/interlock.yml"
MOST_LINES = 40
_REPO = click.option("--repo", type=FOLDER, required=True, help="a local repository, bare or not")
_JSON = click.option("--json", "as_json", is_flag=True)


@click.group()
def plan() -> None:
    """Judge a plan, or see what depends on a file."""


@plan.command()
@click.argument("file", metavar="PLAN.json", type=FILE)
@_REPO
@click.option("--base", metavar="REV", help="the commit to judge it on  [default: the plan's own, else HEAD]")
@_JSON
def check(file: Path, repo: Path, base: str | None, as_json: bool) -> None:
    """Judge a plan as the Orchestrator would: a plan's JSON, or what an agent submits. Exit 1 if it has faults."""
    git_dir, submitted = find_git_dir(repo), _read(file)
    own = isinstance(submitted, Plan) and submitted.base in pygit2.Repository(str(git_dir))
    commit = _commit(repo, base or (submitted.base if isinstance(submitted, Plan) and own else "HEAD"))
    rules = _rules(git_dir, commit)
    names: dict[str, str] = {}
    if isinstance(submitted, Plan):
        made = submitted
        found = planning.reference_faults([(task.id, task.after) for task in made.tasks])
        if made.hash and planning.hashed(made).hash != made.hash:
            message = (
                "the plan is not the one that its hash was made for: leave the hash out, or take the plan as it was"
            )
            found = (*found, Fault(rule="hash", message=message))
    elif not (found := planning.submission_faults(submitted)):
        made = planning.from_submission(submitted, "plan#1", commit, 1, rules)
        names = {task.id: asked.key for task, asked in zip(made.tasks, submitted.tasks, strict=True)}
    notes: Sequence[Fault] = ()
    waves: list[list[str]] = []
    share = 0.0
    if not found:
        graph = survey(git_dir, commit, git_dir / MEMORY)
        found = planning.faults(made, graph, rules)
        notes, waves = ownership.notes(made, graph), planning.waves(made)
        share = planning.independent_share(made, found)
    document = {
        "ok": not found,
        "faults": [_shown(fault, names) for fault in found],
        "notes": [_shown(note, names) for note in notes],
        "waves": [[names.get(one, one) for one in wave] for wave in waves],
        "independent_share": round(share, 3),
    }
    echo_json(document) if as_json else click.echo(_judgement(document))
    sys.exit(1 if found else 0)


def _read(file: Path) -> Plan | SubmitPlan:
    """Raises Misconfigured for what is neither a plan nor an agent's submission, naming the field."""
    try:
        content = json.loads(file.read_bytes())
        return Plan.model_validate(content) if "ticket" in content else SubmitPlan.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise Misconfigured(f"{file}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise Misconfigured(f"{file} is not JSON: {error}") from None


def _commit(repo: Path, revision: str) -> str:
    """In a linked work tree HEAD is its own. Raises Misconfigured."""
    try:
        found = pygit2.Repository(pygit2.discover_repository(str(repo)) or str(repo)).revparse_single(revision)
        return str(found.peel(pygit2.Commit).id)
    except (KeyError, ValueError, pygit2.GitError):
        raise Misconfigured(f"{revision!r} is no commit of {repo}: name one that is, with --base") from None


def _rules(git_dir: Path, commit: str) -> planning.PlanRules:
    """What the policy at that commit says about plans; the defaults if there is none. Raises Misconfigured."""
    try:
        data = pygit2.Repository(str(git_dir)).revparse_single(f"{commit}:{POLICY}").peel(pygit2.Blob).data
    except (KeyError, pygit2.GitError):
        data = b""
    policy = policies.read(data)
    if not isinstance(policy, Policy):
        raise Misconfigured(f"{POLICY} of {commit[:12]}: {policy}")
    return planning.PlanRules(max_tasks=policy.max_tasks, limits=policy.limits, shared=policy.shared)


def _shown(fault: Fault, names: Mapping[str, str]) -> dict[str, str]:
    return {"rule": fault.rule, "task": names.get(fault.task, fault.task), "message": fault.message}


def _judgement(document: dict[str, Any]) -> str:
    lines = ["The plan may be built." if document["ok"] else "The plan has faults:"]
    for kind in ("faults", "notes"):
        lines += [
            f"  {one['rule']} ({plain(one['task']) or 'plan'}): {plain(one['message'])}" for one in document[kind]
        ]
    lines += [f"wave {index}: {', '.join(map(plain, wave))}" for index, wave in enumerate(document["waves"], 1)]
    return "\n".join([*lines, f"{document['independent_share']:.0%} of the tasks are independent"])


@plan.command("impact")
@click.argument("wanted", metavar="PATH...", nargs=-1, required=True)
@_REPO
@click.option("--base", metavar="REV", default="HEAD", show_default=True, help="the commit to look at")
@click.option("--after", metavar="REV", help="name the public names that the paths have lost there")
@_JSON
def show_impact(wanted: Sequence[str], repo: Path, base: str, after: str | None, as_json: bool) -> None:
    """Files, tests and manifests that depend on the given paths (a folder stands for all below it)."""
    git_dir = find_git_dir(repo)
    graph = survey(git_dir, _commit(repo, base), git_dir / MEMORY)
    paths = sorted({one for path in wanted for one in _below(path.strip("/"), graph)})
    reach = impact.affected(graph, paths)
    later = survey(git_dir, _commit(repo, after), git_dir / MEMORY) if after else graph
    document = {
        "paths": paths,
        "files": [{"path": path, "steps": steps} for path, steps in sorted(reach.items(), key=lambda item: item[::-1])],
        "tests": [{"path": path, "steps": steps} for path, steps in impact.tests(graph, paths).items()],
        "manifests": list(impact.manifests(graph, paths)),
        "owners": {path: list(people) for path in paths if (people := impact.owners(graph, path))},
        "removed": {path: list(names) for path, names in impact.removed(graph, later, paths).items()},
        "unread": dict(graph.unread),
    }
    echo_json(document) if as_json else click.echo(_reach(document))


def _below(path: str, graph: Graph) -> list[str]:
    """The file, or the files of the folder. Raises Misconfigured if there is neither."""
    found = [path] if path in graph.files else [one for one in graph.files if one.startswith(f"{path}/")]
    if not found:
        raise Misconfigured(f"there is no {path!r} in that commit: paths are relative to the repository's root")
    return found


def _reach(document: dict[str, Any]) -> str:
    lines = []
    for title, key in (("depend on it", "files"), ("tests to run, nearest first", "tests")):
        lines.append(f"{title}: {len(document[key])}")
        lines += [f"  {one['steps']}  {one_line(one['path'])}" for one in document[key][:MOST_LINES]]
        lines += [f"  ... and {len(document[key]) - MOST_LINES} more"] if len(document[key]) > MOST_LINES else []
    lines.append(f"manifests that name it: {', '.join(map(plain, document['manifests'])) or 'none'}")
    lines += [
        f"owned by {' '.join(map(plain, people))}: {one_line(path)}" for path, people in document["owners"].items()
    ]
    lines += [
        f"public names gone from {one_line(path)}: {', '.join(names)}" for path, names in document["removed"].items()
    ]
    lines += [f"not read: {one_line(path)} ({reason})" for path, reason in document["unread"].items()][:MOST_LINES]
    return "\n".join(lines)
