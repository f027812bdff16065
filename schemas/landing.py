"""How what is ready comes onto a branch: the ways, the pushes that will be made, and what the remote says of them."""

from typing import Literal

from schemas.base import Evidence, Frozen, Instant, Kinded, Sha

Way = Literal["push", "api", "merge_queue"]
"""By git push; as commits that GitHub makes and signs; by GitHub's own merge queue."""

Wanted = Literal["auto", "push", "api", "merge_queue"]
"""What the policy asks for; auto: what the branch's rules ask for."""


class Intent(Frozen):
    """A push that will be made: moved by compare-and-swap, settled only by reading the remote back."""

    ref: str
    expected_old: Sha | None
    new_oid: Sha
    settled: bool = False
    force: bool = False


class Merging(Frozen):
    """What GitHub's merge queue has made of one entry: still in the queue; merged as `commit`, with what was verified; not
    taken (closed); or let go, and by whose turn it is: the author's (conflict, check), the reviewers' (policy), a person's."""

    entry: str
    state: Literal["waiting", "merged", "closed", "conflict", "check", "policy", "person"]
    commit: Sha | None = None
    tree: Sha | None = None
    commits: tuple[tuple[str, Sha], ...] = ()
    said: str = ""
    evidence: Evidence | None = None


class HeadRead(Kinded, kind="head_read"):
    """The remote was read back after a push (or after a restart with a prepared intent).

    `contains`: the intent's commit is the remote's head or one of its ancestors. `refusal` is the remote's own sentence
    when its rules rejected the push; `again`: when it may be tried again without a person, as the rules are others now.
    """

    ref: str
    head: Sha | None
    contains: bool
    refusal: str = ""
    allowed: bool = False
    """The refusal is one that a maintainer may lift: nobody's change is at fault."""
    again: bool = False


class QueueRead(Kinded, kind="queue_read"):
    """GitHub's merge queue was read (and asked to take what it did not have), which has been waited for since then."""

    results: tuple[Merging, ...] = ()
    since: Instant
    look_at: Instant
    head: Sha | None = None


class Draft(Frozen):
    """A commit to be made on GitHub. `files`: where its tree differs from `before`, the tree of its parent, each with mode,
    oid and content; without a mode it is gone, without content it is a submodule's commit."""

    parent: Sha
    before: Sha
    tree: Sha
    message: str
    files: tuple[tuple[str, str, str, bytes | None], ...] = ()


class QueuedPull(Frozen):
    """A pull request as GitHub's merge queue has it. `removal` names the last time that the queue let go of it (empty:
    never), `reason` says why and `failed` by which checks; `commit` is what it was merged as, or would be: its group's commit,
    whose `group` is the branch of it."""

    id: str
    state: Literal["waiting", "merged", "closed", "out"]
    commit: Sha | None = None
    group: str = ""
    removal: str = ""
    reason: str = ""
    failed: str = ""
