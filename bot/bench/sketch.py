"""A lane without git, so that `bot.rules.lanes` can be driven by the thousand: commits are what was put on a head."""

import hashlib
from collections.abc import Sequence

from bot.rules import lanes
from schemas import lane as q

LANE = "1:refs/heads/main"


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha1(text.encode()).digest())


def _sha(number: int) -> str:
    return f"{number % 2**160:040x}"


class Sketch:
    """A repository in which everything merges. Trees of the same changes are the same, whatever their order."""

    def __init__(self) -> None:
        self.head = _sha(0)
        self._trees = {self.head: 0}

    def compose(self, entries: Sequence[q.Entry]) -> q.Composed:
        """A train of all the entries on the head."""
        base = at = self.head
        tree = self._trees[base]
        results = []
        for entry in entries:
            tree += _number(entry.id)
            at = _sha(_number(f"{at} {entry.id}"))
            self._trees[at] = tree
            made = q.Carriage(entry=entry.id, commit=at, tree=_sha(tree))
            results.append(q.ComposeResult(entry=entry.id, outcome=q.Outcome.COMPOSED, carriage=made))
        return q.Composed(base=base, old=base, results=tuple(results))

    def push(self, lane: q.Lane) -> q.HeadRead:
        """Make the intent that is due true, and read it back."""
        intent = lanes.pending_intent(lane)
        assert intent is not None
        if intent.ref == lane.ref:
            self.head = intent.new_oid
        return q.HeadRead(ref=intent.ref, head=intent.new_oid, contains=True)
