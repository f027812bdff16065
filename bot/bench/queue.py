"""`interlock bench queue`: what the queue costs, whether it grows slower, and what people wait on beside other policies."""

import asyncio
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bot.bench import durable, growth, policies, waiting
from bot.bench.laps import Lap, ratio, row, share
from bot.bench.ours import Ours

Say = Callable[[str], None]
SLOTS = (1, 4, 16)
PER_HOUR = 12.0
CHANGES = 100
POLICIES: Mapping[str, Callable[[], waiting.Policy]] = {
    "interlock": Ours,
    "serial (bors)": policies.Serial,
    "batch, halved (bors-ng)": policies.Halving,
    "train (Zuul)": policies.Train,
    "group (GitHub)": policies.Group,
}


def dequeue(scratch: Path, *, changes: int, rounds: int, say: Say) -> dict[str, Any]:
    """Our store beside huey's, taking turns. Without huey its rows and the ratios are left out."""
    storage = durable.huey_storage()
    laps: dict[str, list[Lap]] = {}
    for number in range(rounds):
        folder = scratch / f"dequeue-{number}"
        folder.mkdir()
        for train in (durable.TRAIN, 1):
            taken, cycle = asyncio.run(durable.our_laps(folder / f"{train}.db", changes, train))
            laps.setdefault(f"interlock, trains of {train}: lease, take, begin", []).append(taken)
            laps.setdefault(f"interlock, trains of {train}: until landed and audited", []).append(cycle)
        if storage:
            for fsync in (True, False):
                lap = durable.huey_lap(storage, folder / f"huey-{fsync}.db", changes, fsync=fsync)
                laps.setdefault(f"huey, fsync={fsync}: dequeue, which deletes", []).append(lap)
        shutil.rmtree(folder)
        say(f"dequeue, round {number + 1} of {rounds}")
    peer = laps.get("huey, fsync=True: dequeue, which deletes")
    if peer is None:
        say("huey is not installed (it comes with `python3 dev.py setup`): its rows are left out")
    rows = [{**row(name, found), "times_huey": ratio(peer, found) if peer else None} for name, found in laps.items()]
    flush = round(durable.fsync_us(scratch / "fsync"))
    return {"changes": changes, "rounds": rounds, "fsync_us": flush, "payload_bytes": durable.PAYLOAD, "rows": rows}


def growing(scratch: Path, *, rounds: int, full: bool, say: Say) -> dict[str, Any]:
    """A cycle's cost at each size, beside the smallest of its axis in the same rounds."""
    axes = {}
    for axis, steps in growth.sizes(full).items():
        say(f"growth with {axis}: filling files")
        found = asyncio.run(growth.measure(scratch / "growth", axis, steps, rounds=rounds))
        axes[axis] = [{"size": size, **_slim(laps), "times_first": _beside(laps, found[0][1])} for size, laps in found]
    return {"train": growth.TRAIN, "full": full, "axes": axes}


def _slim(laps: Sequence[Lap]) -> dict[str, Any]:
    known = row("", laps)
    return {name: known[name] for name in ("wall_us", "cpu_us")}


def _beside(laps: Sequence[Lap], first: Sequence[Lap]) -> dict[str, Any]:
    return {
        "wall": ratio(laps, first),
        "cpu": round(median(a.cpu / b.cpu for a, b in zip(laps, first, strict=True)), 2),
    }


def simulated(*, seeds: int, say: Say) -> dict[str, Any]:
    """Every policy on the same arrivals, for each load and number of CI slots."""
    rows = []
    for load, per_hour in (("burst", None), (f"{PER_HOUR:.0f} an hour", PER_HOUR)):
        for slots in SLOTS:
            say(f"simulated: {load}, {slots} CI slots")
            for name, policy in POLICIES.items():
                days = [_day(seed, slots, per_hour, policy()) for seed in range(seeds)]
                rows.append({"load": load, "slots": slots, "policy": name, **_summary(days)})
    return {
        "changes": CHANGES, "seeds": seeds, "bad": waiting.BAD, "flaky": waiting.FLAKY,
        "check_minutes": waiting.CHECK_MINUTES, "rows": rows,
    }  # fmt: skip


def _day(seed: int, slots: int, per_hour: float | None, policy: waiting.Policy) -> waiting.World:
    changes = waiting.arrivals(random.Random(f"arrivals {seed}"), CHANGES, per_hour)
    return waiting.World(changes, slots, random.Random(f"runs {seed}")).play(policy)


def _summary(days: Sequence[waiting.World]) -> dict[str, Any]:
    waits = [at - change.at for day in days for change, at in day.landed.items()]
    bad = sum(change.bad for day in days for change in day.landed)
    wrongly = sum(not change.bad for day in days for change in day.ejected)
    good = sum(not change.bad for day in days for change in day.changes)
    return {
        "runs_a_landing": round(sum(day.runs for day in days) / len(waits), 2),
        "ci_minutes_a_landing": round(sum(day.minutes for day in days) / len(waits), 1),
        "wait_p50_minutes": round(share(waits, 0.5)), "wait_p95_minutes": round(share(waits, 0.95)),
        "good_ejected_percent": round(100 * wrongly / good, 2), "bad_landed": bad,
    }  # fmt: skip


def text(found: Mapping[str, Any]) -> str:
    """For people."""
    lines = [f"Taking {found['dequeue']['changes']} changes of 1 KB off the queue, in microseconds a change, on a disk whose "
             f"fsync takes {found['dequeue']['fsync_us']}:",
             f"{'':52}{'a second':>9}{'wall':>8}{'CPU':>8}{'p50':>8}{'p99':>8}  times huey's rate (spread)"]  # fmt: skip
    for one in found["dequeue"]["rows"]:
        times = one["times_huey"]
        beside = f"  {times['ratio']} x ({times['lowest']} to {times['highest']})" if times else ""
        lines.append(f"  {one['name']:50}{one['per_second']:9}{one['wall_us']:8.0f}{one['cpu_us']:8.0f}"
                     f"{one['p50_us']:8.0f}{one['p99_us']:8.0f}{beside}")  # fmt: skip
    lines.append("  p50 and p99: of one call, which hands out a whole train. huey keeps no lease and no record.")
    for axis, sizes in found["growth"]["axes"].items():
        lines.append(f"A cycle with growing {axis}, in microseconds an entry (trains of {found['growth']['train']}):")
        for one in sizes:
            wall, cpu = one["times_first"]["wall"], one["times_first"]["cpu"]
            spread = f"{wall['ratio']} x wall ({wall['lowest']} to {wall['highest']}), {cpu} x CPU"
            lines.append(f"  {one['size']:9,} {one['wall_us']:8.0f} wall {one['cpu_us']:8.0f} CPU   {spread}")
    day = found["waiting"]
    lines.append(f"What people wait on, simulated: {day['changes']} changes, {day['bad']:.0%} bad, {day['flaky']:.0%} of "
                 f"check runs flaky, checks of {day['check_minutes']:.0f} minutes, {day['seeds']} seeds; "
                 "runs and CI minutes are those of a landing, waits are minutes:")  # fmt: skip
    lines.append(f"  {'load':12}{'slots':>6}  {'policy':26}{'runs':>8}{'CI min':>9}{'wait p50':>9}{'p95':>6}"
                 f"{'good sent back':>16}{'bad landed':>11}")  # fmt: skip
    for one in day["rows"]:
        lines.append(f"  {one['load']:12}{one['slots']:6}  {one['policy']:26}{one['runs_a_landing']:8.2f}"
                     f"{one['ci_minutes_a_landing']:9.1f}{one['wait_p50_minutes']:9}{one['wait_p95_minutes']:6}"
                     f"{one['good_ejected_percent']:15.1f}%{one['bad_landed']:11}")  # fmt: skip
    return "\n".join(lines)
