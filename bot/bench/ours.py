"""Our own queue in the simulated day: `bot.rules.lanes.decide` itself, over real lanes and entries, with a clock of minutes."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from bot.bench.sketch import LANE, Sketch
from bot.bench.waiting import Change, Run, World
from bot.rules import lanes, probes
from schemas import lane as q
from schemas.base import CheckCommand, Evidence
from schemas.decision import LaneDecision

START = datetime(2026, 1, 1, tzinfo=UTC)
CHECK = CheckCommand(name="tests", command="make test", standing=True)
RED = Evidence(reason="make test exited with 1", check=CHECK.name, command=CHECK.command)
E = q.EntryState


class Ours:
    """One lane. What the lander and the store do is told in `_step` and `_apply`; what to do is the product's to say."""

    def __init__(self) -> None:
        self.lane = q.Lane(key=LANE, ref="refs/heads/main")
        self.sketch = Sketch()
        self.entries: dict[str, q.Entry] = {}
        self.changes: dict[str, Change] = {}
        self.run: Run | None = None
        self.proofs: dict[str, Run] = {}
        """The green run of each tree: a verdict is kept."""

    def turn(self, world: World) -> None:
        """See bot.bench.waiting.Policy: steps until the lane waits for a check run, or for entries."""
        for change in world.waiting:
            name = f"c{change.number}"
            if name not in self.entries:
                self.changes[name] = change
                self.entries[name] = q.Entry(id=name, lane=LANE, seq=change.number, accepted=_instant(change.at),
                                             next_try=_instant(change.at), checks=(CHECK,))  # fmt: skip
        while self._step(world):
            pass

    def _step(self, world: World) -> bool:
        train = self.lane.train
        if train is None:
            entries = self._due(world)
            return bool(entries) and self._decide(world, self.sketch.compose(entries), entries)
        entries = [self.entries[carriage.entry] for carriage in train.carriages]
        match train.state:
            case q.TrainState.COMPOSED:
                checked = self._check(world, train)
                return checked is not None and self._decide(world, checked, entries)
            case q.TrainState.CHECKED:
                return self._decide(world, q.Confirmed(), entries)
            case _:
                return self._decide(world, self.sketch.push(self.lane), entries, self.proofs[train.tree])

    def _due(self, world: World) -> Sequence[q.Entry]:
        """As the store gives them: queued, and their next try has come. Looks again when the earliest one is due."""
        queued = [entry for entry in self.entries.values() if entry.state is E.QUEUED and entry.next_try is not None]
        due = [entry for entry in queued if entry.next_try is not None and entry.next_try <= _instant(world.now)]
        if queued and not due:
            world.wake(min((entry.next_try - START) / timedelta(minutes=1) for entry in queued if entry.next_try))
        return sorted(due, key=lambda entry: entry.seq)[: self.lane.window]

    def _check(self, world: World, train: q.Train) -> q.Checked | None:
        """What the run says that the train asks for; None while it is under way."""
        probe = probes.due(train, [self.entries[carriage.entry] for carriage in train.carriages])
        assert probe is not None
        length = probe.length
        tree = train.carriages[length - 1].tree if length else train.base
        if self.run is None and tree not in self.proofs:
            self.run = world.check([self.changes[carriage.entry] for carriage in train.carriages[:length]])
        if self.run is not None:
            if self.run.green is None:
                return None
            if not self.run.green:
                self.run = None
                return q.Checked(outcome="red", length=length, evidence=RED)
            self.proofs[tree], self.run = self.run, None
        return q.Checked(outcome="green", length=length, verdict="checks passed")

    def _decide(self, world: World, event: q.LaneEvent, entries: Sequence[q.Entry], proof: Run | None = None) -> bool:
        decision = lanes.decide(self.lane, event, {entry.id: entry for entry in entries})
        self.lane = decision.lane
        if any(move.to is E.LANDED for move in decision.moves):
            assert proof is not None
            world.land(proof)
        self._apply(world, decision)
        return True

    def _apply(self, world: World, decision: LaneDecision) -> None:
        """As the store keeps it."""
        for move in decision.moves:
            entry = self.entries[move.entry]
            next_try = _instant(world.now) + timedelta(seconds=move.delay_seconds)
            rested = move.to not in (E.COMPOSED, E.CHECKING, E.LANDING)
            known = {"state": move.to, "next_try": next_try, "error": move.error,
                     "attempts": entry.attempts + move.counts, "outcomes": entry.outcomes + rested,
                     "deliveries": entry.deliveries + (move.to is E.COMPOSED)}  # fmt: skip
            self.entries[move.entry] = entry.model_copy(update=known)
            if move.to in (E.REWORK, E.QUARANTINED):
                world.eject(self.changes[move.entry])


def _instant(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)
