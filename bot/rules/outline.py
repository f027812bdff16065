"""A repository in a few lines, for an agent that has not seen it: directories with counts, then the files."""

from collections import Counter
from collections.abc import Sequence

LIMIT = 12_000


def outline(paths: Sequence[str]) -> str:
    """At most `LIMIT` characters; shallow files first, and what was left out is counted."""
    folders = Counter(path.rsplit("/", 1)[0] if "/" in path else "." for path in paths)
    lines = [f"{len(paths)} files in {len(folders)} directories"]
    size = len(lines[0])
    for folder, count in sorted(folders.items(), key=lambda item: (item[0].count("/"), item[0])):
        line = f"{folder}/ ({count})"
        if size + len(line) > LIMIT // 3:
            lines.append("...")
            break
        lines.append(line)
        size += len(line) + 1
    for shown, path in enumerate(sorted(paths, key=lambda p: (p.count("/"), p))):
        if size + len(path) > LIMIT:
            lines.append(f"... and {len(paths) - shown} more files")
            break
        lines.append(path)
        size += len(path) + 1
    return "\n".join(lines)
