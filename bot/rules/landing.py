"""What a lane makes of the way onto its branch: the intents, a way that is closed, and what GitHub's merge queue did."""

from bot.rules.lane_turn import LaneTurn
from schemas import events as e
from schemas import lane as q
from schemas.base import Evidence
from schemas.decision import EntryMove

E = q.EntryState

CLOSED_SECONDS = 300.0
"""Between two tries of what a branch's rules forbid."""
BY = {
    "push": "by push",
    "api": "with commits that GitHub made and signed",
    "merge_queue": "through GitHub's own merge queue",
}
RETURNS = {
    "conflict": (E.REWORK, q.ErrorClass.CONFLICT),
    "check": (E.REWORK, q.ErrorClass.CHECK),
    "policy": (E.REWORK, q.ErrorClass.POLICY),
    "person": (E.QUARANTINED, q.ErrorClass.POLICY),
}
"""Where an entry goes that GitHub's merge queue let go of, by whose turn it is."""


def begin(turn: LaneTurn, train: q.Train, event: q.Confirmed) -> None:
    """The gate has passed: prepare the intents, or leave it to GitHub's queue."""
    made, removals = dict(event.made), dict(event.removals)
    carriages = tuple(
        one.model_copy(update={
            "commit": made.get(one.commit, one.commit), "removal": removals.get(one.entry, ""),
            "commits": tuple((name, made.get(commit, commit)) for name, commit in one.commits),
        })
        for one in train.carriages
    )  # fmt: skip
    train = train.model_copy(update={"carriages": carriages, "tip": made.get(train.tip, train.tip)})
    if event.way == "merge_queue":
        turn.why = f"goes onto {turn.lane.ref} {BY[event.way]}"
        why = f"In GitHub's merge queue for {_branch(turn)}."
        turn.tell(e.LaneStopped(lane=turn.lane.key, why=why, way=event.way))
        turn.move_train(train, "confirm", E.LANDING, way=event.way)
    else:
        intents = _intents(turn, train)
        turn.why = f"will move {', '.join(i.ref for i in intents)} to {train.tip[:12]} {BY[event.way]}"
        turn.move_train(train, "confirm", E.LANDING, intents=intents, way=event.way)


def _branch(turn: LaneTurn) -> str:
    return turn.lane.ref.removeprefix("refs/heads/")


def _intents(turn: LaneTurn, train: q.Train) -> tuple[q.Intent, ...]:
    """Tickets' own branches first, so that GitHub shows their pull requests as merged; the lane's ref last."""
    intents: list[q.Intent] = []
    for carriage in train.carriages:
        series = turn.entries[carriage.entry].series
        if series is not None and carriage.branch_old not in (None, carriage.commit):
            ref = f"refs/heads/{series.branch}"
            intents.append(q.Intent(ref=ref, expected_old=carriage.branch_old, new_oid=carriage.commit, force=True))
            turn.set(own_heads=(*turn.lane.own_heads, (series.branch, carriage.commit))[-64:])
    force = any(turn.entries[carriage.entry].rebase is not None for carriage in train.carriages)
    return (*intents, q.Intent(ref=turn.lane.ref, expected_old=train.old, new_oid=train.tip, force=force))


def wait_for_rules(turn: LaneTurn, train: q.Train, refusal: str, *, again: bool = False) -> None:
    """The branch's rules forbid it, which is nobody's fault. It is tried now and then; at once (`again`) if they ask for
    another way by now."""
    turn.why = f"GitHub does not let this App move {_branch(turn)}: {refusal}"
    if not again:
        turn.tell(e.LaneStopped(lane=turn.lane.key, why=f"{turn.why}. {_mend(refusal)}", ask=True))
    for carriage in train.carriages:
        turn.again(carriage.entry, delay=0.0 if again else CLOSED_SECONDS)
    turn.set(train=None)


def _mend(refusal: str) -> str:
    where = "lets it push in branch protection" if "GH006" in refusal else "puts it on the ruleset's bypass list"
    tried = f"It is tried again every {CLOSED_SECONDS / 60:g} minutes."
    return f"A maintainer {where}, or names another way (`landing`) in .github/interlock.yml. {tried}"


def queue_read(turn: LaneTurn, train: q.Train, event: q.QueueRead) -> None:
    """What has landed or left goes; the rest is looked at again later."""
    found = {one.entry: one for one in event.results}
    kept = tuple(one for one in train.carriages if one.entry not in found or found[one.entry].state == "waiting")
    said: list[str] = []
    for carriage in train.carriages:
        one = found.get(carriage.entry)
        if one is None or one.state == "waiting":
            continue
        evidence = one.evidence or Evidence(reason="no reason was given")
        said.append(f"{carriage.entry}: {one.said or evidence.reason}")
        if one.state == "merged":
            landed = {"commit": one.commit, "tree": one.tree, "commits": one.commits, "digest": carriage.digest}
            turn.landed(E.LANDED, carriage.model_copy(update=landed), one.said)
        elif one.state == "closed":
            why = f"GitHub's merge queue for {_branch(turn)} does not take it: {evidence.reason}"
            ticket = turn.entries[carriage.entry].ticket
            turn.emits.append(e.LaneStopped(ticket=ticket, lane=turn.lane.key, why=why, ask=True))
            turn.move_entry(EntryMove(entry=carriage.entry, to=E.QUEUED, delay_seconds=CLOSED_SECONDS))
        else:
            turn.back(carriage.entry, *RETURNS[one.state], evidence)
    turn.why = "; ".join(said) or f"{len(kept)} in GitHub's merge queue"
    rest = train.model_copy(update={"carriages": kept, "ci_since": event.since}) if kept else None
    turn.set(train=rest, due=event.look_at if kept else None, head=event.head or turn.lane.head)
