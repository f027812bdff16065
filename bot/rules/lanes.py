"""The lane: what happens to a train and its entries at each step. Pure, over literal tables.

A lane goes compose -> check -> confirm -> prepare the intents -> push -> read back -> settle. Whatever was not
settled is found again after a crash by the lane's own value: there is no other memory. An intent is settled only by
reading the remote; an infrastructure failure never changes a change's verdict.
"""

from collections.abc import Mapping

from bot.rules import landing, probes
from bot.rules.lane_turn import LaneTurn
from schemas import events as e
from schemas import lane as q
from schemas.base import Evidence
from schemas.decision import EntryMove, LaneDecision

E = q.EntryState

CRASHES = 20
MAX_WINDOW = 32
RETRY_SECONDS = 5.0
EXCERPT = 200
AS_GOOD_AS_LINE = frozenset({"line", "merge-tree", "rebase"})
"""The rungs whose merges may land without a check, if there is none."""
FAULTS = {
    q.Outcome.CONFLICT: (E.REWORK, q.ErrorClass.CONFLICT),
    q.Outcome.INVALID: (E.QUARANTINED, q.ErrorClass.INVALID),
    q.Outcome.POLICY: (E.QUARANTINED, q.ErrorClass.POLICY),
}
"""Where an entry goes that could not be composed, and whose turn it is (a series that the policy stops is reworked)."""


def pending_intent(lane: q.Lane) -> q.Intent | None:
    """The intent that must be pushed or settled now; they are made one after the other."""
    return next((i for i in lane.train.intents if not i.settled), None) if lane.train else None


def decide(lane: q.Lane, event: q.LaneEvent, entries: Mapping[str, q.Entry]) -> LaneDecision:
    """The lane after `event`. `entries` holds those of the train and of the event."""
    turn = LaneTurn(lane, entries)
    match event, lane.train:
        case q.Composed() as composed, _:
            _composed(turn, composed)
        case q.Unreachable() as gone, _:
            _unreachable(turn, gone)
        case q.Checked() as checked, q.Train() as train:
            _checked(turn, train, checked)
        case q.Confirmed() as confirmed, q.Train() as train:
            _confirmed(turn, train, confirmed)
        case q.HeadRead() as read, q.Train() as train:
            _head_read(turn, train, read)
        case q.QueueRead() as read, q.Train() as train:
            landing.queue_read(turn, train, read)
    return LaneDecision(lane=turn.lane, moves=tuple(turn.moves), emits=tuple(turn.emits), why=turn.why)


def _unreachable(turn: LaneTurn, event: q.Unreachable) -> None:
    """Everybody in the queue is set aside. What was landed nevertheless is found by its trailers when it is tried again."""
    turn.why = event.reason
    for entry in turn.entries:
        turn.back(entry, E.QUARANTINED, q.ErrorClass.INFRA, Evidence(reason=event.reason))
    turn.set(train=None, due=None)


def _composed(turn: LaneTurn, event: q.Composed) -> None:
    if turn.lane.state is q.LaneState.FROZEN:
        if event.base == turn.lane.head and not event.look_again:
            turn.why = "the head is still the one that fails its checks"
            turn.wait_for_head(turn.entries, turn.lane.why)
            return
        turn.move_lane("look again" if event.base == turn.lane.head else "head moved")
        turn.tell(e.LaneOpened(lane=turn.lane.key))
    for entry in sorted(turn.entries.keys() - {result.entry for result in event.results}):
        turn.again(entry)  # behind the end of this train: begun, and no crash
    carriages = tuple(filter(None, [_taken(turn, result) for result in event.results]))
    if len(carriages) > 1 and turn.entries[carriages[-1].entry].rebase is not None:
        turn.again(carriages[-1].entry)  # no check judges a rebase: it goes alone
        carriages = carriages[:-1]
    turn.why = f"composed {len(carriages)} of {len(event.results)} on {event.base[:12]}"
    train = None
    if carriages:
        last = carriages[-1]
        train = q.Train(base=event.base, old=event.old, tip=last.commit, tree=last.tree, carriages=carriages)
    turn.set(train=train, head=event.base)


def _taken(turn: LaneTurn, result: q.ComposeResult) -> q.Carriage | None:
    """The entry's part of the train; None if it leaves the queue or must wait, for what composing it gave."""
    entry, outcome = turn.entries[result.entry], result.outcome
    evidence = result.evidence or Evidence(reason=outcome)
    if outcome is q.Outcome.COMPOSED and result.carriage is not None:
        if entry.deliveries - entry.outcomes <= CRASHES:
            turn.move_entry(EntryMove(entry=entry.id, to=E.COMPOSED))
            return result.carriage
        reason = f"it was under way {CRASHES} times when the process died"
        turn.back(entry.id, E.QUARANTINED, q.ErrorClass.INFRA, Evidence(reason=reason))
    elif result.carriage is not None:
        turn.landed(E.NOOP if outcome is q.Outcome.NOOP else E.LANDED, result.carriage)
    elif outcome in FAULTS:
        to, cls = FAULTS[outcome]
        turn.back(entry.id, E.REWORK if outcome is q.Outcome.POLICY and entry.series else to, cls, evidence)
    else:
        turn.again(entry.id, evidence.reason, counts=True, delay=RETRY_SECONDS)
    return None


def _checked(turn: LaneTurn, train: q.Train, event: q.Checked) -> None:
    """One run more is known: go on with what is green, send back who made it red, or look at another prefix."""
    evidence = event.evidence or Evidence(reason="the checks could not be run")
    if event.outcome == "unknown":
        turn.requeue_train(train, evidence.reason, counts=True, delay=RETRY_SECONDS)
        return
    if event.outcome == "waiting":
        turn.why = evidence.reason
        turn.set(train=train.model_copy(update={"ci_since": event.since, "ci_asked": event.asked}), due=event.look_at)
        return
    train = train.model_copy(update={"ci_since": None, "ci_asked": ()})
    turn.set(train=train, due=None)
    if event.outcome == "late":
        _park(turn, train, evidence.reason)
        return
    if event.length == 0 and probes.confirmed(train.search, event):
        _base_is_red(turn, train, evidence)
        return
    search = probes.learned(train.search, event)
    train = train.model_copy(update={"search": search})
    turn.set(train=train)
    if search.red is None and search.green == len(train.carriages):
        _go_on(turn, train, search.verdict)
    elif probes.due(train, [turn.entries[carriage.entry] for carriage in train.carriages]) is None:
        turn.set(window=max(1, len(train.carriages) // 2))
        _send_back(turn, train, search.green, q.ErrorClass.CHECK, search.evidence or probes.UNNAMED)
    else:
        what = f"the first {event.length} of {len(train.carriages)} changes" if event.length else "the base"
        turn.why = f"{event.outcome} with {what}: {event.verdict or evidence.reason}"


def _park(turn: LaneTurn, train: q.Train, why: str) -> None:
    """Nobody can say whether the train is green: it is taken apart, and the lane waits for a person."""
    turn.requeue_train(train, why)
    turn.move_lane("pause", why)
    turn.tell(e.LaneStopped(lane=turn.lane.key, why=why))


def _base_is_red(turn: LaneTurn, train: q.Train, evidence: Evidence) -> None:
    """Nobody in the queue is blamed; the lane waits for another head."""
    log = " ".join(evidence.log.split())[-EXCERPT:]
    why = f"{turn.lane.ref} is red without any of the waiting changes: {evidence.reason}" + (f" ({log})" if log else "")
    turn.why = why
    turn.wait_for_head([carriage.entry for carriage in train.carriages], why)
    turn.set(train=None)
    turn.move_lane("base is red", why)


def _go_on(turn: LaneTurn, train: q.Train, verdict: str) -> None:
    """The train is green. Where no check has run, that is enough for the rungs that a line merge is as good as alone."""
    unproved = next((i for i, one in enumerate(train.carriages) if one.rung not in AS_GOOD_AS_LINE), None)
    entries = [turn.entries[carriage.entry] for carriage in train.carriages]
    if unproved is None or probes.checks_of(entries) or probes.ci_of(entries):
        turn.why = verdict or "the checks pass"
        turn.move_train(train, "green", E.CHECKING, verdict=verdict)
        return
    rung = train.carriages[unproved].rung
    reason = f"it was merged by the rung {rung!r}, which only a green check may follow, and it has no check: name one"
    _send_back(turn, train, unproved, q.ErrorClass.CONFLICT, Evidence(reason=reason))


def _send_back(turn: LaneTurn, train: q.Train, index: int, cls: q.ErrorClass, evidence: Evidence) -> None:
    """One carriage leaves the queue; those before it go on, those behind it are composed anew."""
    turn.back(train.carriages[index].entry, E.REWORK, cls, evidence)
    for carriage in train.carriages[index + 1 :]:
        turn.again(carriage.entry)
    kept = train.carriages[:index]
    turn.set(train=None)
    if kept:
        rest = train.model_copy(update={"carriages": kept, "tip": kept[-1].commit, "tree": kept[-1].tree})
        _go_on(turn, rest, train.search.verdict)
    turn.why = f"{train.carriages[index].entry}: {evidence.reason}"


def _confirmed(turn: LaneTurn, train: q.Train, event: q.Confirmed) -> None:
    if event.unknown:
        turn.requeue_train(train, event.unknown, delay=RETRY_SECONDS)
    elif event.refused:
        refused = dict(event.refused)
        for carriage in train.carriages:
            if carriage.entry in refused:
                evidence = Evidence(reason=refused[carriage.entry])
                turn.back(carriage.entry, E.REWORK, q.ErrorClass.POLICY, evidence)
            else:
                turn.again(carriage.entry)
        turn.why = "; ".join(refused.values())
        turn.set(train=None)
    elif event.refusal:
        landing.wait_for_rules(turn, train, event.refusal)
    else:
        landing.begin(turn, train, event)


def _head_read(turn: LaneTurn, train: q.Train, event: q.HeadRead) -> None:
    intent = pending_intent(turn.lane)
    if intent is None or intent.ref != event.ref:
        return
    if event.contains:
        turn.why = f"{intent.ref} holds {intent.new_oid[:12]}"
        settled = tuple(i.model_copy(update={"settled": True}) if i == intent else i for i in train.intents)
        turn.set(train=train.model_copy(update={"intents": settled}))
        if pending_intent(turn.lane) is None:
            for carriage in train.carriages:
                turn.landed(E.LANDED, carriage)
            rebased = turn.entries[train.carriages[-1].entry].rebase
            fork = rebased.onto if rebased else turn.lane.fork
            turn.set(train=None, head=train.tip, window=min(MAX_WINDOW, turn.lane.window * 2), fork=fork)
    elif event.head != intent.expected_old:
        turn.requeue_train(train, f"{intent.ref} moved to {(event.head or 'nothing')[:12]}: composing anew")
        turn.set(head=event.head)
    elif event.allowed:
        landing.wait_for_rules(turn, train, event.refusal, again=event.again)
    elif event.refusal:
        evidence = Evidence(reason=f"the remote refused the push: {event.refusal}")
        turn.why = evidence.reason
        for carriage in train.carriages:
            turn.back(carriage.entry, E.QUARANTINED, q.ErrorClass.POLICY, evidence)
        turn.set(train=None)
    else:
        turn.why = "not pushed yet"
