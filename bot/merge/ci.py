"""What the repository's CI means for the part of a train that our own checks found green: land it, blame, wait, or give up."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from bot.ports import Ci
from bot.rules import probes
from schemas import lane as q
from schemas.base import Evidence

SECONDS, MOST = 20.0, 120.0
"""Between two looks: a tenth of the time that CI has taken, within these bounds."""


async def look(
    ci: Ci | None, now: datetime, lane: str, train: q.Train, checked: q.Checked, entries: Sequence[q.Entry]
) -> q.Checked:
    """`checked` itself if its entries need no CI, else what becomes of it. Raises Transient."""
    taken = entries[: checked.length]
    wanted = probes.ci_of(taken)
    if not wanted:
        return checked
    assert ci is not None, "only a bot's entries need CI"
    commit = train.carriages[checked.length - 1].commit
    found = await ci.look(lane, commit, wanted, push=True, asked=train.ci_asked)
    since = now if found.asked != train.ci_asked else train.ci_since or now  # who runs again has as long again
    minutes = max(entry.ci_minutes for entry in taken)
    late = now >= since + timedelta(minutes=minutes)
    if found.outcome == "green":
        said = [text for text in (checked.verdict, found.summary) if text != probes.NO_CHECKS]
        return checked.model_copy(update={"verdict": "; ".join(said)})
    if found.evidence and (late or found.outcome == "red"):
        base = await ci.look(lane, train.base, wanted, push=False)
        same = base.outcome == "red" and base.evidence and base.evidence.check == found.evidence.check
        length = 0 if same else checked.length
        return q.Checked(outcome="red", length=length, evidence=found.evidence, believed=True)
    reason = f"{found.summary} on {commit[:12]}"
    if late:
        reason = f"{reason} within {minutes} minutes: see to it, then `interlock queue release {lane}` goes on"
    pause = max(SECONDS, min(MOST, (now - since).total_seconds() / 10))
    return q.Checked(
        outcome="late" if late else "waiting", length=checked.length, evidence=Evidence(reason=reason),
        since=since, asked=found.asked, look_at=now + timedelta(seconds=pause),
    )  # fmt: skip
