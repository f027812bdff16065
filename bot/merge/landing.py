"""The last steps of a train: the gate once more, and onto the branch by the way that its rules ask for.

By push or through GitHub's API an intent is on disk before the ref is moved, and the ref is read back. GitHub's own merge
queue moves the ref itself: what it made is verified afterwards against what was approved.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Protocol

import pygit2

from bot.errors import Rejected, Stale, Transient
from bot.merge.commits import change_of, first_parents, series, tree_before
from bot.merge.git import consolidate
from bot.merge.objects import Commit, Objects
from bot.merge.trees import changes_between, tree_digest
from bot.ports import Clock, Confirmer, Faults, PushResult, Remote
from bot.rules import lanes
from schemas import lane as q
from schemas.base import Evidence, Sha
from schemas.landing import Draft, Merging, QueuedPull, Wanted, Way

LOOK_SECONDS, MOST_SECONDS = 20.0, 120.0
"""Between two looks at GitHub's merge queue: a tenth of the time that it has taken, within these bounds."""
SUBMODULE = 0o160000


class Landing(Protocol):
    """The ways onto a protected branch (bot.github.landing). Each raises Transient, or Rejected with GitHub's words."""

    async def way(self, lane: str, wanted: Wanted, *, fresh: bool = False) -> Way:
        """The way to the lane's branch. What its rules ask for is remembered a while unless it must be `fresh`."""

    async def commit(self, lane: str, draft: Draft) -> Sha:
        """Make a commit on GitHub that it signs; nothing points at it yet. Made twice, there are two."""

    async def move(self, lane: str, intent: q.Intent) -> PushResult:
        """Move a ref by compare-and-swap to a commit that is on GitHub."""

    async def look(self, lane: str, ticket: str) -> QueuedPull:
        """The ticket's pull request in GitHub's merge queue."""

    async def enqueue(self, lane: str, pull: QueuedPull, head: Sha) -> None:
        """Put it into the queue, if this is still its head."""

    async def dequeue(self, lane: str, pull: QueuedPull) -> None:
        """Take it out again."""

    async def vouch(self, lane: str, commit: Sha, fault: str) -> None:
        """Report our check on a group's commit, once: some branches require it there, too."""


@dataclass(frozen=True, kw_only=True)
class Landings:
    """`landing` is None where there is no GitHub: everything is pushed."""

    confirmer: Confirmer
    landing: Landing | None
    clock: Clock
    faults: Faults

    async def confirm(self, lane: q.Lane, train: q.Train, remote: Remote, entries: Sequence[q.Entry]) -> q.Confirmed:
        """The gate once more; then the way, with what it needs before anything is moved."""
        refused: list[tuple[str, str]] = []
        for entry, carriage in zip(entries, train.carriages, strict=True):
            if entry.state in ("cancelled", "superseded"):
                refused.append((entry.id, "it was withdrawn"))
                continue
            answer = await self.confirmer.confirm(entry, carriage)
            if answer.status == "unknown":
                return q.Confirmed(unknown=answer.reason or "approvals could not be read")
            if answer.status == "refused":
                refused.append((entry.id, answer.reason))
        if refused or self.landing is None:
            return q.Confirmed(refused=tuple(refused))
        try:
            way = await self.landing.way(lane.key, entries[-1].landing)
            if way == "merge_queue" and all(entry.series for entry in entries):
                pulls = [(entry.id, await self.landing.look(lane.key, entry.ticket)) for entry in entries]
                return q.Confirmed(way=way, removals=tuple((name, pull.removal) for name, pull in pulls))
            if way == "api":
                return q.Confirmed(way=way, made=await self._made(self.landing, lane, train, remote, entries))
        except Transient as error:
            return q.Confirmed(unknown=str(error))
        except Rejected as error:
            return q.Confirmed(refusal=str(error))
        return q.Confirmed()

    async def _made(
        self, landing: Landing, lane: q.Lane, train: q.Train, remote: Remote, entries: Sequence[q.Entry]
    ) -> tuple[tuple[Sha, Sha], ...]:
        """Each commit of the train again, made by GitHub in the same order; one that is signed and stays where it is
        is itself."""
        rebased = entries[-1].rebase
        start = rebased.onto if rebased else train.base
        made: dict[Sha, Sha] = {start: start}
        await asyncio.to_thread(_verify, remote, train)
        for oid, signed, draft in await asyncio.to_thread(lambda: [*_drafts(remote, start, train.tip)]):
            parent = made[draft.parent]
            if signed and parent == draft.parent:
                made[oid] = oid
                continue
            self.faults.reach("land:sign:before")
            made[oid] = await landing.commit(lane.key, draft.model_copy(update={"parent": parent}))
            self.faults.reach("land:sign:after")
        return tuple((old, new) for old, new in made.items() if old != new)

    async def land(self, lane: q.Lane, train: q.Train, remote: Remote, wanted: Wanted) -> q.HeadRead:
        """Push what is intended next, unless it is there already, and read back."""
        intent = lanes.pending_intent(lane)
        assert intent is not None
        pushed = PushResult("ok")
        head = await remote.head(intent.ref)
        if head == intent.expected_old and not await asyncio.to_thread(_contains, remote, head, intent.new_oid):
            if train.way == "push" or self.landing is None:
                await asyncio.to_thread(_verify, remote, train)
                self.faults.reach("land:push:before")
                pushed = await remote.push(intent.ref, intent.expected_old, intent.new_oid, force=intent.force)
                self.faults.reach("land:push:after")
            else:
                self.faults.reach("land:move:before")
                pushed = await self.landing.move(lane.key, intent)
                self.faults.reach("land:move:after")
            head = await remote.head(intent.ref)
        contains = await asyncio.to_thread(_contains, remote, head, intent.new_oid)
        if contains:
            await asyncio.to_thread(consolidate, remote.git_dir)
        closed, again = pushed.status == "closed", False
        if closed and not contains and self.landing is not None:
            again = await self.landing.way(lane.key, wanted, fresh=True) != train.way
        refusal = pushed.message if closed or pushed.status == "refused" else ""
        return q.HeadRead(ref=intent.ref, head=head, contains=contains, refusal=refusal, allowed=closed, again=again)

    # --- GitHub's merge queue -------------------------------------------------------------------------------------
    async def follow(self, lane: q.Lane, train: q.Train, remote: Remote, entries: Sequence[q.Entry]) -> q.QueueRead:
        """Where each entry is by now; what GitHub's queue does not have yet is put into it."""
        assert self.landing is not None
        head = await remote.head(lane.ref)
        results = []
        for entry, carriage in zip(entries, train.carriages, strict=True):
            try:
                found = await self._merging(self.landing, lane, remote, entry, carriage)
            except Transient:
                found = Merging(entry=entry.id, state="waiting")
            except Rejected as error:
                found = Merging(entry=entry.id, state="closed", evidence=Evidence(reason=str(error)))
            results.append(found)
        now = self.clock.wall()
        since = train.ci_since or now
        pause = max(LOOK_SECONDS, min(MOST_SECONDS, (now - since).total_seconds() / 10))
        look_at = now + timedelta(seconds=pause)
        return q.QueueRead(results=tuple(results), since=since, look_at=look_at, head=head)

    async def _merging(
        self, landing: Landing, lane: q.Lane, remote: Remote, entry: q.Entry, carriage: q.Carriage
    ) -> Merging:
        pull = await landing.look(lane.key, entry.ticket)
        waiting = Merging(entry=entry.id, state="waiting")
        if pull.state != "merged":
            answer = await self.confirmer.confirm(entry, carriage)
            if answer.status == "refused" and pull.state == "waiting":
                self.faults.reach("land:dequeue:before")
                await landing.dequeue(lane.key, pull)
                self.faults.reach("land:dequeue:after")
                pull = await landing.look(lane.key, entry.ticket)  # it may have been merged just now
            if answer.status == "refused" and pull.state != "merged":
                return Merging(entry=entry.id, state="policy", evidence=Evidence(reason=answer.reason))
            if answer.status == "unknown":
                return waiting
        if pull.state == "merged":
            head = await remote.head(lane.ref)
            if pull.commit is None or not await asyncio.to_thread(_contains, remote, head, pull.commit):
                return waiting  # not to be seen on the branch yet
            return await asyncio.to_thread(_merged, remote, entry, pull.commit)
        if pull.state == "closed":
            return Merging(entry=entry.id, state="person", evidence=Evidence(reason="the pull request was closed"))
        if pull.state == "waiting":
            await self._vouch(landing, lane, remote, entry, pull)
            return waiting
        if pull.removal != carriage.removal:
            return _let_go(entry.id, pull)
        self.faults.reach("land:enqueue:before")
        await landing.enqueue(lane.key, pull, carriage.branch_old or carriage.commit)
        self.faults.reach("land:enqueue:after")
        return waiting

    async def _vouch(self, landing: Landing, lane: q.Lane, remote: Remote, entry: q.Entry, pull: QueuedPull) -> None:
        """Hold the group's commit against what was approved before GitHub merges it."""
        if pull.commit is not None and pull.group and await remote.head(pull.group) == pull.commit:
            found = await asyncio.to_thread(_merged, remote, entry, pull.commit)
            with contextlib.suppress(Rejected):  # without our check the queue goes on, or says what it misses
                await landing.vouch(lane.key, pull.commit, found.evidence.reason if found.evidence else "")


def _let_go(entry: str, pull: QueuedPull) -> Merging:
    """Why GitHub's queue let go of it, and whose turn it is: GitHub's words are not listed anywhere."""
    failed = f" ({pull.failed})" if pull.failed else ""
    evidence = Evidence(reason=f"GitHub's merge queue let go of it: {pull.reason}{failed}", check=pull.failed or None)
    words = pull.reason.partition(" by ")[0].lower()
    if words in ("merge", "merged"):
        return Merging(entry=entry, state="waiting")  # the pull request will say so, too
    if "conflict" in words:
        return Merging(entry=entry, state="conflict", evidence=evidence)
    red = pull.failed or any(sign in words for sign in ("fail", "ci_", "timed", "timeout"))
    return Merging(entry=entry, state="check" if red else "person", evidence=evidence)


def _merged(remote: Remote, entry: q.Entry, commit: Sha) -> Merging:
    """What GitHub made of a series, held against what was approved: as one commit (merged or squashed), or as many."""
    assert entry.series is not None
    objects = Objects(remote.git_dir)
    mine = [change_of(one) for one in series(objects, entry.series.fork, entry.series.tip)]
    tip, found = objects.commit(commit), list[Commit]()
    for one in islice(first_parents(objects, commit, None), len(mine)):
        found.insert(0, one)
        if tree_digest(objects, tree_before(objects, one), tip.tree) == entry.series.digest:
            break
    else:
        reason = f"GitHub's merge queue made {commit} of it, whose patch is not the one that was approved"
        return Merging(entry=entry.id, state="person", evidence=Evidence(reason=reason))
    trailers = [change_of(one) for one in found]
    by = "trailers" if [*filter(None, trailers)] == [*filter(None, mine)] else "pull request"
    said = f"merged by GitHub's merge queue and verified afterwards: its patch is the one that was approved (found by its {by})"
    where = dict(zip(trailers, (one.oid for one in found), strict=True))
    commits = tuple((name, where.get(name, commit)) for name in mine)
    return Merging(entry=entry.id, state="merged", commit=commit, tree=tip.tree, commits=commits, said=said)


# --- git --------------------------------------------------------------------------------------------------------------
def _drafts(remote: Remote, start: Sha, tip: Sha) -> Iterator[tuple[Sha, bool, Draft]]:
    """The commits `start..tip`, oldest first: each with whether it is signed, and as GitHub is asked to make it."""
    objects = Objects(remote.git_dir)
    for commit in series(objects, start, tip):
        before = tree_before(objects, commit)
        files = [
            (path, f"{blob.mode:o}", blob.oid, None if blob.mode == SUBMODULE else objects.blob(blob.oid))
            if blob else (path, "", "", None)
            for path, blob in changes_between(objects, before, commit.tree).items()
        ]  # fmt: skip
        text = commit.message
        if not change_of(commit):  # GitHub signs nobody else's commits, so their author is named in the text
            who = commit.author.partition(b" ")[2].rpartition(b"> ")[0].decode("utf-8", "replace")
            text = f"{text.rstrip()}\n\nCo-authored-by: {who}>\n"
        try:
            draft = Draft(parent=commit.parents[0], before=before, tree=commit.tree, message=text, files=tuple(files))
        except ValueError:
            raise Rejected("a file's name is no UTF-8, which only a push can carry") from None
        signed = objects.repository[commit.oid].peel(pygit2.Commit).gpg_signature[0] is not None
        yield commit.oid, signed, draft


def _contains(remote: Remote, head: Sha | None, commit: Sha) -> bool:
    if head is None or head == commit:
        return head is not None
    repo = Objects(remote.git_dir).repository
    return commit in repo and repo.descendant_of(head, commit)


def _verify(remote: Remote, train: q.Train) -> None:
    """What is pushed is what was checked: the tip's tree, and each change's own paths and no others."""
    objects = Objects(remote.git_dir)
    if objects.tree_of(train.tip) != train.tree:
        raise Stale("the tip's tree is not the one that was checked")
    for carriage in train.carriages:
        commit = objects.commit(carriage.commit)
        if len(carriage.commits) != 1 or not carriage.paths or carriage.rung in ("rebase", "merge-tree"):
            continue
        if not set(changes_between(objects, tree_before(objects, commit), commit.tree)) <= set(carriage.paths):
            raise Stale(f"{carriage.entry} touches files that it did not name")
