"""Work to land: the steps of a real history, or of a synthetic tree, each transplanted to an older base.

A step is what one commit of a linear chain changes. Its base is the chain as it was some commits before; the content
submitted is the step brought back to that base. Landed on the step before it, the chain's own tree must come out
again, which makes every landing checkable. With `fit` a base moves closer until that holds; without, conflicts stay.
"""

import base64
import random
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pygit2
from pygit2.enums import FileMode, SortMode

from bot.merge.threeway import merge
from bot.merge.trees import Blob, changes_between, lookup, rewrite, tree_of
from schemas.base import Evidence
from schemas.change_request import ChangeRequest

WHO = pygit2.Signature("Bench", "bench@example.org", 1_700_000_000, 0)
REF = "refs/heads/bench"
_PLAIN = (FileMode.BLOB, FileMode.BLOB_EXECUTABLE)
_ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}


@dataclass(frozen=True)
class Step:
    """One change: `line` is its change request as JSON, `lag` how many commits its base lies behind."""

    line: str
    lag: int
    base: str
    theirs: str
    """The tree of the base with the change made."""
    wanted: str
    """The tree that the chain has after it."""


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
    repo = pygit2.Repository(str(folder))
    walker = repo.walk(repo.head.target, SortMode.TOPOLOGICAL)
    walker.simplify_first_parent()
    newest = [commit for _, commit in zip(range(skip + changes + lags + 1), walker, strict=False)][skip:]
    trees = [str(commit.tree_id) for commit in reversed(newest)]
    return _transplanted(repo, folder, source.resolve().name, trees, changes, fit=fit, lags=lags)


def synthetic(folder: Path, files: int, changes: int, *, lags: int = 50) -> Workload:
    """A tree of packages of 20 modules, five levels deep; a step edits one to three of them."""
    shutil.rmtree(folder, ignore_errors=True)
    repo = pygit2.init_repository(str(folder), bare=True)
    dice = random.Random(files)
    paths = [f"d{n // 8000}/d{n // 1600 % 5}/d{n // 400 % 4}/p{n // 20 % 20}/m{n % 20}.py" for n in range(files)]
    body = "\n".join(f"def f{line}(value):\n    return value * {line}\n" for line in range(12))
    first = {path: Blob(str(repo.create_blob(f"# {path}\n{body}".encode())), int(FileMode.BLOB)) for path in paths}
    tree = rewrite(repo, None, first)
    trees = [tree]
    for step in range(changes + lags):
        before = tree_of(repo, trees[-1])
        edits: dict[str, Blob | None] = {}
        for path in dice.sample(paths, dice.choice((1, 1, 2, 2, 2))):
            lines = repo[(lookup(before, path) or first[path]).oid].peel(pygit2.Blob).data.split(b"\n")
            lines[dice.randrange(1, len(lines) - 1)] = b"    # step %d" % step
            edits[path] = Blob(str(repo.create_blob(b"\n".join(lines))), int(FileMode.BLOB))
        trees.append(rewrite(repo, before, edits))
    subprocess.run(["git", f"--git-dir={folder}", "repack", "-adq"], check=False, env=_ENV)
    return _transplanted(repo, folder, f"{files} files", trees, changes, fit=True, lags=lags)


def _transplanted(
    repo: pygit2.Repository, folder: Path, name: str, trees: Sequence[str], changes: int, *, fit: bool, lags: int
) -> Workload:
    chain: list[str] = []
    for tree in trees:
        parents = [pygit2.Oid(hex=chain[-1])] if chain else []
        chain.append(str(repo.create_commit(None, WHO, WHO, "chain\n", pygit2.Oid(hex=tree), parents)))
    dice = random.Random(len(chain))
    # A short history gives fewer steps, whose bases are nearer.
    first = min(lags, max(len(chain) // 2, len(chain) - 1 - changes))
    steps: list[Step] = []
    for at in range(first + 1, len(chain)):
        step = _step(repo, chain, at, dice.randint(1, lags), fit=fit)
        if step is not None:
            steps.append(step)
    start = chain[first]
    repo.references.create(REF, pygit2.Oid(hex=start), force=True)
    repo.references.create("refs/heads/chain", pygit2.Oid(hex=chain[-1]), force=True)
    subprocess.run(["git", f"--git-dir={folder}", "repack", "-adq"], check=False, env=_ENV)
    files = sum(1 for _ in _files(repo, tree_of(repo, start)))
    return Workload(name, folder, start, files, tuple(steps))


def _step(repo: pygit2.Repository, chain: Sequence[str], at: int, lag: int, *, fit: bool) -> Step | None:
    before, after = tree_of(repo, chain[at - 1]), tree_of(repo, chain[at])
    changes = changes_between(before, after)
    if not changes or any(not _plain(blob) or not _plain(lookup(before, path)) for path, blob in changes.items()):
        return None  # links and submodules are not ours to change
    for behind in (*range(lag, 1, -1), 1) if fit else (lag,):
        base = tree_of(repo, chain[max(at - behind, 0)])
        moved = merge(repo, before, base, changes)
        if isinstance(moved, Evidence):
            continue
        theirs = tree_of(repo, moved.tree)
        edits = changes_between(base, theirs)
        landed = merge(repo, base, before, edits)
        if not edits or (fit and (isinstance(landed, Evidence) or landed.tree != str(after.id))):
            continue
        line = _request(repo, f"bench/{at}", chain[max(at - behind, 0)], base, edits)
        return Step(line, behind, chain[max(at - behind, 0)], moved.tree, str(after.id))
    return None


def _plain(blob: Blob | None) -> bool:
    return blob is None or blob.mode in _PLAIN


def _request(repo: pygit2.Repository, name: str, commit: str, base: pygit2.Tree, edits: dict[str, Blob | None]) -> str:
    patch: list[dict[str, str]] = []
    for path, blob in edits.items():
        was = lookup(base, path)
        if blob is None:
            patch.append({"op": "delete", "path": path, "before": was.oid if was else ""})
            continue
        content = _content(repo[blob.oid].peel(pygit2.Blob).data)
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


def _files(repo: pygit2.Repository, tree: pygit2.Tree) -> Iterator[str]:
    for entry in tree:
        if isinstance(entry, pygit2.Tree):
            yield from _files(repo, entry)
        else:
            yield str(entry.id)
