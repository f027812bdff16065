"""A repository in a few lines, for an agent that has not seen it: directories with counts, then the files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

LIMIT = 12_000


def outline(paths: Sequence[str], limit: int = LIMIT) -> str:
    """At most `limit` characters; shallow files first, and what was left out is counted."""
    folders = Counter(path.rsplit("/", 1)[0] if "/" in path else "." for path in paths)
    lines = [f"{len(paths)} files in {len(folders)} directories"]
    size = len(lines[0])
    for folder, count in sorted(folders.items(), key=lambda item: (item[0].count("/"), item[0])):
        line = f"{folder}/ ({count})"
        if size + len(line) > limit // 3:
            lines.append("...")
            break
        lines.append(line)
        size += len(line) + 1
    shown = 0
    for path in sorted(paths, key=lambda p: (p.count("/"), p)):
        if size + len(path) > limit:
            break
        lines.append(path)
        size += len(path) + 1
        shown += 1
    if shown < len(paths):
        lines.append(f"... and {len(paths) - shown} more files")
    return "\n".join(lines)
