"""`interlock bench`: the project's own benchmarks, beside peers, in one run."""

import asyncio
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import click

from bot.bench import impact as impacts
from bot.bench import landing, pipeline, workload
from bot.bench import probes as probing
from bot.bench import queue as queues
from bot.bench import webhook as webhooks
from bot.cli.options import FOLDER
from bot.clock import SystemClock
from bot.errors import Misconfigured


@click.group()
def bench() -> None:
    """Measure on this machine; read the ratios, not the milliseconds."""


@bench.command()
@click.option("--repo", type=FOLDER, help="work from this repository's history")
@click.option("--files", type=click.IntRange(20, 200_000), help="or a synthetic tree of so many files  [default: 1000]")
@click.option("--changes", type=click.IntRange(5, 5000), default=200, show_default=True)
@click.option("--skip", type=click.IntRange(0), default=0, help="leave the newest steps of the history out")
@click.option("--rounds", type=click.IntRange(1, 50), default=3, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def merge(repo: Path | None, files: int | None, changes: int, skip: int, rounds: int, as_json: bool) -> None:
    """CPU a landed change: the merge queue's engine beside git am, merge-tree and pygit2's whole index."""
    if repo and files:
        raise Misconfigured("--repo and --files are two ways to say what to work on: give one")
    scratch = Path(tempfile.mkdtemp(prefix="interlock-bench-", dir="/var/tmp"))  # a disk: durable means that
    try:
        click.echo("making the work to land", err=True)
        folder = scratch / "work.git"
        work = (
            workload.from_history(repo, folder, changes, skip=skip)
            if repo
            else workload.synthetic(folder, files or 1000, changes)
        )
        if not work.steps:
            raise Misconfigured(f"{repo} has no history to make work from")
        at = SystemClock().wall().replace(microsecond=0)
        found = landing.compare(
            work, scratch, at, pipeline.durable_lap, rounds=rounds, say=lambda text: click.echo(text, err=True)
        )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    click.echo(json.dumps(found, indent=2) if as_json else _text(found))


@bench.command()
@click.option(
    "--changes", type=click.IntRange(32, 100_000), default=640, show_default=True, help="to take off the queue"
)
@click.option("--rounds", type=click.IntRange(1, 50), default=5, show_default=True)
@click.option(
    "--seeds", type=click.IntRange(1, 1000), default=20, show_default=True, help="simulated days of each kind"
)
@click.option(
    "--full", is_flag=True, help="100,000 waiting entries and 1,000,000 audit rows, not a tenth (2 GB of disk)"
)
@click.option("--json", "as_json", is_flag=True)
def queue(changes: int, rounds: int, seeds: int, full: bool, as_json: bool) -> None:
    """What the durable queue costs, whether it grows slower, and what people wait on beside other queues' policies."""

    def say(text: str) -> None:
        click.echo(text, err=True)

    # Not in /tmp, which may be memory: durable means a disk.
    scratch = Path(tempfile.mkdtemp(prefix="interlock-bench-", dir="/var/tmp"))
    try:
        found = {
            "dequeue": queues.dequeue(scratch, changes=changes, rounds=rounds, say=say),
            "growth": queues.growing(scratch, rounds=rounds, full=full, say=say),
            "waiting": queues.simulated(seeds=seeds, say=say),
        }
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    click.echo(json.dumps(found, indent=2) if as_json else queues.text(found))


@bench.command()
@click.option("--deliveries", type=click.IntRange(100, 100_000), default=3000, show_default=True, help="in each round")
@click.option("--rounds", type=click.IntRange(1, 50), default=7, show_default=True)
@click.option("--seconds", type=click.IntRange(1, 3600), default=20, show_default=True, help="at a steady pace")
@click.option("--json", "as_json", is_flag=True)
def webhook(deliveries: int, rounds: int, seconds: int, as_json: bool) -> None:
    """Webhooks taken in, durably, for each CPU second, beside Probot doing nothing; and how long an answer takes."""

    def say(text: str) -> None:
        click.echo(text, err=True)

    scratch = Path(tempfile.mkdtemp(prefix="interlock-bench-", dir="/var/tmp"))
    try:
        found = asyncio.run(webhooks.measure(scratch, deliveries=deliveries, rounds=rounds, seconds=seconds, say=say))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    click.echo(json.dumps(found, indent=2) if as_json else webhooks.text(found))


def _text(found: dict[str, Any]) -> str:
    ours = found["interlock"]
    lines = [
        f"{found['workload']}: {found['files']} files, {found['steps']} changes (peers: the first {found['peer_steps']})",
        f"  interlock  {ours['cpu_ms']:9.3f} ms CPU a change, {ours['wall_ms']:.3f} ms wall, "
        f"{found['times_the_floor']} times the floor of {found['floor_cpu_ms']} ms",
    ]
    for peer in found["peers"]:
        spread = f"{peer['lowest']} to {peer['highest']} over the rounds"
        lines.append(f"  {peer['cpu_ms']:9.2f} ms  {peer['ratio']:6.1f} x  {peer['name']} ({spread})")
    whole = found["durable"]
    lines.append(
        f"  the whole queue, durable: {whole['wall_ms']:.3f} ms wall, {whole['cpu_ms']:.3f} ms CPU a change; git am takes "
        f"{whole['git_am_wall']} times its wall time ({whole['lowest']} to {whole['highest']})"
    )
    return "\n".join([*lines, "All ended on the same trees."])


@bench.command()
@click.option("--files", type=click.IntRange(20, 200_000), nargs=2, default=(1000, 100_000), show_default=True)
@click.option("--changes", type=click.IntRange(5, 5000), default=200, show_default=True)
@click.option("--rounds", type=click.IntRange(1, 50), default=5, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def growth(files: tuple[int, int], changes: int, rounds: int, as_json: bool) -> None:
    """What a landed change costs in a large repository beside a small one."""
    scratch = Path(tempfile.mkdtemp(prefix="interlock-bench-", dir="/var/tmp"))
    try:
        few, many = files
        small = workload.synthetic(scratch / "small.git", few, changes)
        large = workload.synthetic(scratch / "large.git", many, changes)
        at = SystemClock().wall().replace(microsecond=0)
        found = landing.growth(small, large, scratch, at, rounds=rounds)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for work in (small, large):
        click.echo(f"{work.name}: {found[work.name]['cpu_ms']} ms CPU a change")
    click.echo(f"{found['ratio']} times as much ({found['lowest']} to {found['highest']} over the rounds)")


@bench.command()
@click.option("--repo", type=FOLDER, required=True, help="probe this repository's history")
@click.option("--changes", type=click.IntRange(5, 5000), default=800, show_default=True)
@click.option("--skip", type=click.IntRange(0), default=0, help="leave the newest steps of the history out")
@click.option("--json", "as_json", is_flag=True)
def probes(repo: Path, changes: int, skip: int, as_json: bool) -> None:
    """Whether the queue lands what git would, and how much of a history lands without a person."""
    scratch = Path(tempfile.mkdtemp(prefix="interlock-bench-"))
    at = SystemClock().wall().replace(microsecond=0)
    try:
        work = workload.from_history(repo, scratch / "old.git", changes, skip=skip, fit=False)
        git = probing.against_git(work, at, lambda text: click.echo(text, err=True))
        fresh = workload.from_history(repo, scratch / "fresh.git", changes, skip=skip, fit=False, lags=1)
        alone = probing.without_a_person(fresh, at)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if as_json:
        click.echo(json.dumps({"against_git": git, "without_a_person": alone}, indent=2))
        return
    ways = ", ".join(f"{count} {way}" for way, count in git.items() if isinstance(count, int))
    click.echo(f"bases 1 to 20 behind: {ways}; {len(git['differ'])} differ from git merge-tree")
    for line in git["differ"]:
        click.echo(f"  {line}")
    ways = ", ".join(f"{count} {way}" for way, count in alone["by"].items())
    click.echo(f"bases 0 to 1 behind: {alone['without_a_person']:.1%} of {alone['changes']} without a person ({ways});")
    click.echo(f"  {alone['differs_from_the_humans_tree']:.1%} have another tree than the human's")


@bench.command()
@click.option("--repo", type=FOLDER, help="this repository, and its history  [default: a synthetic tree]")
@click.option("--commits", type=click.IntRange(1, 100_000), default=200, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def impact(repo: Path | None, commits: int, as_json: bool) -> None:
    """How fast the import graph is made, and the share of tests changed with their code that it names."""
    scratch = Path(tempfile.mkdtemp(prefix="interlock-bench-"))
    try:
        folder = scratch / "repo.git"
        git_dir = impacts.borrowed(repo, folder) if repo else impacts.synthetic(folder)
        found = {"speed": impacts.speed(git_dir, scratch)}
        if repo:
            found["cochange"] = impacts.cochange(git_dir, scratch, commits, lambda text: click.echo(text, err=True))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    click.echo(json.dumps(found, indent=2) if as_json else impacts.text(found))
