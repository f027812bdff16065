"""Three-way merge at path level: equal ids need no merge, only a true overlap merges content.

What the lines alone cannot settle climbs the ladder: git's own merge has the second word, then come the rungs that the
operator or the policy allows (bot.merge.ladder). Each rung above the first says what it made of what.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bot.merge.git import git_version
from bot.merge.ladder import LINE, Ladder, Sides, climb
from bot.merge.lines import Conflict, merge_lines
from bot.merge.objects import Objects
from bot.merge.pack import common
from bot.merge.second_word import second_word
from bot.merge.trees import Blob, Changes, Clash, changes_between, lookup, names, rewrite, subtree
from bot.rules.paths import twin
from schemas.base import Evidence
from schemas.lane import Resolution

TEXT_LIMIT = 20_000


@dataclass(frozen=True)
class Merged:
    """The merged tree, the highest rung that it took, and what was done on rungs above the line merge."""

    tree: str
    rung: str = "line"
    resolutions: tuple[Resolution, ...] = ()


def merge(objects: Objects, base: str, ours: str, changes: Changes, ladder: Ladder = LINE) -> Merged | Evidence:
    """Bring `changes`, made on the tree `base`, onto the tree `ours`; or the first path that cannot be merged, with the
    three texts."""
    result: dict[str, Blob | None] = {}
    open_paths: dict[str, Sides] = {}
    for path, theirs in changes.items():
        was, now = lookup(objects, base, path), lookup(objects, ours, path)
        if was is None and now is None and theirs and (other := _new_twin(objects, base, ours, path, changes)):
            reason = f"conflict in {path}: {other}, which differs in case or composition only, was added meanwhile"
            return Evidence(reason=reason, path=path)
        if now == was:
            result[path] = theirs
        elif theirs != now:
            merged = _file(objects, was, now, theirs)
            if isinstance(merged, Blob):
                result[path] = merged
            else:
                open_paths[path] = merged
    clash = ""
    try:
        tree = rewrite(objects, ours, result)
        if not open_paths:
            return Merged(tree)
    except Clash as problem:
        clash = problem.path
    told = second_word(objects, base, ours, changes)
    if told is not None:
        return Merged(told, "merge-tree", tuple(_told(objects, told, open_paths)))
    if not clash:
        climbed = _climbed(objects, ours, result, open_paths, ladder)
        if climbed is not None:
            return climbed
    return _evidence(objects, base, ours, changes, clash or next(iter(open_paths)))


def _new_twin(objects: Objects, base: str, ours: str, path: str, changes: Changes) -> str | None:
    """What the other side made where this path is the same name to many a file system. Git sees no conflict there."""
    found = twin(path, lambda directory: names(objects, ours, directory))
    if found is None or changes.get(found, found) is None:
        return None
    known = lookup(objects, base, found) is not None or subtree(objects, base, found) is not None
    return None if known else found


def _file(objects: Objects, was: Blob | None, now: Blob | None, theirs: Blob | None) -> Blob | Sides:
    """One path that both sides changed: its merged file, or what is left to be settled."""
    sides = Sides(was, now, theirs)
    if was is None or now is None or theirs is None or not (was.regular and now.regular and theirs.regular):
        return sides
    mode = theirs.mode if now.mode == was.mode else now.mode
    if theirs.oid in (was.oid, now.oid):
        return Blob(now.oid, mode)
    if now.oid == was.oid:
        return Blob(theirs.oid, mode)
    parts = merge_lines(*(objects.blob(blob.oid) for blob in (was, now, theirs)))
    if parts is None:
        return sides
    settled = [part for part in parts if not isinstance(part, Conflict)]
    if len(settled) < len(parts):
        return sides._replace(parts=tuple(parts), mode=mode)
    return Blob(objects.add_blob(b"".join(settled), now.oid), mode)


def _climbed(
    objects: Objects, ours: str, result: dict[str, Blob | None], open_paths: dict[str, Sides], ladder: Ladder
) -> Merged | None:
    """Every open path settled by some rung, or nothing."""
    found: list[Resolution] = []
    for path, sides in open_paths.items():
        settled = climb(objects, path, sides, ladder)
        if settled is None or settled.result is None:
            return None
        result[path] = Blob(settled.result, sides.mode)
        found.append(settled)
    try:
        tree = rewrite(objects, ours, result)
    except Clash:
        return None
    return Merged(tree, _highest(found), tuple(found))


def _told(objects: Objects, tree: str, open_paths: dict[str, Sides]) -> Iterator[Resolution]:
    for path, sides in open_paths.items():
        was, now, theirs, result = (blob and blob.oid for blob in (*sides[:3], lookup(objects, tree, path)))
        yield Resolution(
            path=path, rung="merge-tree", version=git_version(), base=was, ours=now, theirs=theirs, result=result
        )


def _highest(found: Sequence[Resolution]) -> str:
    order = ("safe", "union", "driver")
    return max((one.rung for one in found), key=order.index)


def _evidence(objects: Objects, base: str, ours: str, changes: Changes, path: str) -> Evidence:
    sides = (lookup(objects, base, path), lookup(objects, ours, path), changes.get(path))
    reason = f"conflict in {path}: both sides changed the same lines"
    was, now, theirs = _texts([None if side is None or not side.regular else objects.blob(side.oid) for side in sides])
    return Evidence(reason=reason, path=path, base=was, ours=now, theirs=theirs)


def _texts(sides: list[bytes | None]) -> list[str | None]:
    """What an agent is shown of three files; of long ones the part behind what all have in common, which is left out."""
    start, texts = 0, [data for data in sides if data is not None]
    if len(texts) == 3 and max(map(len, texts)) > TEXT_LIMIT:
        shared = min(common(texts[0], text)[0] for text in texts[1:])
        start = texts[0].rfind(b"\n", 0, max(shared - TEXT_LIMIT // 4, 0)) + 1
    return [None if data is None else _shown(data, start) for data in sides]


def _shown(data: bytes, start: int) -> str:
    if b"\0" in data[:8000]:
        return f"(binary, {len(data)} bytes)"
    left_out = f"({start} bytes left out)\n" if start else ""
    return left_out + data[start : start + TEXT_LIMIT].decode("utf-8", "replace")


def merge_commits(objects: Objects, base: str, ours: str, theirs: str) -> Merged | Evidence:
    """Three commits (or trees) of one repository."""
    start, mine, other = (objects.tree_of(oid) for oid in (base, ours, theirs))
    return merge(objects, start, mine, changes_between(objects, start, other))
