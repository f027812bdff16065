"""Which prefix of a train is checked next, and what a run of the checks says. Pure.

First all of it; if that is red, halves of what is unknown, and the base with the check that failed before the first
entry is blamed. A prefix is asked its own entries' checks alone, so that nobody is judged by what somebody behind brings.
"""

from collections.abc import Sequence
from typing import NamedTuple

from schemas import lane as q
from schemas.base import CheckCommand, CiCheck, Evidence

NO_CHECKS = "no checks"
UNNAMED = Evidence(reason="the checks fail")


class Probe(NamedTuple):
    """One run of checks on a train's first `length` carriages, or on its base (0)."""

    length: int
    checks: tuple[CheckCommand, ...]


def checks_of(entries: Sequence[q.Entry]) -> tuple[CheckCommand, ...]:
    """The union by command. The first that names a command has its say over name and timeout, so that what a longer
    prefix asks for begins with what a shorter one does; only a standing check takes another one's place."""
    found: dict[str, CheckCommand] = {}
    for check in (check for entry in entries for check in entry.checks):
        if check.command not in found or (check.standing and not found[check.command].standing):
            found[check.command] = check
    return tuple(found.values())


def due(train: q.Train, entries: Sequence[q.Entry]) -> Probe | None:
    """The next run, for the train's entries in order; None when it is known which entry is the first red one."""
    search = train.search
    if search.red is None:
        return Probe(len(entries), checks_of(entries))
    middle = (search.green + search.red) // 2
    if middle > search.green:
        return Probe(middle, checks_of(entries[:middle]))
    if search.green:
        return None  # the prefix in front of it is green, so the base is
    failed = search.evidence or UNNAMED
    ours = tuple(check for check in checks_of(entries[: search.red]) if check.standing and _may_be(failed, check))
    if ours and _name(failed) not in search.cleared:
        return Probe(0, ours)
    return None


def learned(search: q.Search, event: q.Checked) -> q.Search:
    """After one more run, green or red. Red is believed when the same check is red again on the same tree."""
    failed = event.evidence or UNNAMED
    if event.outcome == "red" and not confirmed(search, event):
        return search.model_copy(update={"suspects": (*search.suspects, _name(failed))})
    if event.outcome == "red":
        return search.model_copy(update={"red": event.length, "evidence": failed, "suspects": ()})
    if event.length == 0:
        cleared = (*search.cleared, _name(search.evidence or UNNAMED))
        return search.model_copy(update={"cleared": cleared, "suspects": ()})
    return search.model_copy(update={"green": event.length, "verdict": event.verdict, "suspects": ()})


def confirmed(search: q.Search, event: q.Checked) -> bool:
    """Whether this is red, and was before."""
    return event.outcome == "red" and (event.believed or _name(event.evidence or UNNAMED) in search.suspects)


def ci_of(entries: Sequence[q.Entry]) -> tuple[CiCheck, ...]:
    """The checks of the repository's own CI that these entries need, each once."""
    return tuple(dict.fromkeys(check for entry in entries for check in entry.ci))


def flaky(search: q.Search, probe: Probe) -> str:
    """Who failed before this probe was green, in words; empty if nobody."""
    names = ", ".join(repr(check.name) for check in probe.checks if {check.command, check.name} & {*search.suspects})
    return f"; flaky: {names} failed once and passed when run again" if search.suspects else ""


def _name(failed: Evidence) -> str:
    return failed.command or failed.check or ""


def _may_be(failed: Evidence, check: CheckCommand) -> bool:
    """Whether this check is the one that failed, as far as the evidence says."""
    return failed.command in (None, check.command) and failed.check in (None, check.name)
