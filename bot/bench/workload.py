"""Work to land: the steps of a real history, or of a synthetic tree, each transplanted to an older base.

A step is what one commit of a linear chain changes. Its base is the chain as it was some commits before; the content
submitted is the step brought back to that base. Landed on the step before it, the chain's own tree must come out
again, which makes every landing checkable. With `fit` a base moves closer until that holds by a line merge, which all
contestants can make; without, conflicts stay.
"""

import base64
import contextlib
import random
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

import pygit2

from bot.merge.commits import first_parents
from bot.merge.lines import merge_lines
from bot.merge.objects import Commit, Objects
from bot.merge.threeway import Merged, merge
from bot.merge.trees import Blob, Changes, Clash, changes_between, lookup, rewrite
from schemas.change_request import ChangeRequest

WHO = b"Bench <bench@example.org> 1700000000 +0000"
REF = "refs/heads/bench"
_PLAIN = (0o100644, 0o100755)
_ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}


@dataclass(frozen=True)
class Step:
    """One change: `line` is its change request as JSON, `lag` how many commits its base lies behind the head."""

    line: str
    lag: int
    base: str
    theirs: str
    """The tree of the base with the change made."""
    wanted: str
    """The tree that the chain has after it."""
    before: str
    """The chain's commit in front of it."""


@dataclass(frozen=True)
class Workload:
    """`start` is the commit on which the first step lands; `folder` a bare repository with everything in it."""

    name: str
    folder: Path
    start: str
    files: int
    steps: tuple[Step, ...]


def from_history(
    source: Path, folder: Path, changes: int, *, skip: int = 0, fit: bool = True, lags: int = 20
) -> Workload:
    """The last `changes` first-parent steps of a repository's HEAD (`skip` leaves the newest ones out)."""
    shutil.rmtree(folder, ignore_errors=True)
    command = ["git", "clone", "-q", "--bare", "--no-hardlinks", str(source), str(folder)]
    subprocess.run(command, check=True, capture_output=True, env=_ENV)
    objects = Objects(folder)
    head = str(objects.repository.head.target)
    newest = [*islice(first_parents(objects, head, None), skip + changes + lags + 1)][skip:]
    trees = [commit.tree for commit in reversed(newest)]
    return _transplanted(objects, source.resolve().name, trees, changes, fit=fit, lags=lags)


def synthetic(folder: Path, files: int, changes: int, *, lags: int = 50) -> Workload:
    """A tree of packages of 20 modules, five levels deep; a step edits one to three of them."""
    shutil.rmtree(folder, ignore_errors=True)
    pygit2.init_repository(str(folder), bare=True)
    objects = Objects(folder)
    dice = random.Random(files)
    paths = [f"d{n // 8000}/d{n // 1600 % 5}/d{n // 400 % 4}/p{n // 20 % 20}/m{n % 20}.py" for n in range(files)]
    body = "\n".join(f"def f{line}(value):\n    return value * {line}\n" for line in range(12))
    first = {path: Blob(objects.add_blob(f"# {path}\n{body}".encode()), 0o100644) for path in paths}
    tree = rewrite(objects, None, first)
    trees = [tree]
    for step in range(changes + lags):
        edits: dict[str, Blob | None] = {}
        for path in dice.sample(paths, dice.choice((1, 1, 2, 2, 2))):
            lines = objects.blob((lookup(objects, trees[-1], path) or first[path]).oid).split(b"\n")
            lines[dice.randrange(1, len(lines) - 1)] = b"    # step %d" % step
            edits[path] = Blob(objects.add_blob(b"\n".join(lines)), 0o100644)
        trees.append(rewrite(objects, trees[-1], edits))
    return _transplanted(objects, f"{files} files", trees, changes, fit=True, lags=lags)


def _transplanted(objects: Objects, name: str, trees: Sequence[str], changes: int, *, fit: bool, lags: int) -> Workload:
    chain: list[str] = []
    for tree in _plain_trees(objects, trees):
        who = (b"author " + WHO, b"committer " + WHO)
        chain.append(objects.add_commit(Commit("", tree, tuple(chain[-1:]), *who, b"", b"chain\n")))
    dice = random.Random(len(chain))
    # A short history gives fewer steps, whose bases are nearer.
    first = min(lags, max(len(chain) // 2, len(chain) - 1 - changes))
    steps: list[Step] = []
    for at in range(first + 1, len(chain)):
        step = _step(objects, chain, at, dice.randint(min(lags - 1, 1), lags), fit=fit)
        if step is not None:
            steps.append(step)
    start, folder = chain[first], objects.git_dir
    files = sum(1 for _ in _files(objects, objects.tree_of(start)))
    objects.flush([chain[-1], *(step.theirs for step in steps)])
    refs = pygit2.Repository(str(folder)).references
    refs.create(REF, pygit2.Oid(hex=start), force=True)
    refs.create("refs/heads/chain", pygit2.Oid(hex=chain[-1]), force=True)
    subprocess.run(["git", f"--git-dir={folder}", "repack", "-adkq"], check=False, env=_ENV)
    return Workload(name, folder, start, files, tuple(steps))


def _step(objects: Objects, chain: Sequence[str], at: int, lag: int, *, fit: bool) -> Step | None:
    before, after = objects.tree_of(chain[at - 1]), objects.tree_of(chain[at])
    changes = changes_between(objects, before, after)
    if not changes:
        return None
    for behind in range(lag, -1, -1) if fit else (lag,):
        commit = chain[max(at - 1 - behind, 0)]
        base = objects.tree_of(commit)
        theirs = _brought(objects, before, base, changes)
        edits = changes_between(objects, base, theirs)
        landed = merge(objects, base, before, edits) if fit else None
        if edits and (not fit or (landed == Merged(after))):
            request = _request(objects, f"bench/{at}", commit, base, edits)
            return Step(request, behind, commit, theirs, after, chain[at - 1])
    return None


def _brought(objects: Objects, before: str, base: str, changes: Changes) -> str:
    """The tree that an author would have made on an older base: the step's own lines, and wholly so where they meet
    what came between."""
    found: dict[str, Blob | None] = {}
    for path, after in changes.items():
        was, now = lookup(objects, before, path), lookup(objects, base, path)
        found[path] = after
        if now != was and was and now and after:
            parts = merge_lines(*(objects.blob(one.oid) for one in (was, now, after)))
            if parts is not None:
                data = b"".join(part if isinstance(part, bytes) else b"".join(part.theirs) for part in parts)
                found[path] = Blob(objects.add_blob(data), after.mode)
    try:
        return rewrite(objects, base, found)
    except Clash:
        return base


def _plain_trees(objects: Objects, trees: Sequence[str]) -> Iterator[str]:
    """The same history without what it does to links and submodules, which are not ours to change."""
    tree = trees[0]
    yield tree
    for old, new in pairwise(trees):
        changes = changes_between(objects, old, new)
        kept = {path: one for path, one in changes.items() if _plain(one) and _plain(lookup(objects, tree, path))}
        with contextlib.suppress(Clash):
            tree = rewrite(objects, tree, kept)
        yield tree


def _plain(blob: Blob | None) -> bool:
    return blob is None or blob.mode in _PLAIN


def _request(objects: Objects, name: str, commit: str, base: str, edits: dict[str, Blob | None]) -> str:
    patch: list[dict[str, str]] = []
    for path, blob in edits.items():
        was = lookup(objects, base, path)
        if blob is None:
            patch.append({"op": "delete", "path": path, "before": was.oid if was else ""})
            continue
        content = _content(objects.blob(blob.oid))
        mode = f"{blob.mode:o}"
        if was is None:
            patch.append({"op": "add", "path": path, "mode": mode, **content})
        elif was.oid == blob.oid:
            patch.append({"op": "chmod", "path": path, "before": was.oid, "mode": mode})
        else:
            patch.append({"op": "modify", "path": path, "before": was.oid, "mode": mode, **content})
    document = {"id": name, "base": commit, "title": f"Step {name}", "patch": patch}
    return ChangeRequest.model_validate(document).model_dump_json(by_alias=True, exclude_none=True)


def _content(data: bytes) -> dict[str, str]:
    try:
        if b"\0" in data:
            raise UnicodeDecodeError("utf-8", data, 0, 1, "binary")
        return {"content": data.decode("utf-8"), "encoding": "utf-8"}
    except UnicodeDecodeError:
        return {"content": base64.b64encode(data).decode("ascii"), "encoding": "base64"}


def _files(objects: Objects, tree: str) -> Iterator[str]:
    for mode, oid in objects.tree(tree).values():
        if mode == b"40000":
            yield from _files(objects, oid.hex())
        else:
            yield oid.hex()
