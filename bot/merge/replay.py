"""Composing landed trains anew from their records, beside the real repository, and comparing the commits.

The scratch git dir has the real one's objects as alternates and keeps what it writes to itself.
"""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pygit2

from bot.merge import commits
from bot.merge.compose import Start, compose
from bot.merge.objects import Objects
from bot.merge.trees import changes_between
from schemas import lane as q
from schemas.audit import AuditRow
from schemas.base import Frozen, Sha
from schemas.decision import LaneDecision

THREADS = 2


class Landed(Frozen):
    """A train as it was recorded. `row` is the chain's row that composed it, `fork` the lane's fork then."""

    row: int
    fork: Sha | None
    composed: q.Composed
    entries: tuple[str, ...]
    landed: tuple[tuple[str, Sha | None], ...] = ()
    """What each entry is on the branch, which is another commit where GitHub made it."""


class Difference(NamedTuple):
    """The first commit that came out otherwise, or why nothing could be composed."""

    train: int
    entry: str
    what: str


class Fold:
    """A lane's rows, in order, to its landed trains."""

    def __init__(self) -> None:
        self._open: Landed | None = None

    def add(self, row: AuditRow, event: str | None, decision: str | None) -> Landed | None:
        """The train that this row says has landed, if it does. Raises LookupError if its texts were erased."""
        if row.kind not in ("composed", "checked", "confirmed", "head_read"):
            return None
        if not event or not decision:
            raise LookupError(f"the texts of row {row.seq} were erased")
        decided = LaneDecision.model_validate_json(decision)
        train = decided.lane.train
        names = tuple(carriage.entry for carriage in train.carriages) if train else ()
        if row.kind == "composed":
            composed = q.Composed.model_validate_json(event)
            self._open = Landed(row=row.seq, fork=decided.lane.fork, composed=composed, entries=names)
        elif self._open and names:  # a red train goes on as its green prefix
            self._open = self._open.model_copy(update={"entries": names})
        elif row.kind == "head_read" and any(move.to is q.EntryState.LANDED for move in decided.moves):
            moved = tuple((move.entry, move.commit) for move in decided.moves)
            return self._open and self._open.model_copy(update={"landed": moved})
        return None


@contextlib.contextmanager
def beside(git_dir: Path) -> Iterator[Path]:
    """A git dir with all objects of the real one, for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="interlock-replay-") as place:
        pygit2.init_repository(place, bare=True)
        Path(place, "objects", "info", "alternates").write_text(f"{git_dir / 'objects'}\n", "utf-8")
        yield Path(place)


def again(
    scratch: Path, train: Landed, entries: Mapping[str, q.Entry], seen: commits.Landed, driver: str
) -> Difference | int:
    """Compose the train anew: how many commits came out the same, or the first difference. `seen` and `driver` are
    compose's."""
    recorded = {result.entry: result.carriage for result in train.composed.results if result.carriage}
    taken = [entries[name] for name in train.entries if name in entries]
    missing = next((name for name in train.entries if name not in entries or not _whole(entries[name])), None)
    if missing:
        return Difference(train.row, missing, "its content was erased: it cannot be replayed")
    heads = {name: carriage.branch_old for name, carriage in recorded.items()}
    series = next((entry.series.fork for entry in taken if entry.series), None)
    fork = train.fork or next((entry.fork for entry in taken if entry.fork), None)
    start = Start(old=train.composed.old, base=train.composed.base, fork=series or fork, branch_heads=heads)
    if start.base not in Objects(scratch):
        return Difference(train.row, train.entries[0], f"its base {start.base} is not in the repository any more")
    made = {result.entry: result for result in compose(scratch, start, taken, THREADS, seen, driver).results}
    count = 0
    for entry in taken:
        was, now = recorded[entry.id], made.get(entry.id)
        if now is None or now.carriage is None:
            why = now.evidence.reason if now and now.evidence else "it was left out"
            return Difference(train.row, entry.id, f"it composed as {was.commit} and now does not: {why}")
        if now.carriage.commit != was.commit:
            return Difference(train.row, entry.id, _differs(Objects(scratch), was.commit, now.carriage.commit))
        landed = dict(train.landed).get(entry.id)
        if landed and Objects(scratch).tree_of(landed) != now.carriage.tree:
            return Difference(train.row, entry.id, f"it landed as {landed} with another tree than {now.carriage.tree}")
        count += max(1, len({commit for _, commit in now.carriage.commits}))
    return count


def _whole(entry: q.Entry) -> bool:
    return any(part is not None for part in (entry.change, entry.series, entry.rebase))


def _differs(objects: Objects, was: Sha, now: Sha) -> str:
    """What of two commits is not the same."""
    about = f"it landed as {was} and composes as {now}"
    if was not in objects:
        return f"{about}; the first one is not in the repository any more"
    one, two = objects.commit(was), objects.commit(now)
    parts = [name for name in ("parents", "message", "author", "committer") if getattr(one, name) != getattr(two, name)]
    paths = sorted(changes_between(objects, one.tree, two.tree))
    return f"{about}: {', '.join([*parts, *(f'the file {path}' for path in paths[:5])])} differ"
