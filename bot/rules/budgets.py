"""How much text fits: a token estimate without a tokenizer, what goes into a prompt when not everything does, and a
repository in a few lines.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from schemas.agent import Context

OUTLINE_LIMIT = 12_000
BYTES_PER_TOKEN = 3
"""An estimate on the safe side: code in the usual tokenizers has 3 to 4 bytes a token."""


def estimate(text: str) -> int:
    """Tokens of a text, rather too many than too few."""
    return len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN + 1


def pack(files: Iterable[tuple[str, str | None]], tokens: int) -> Context:
    """Files in the order given as long as they fit; a text of None (binary, or too large) is only named."""
    taken: list[tuple[str, str]] = []
    left_out: list[str] = []
    for path, text in files:
        if text is not None and (cost := estimate(path) + estimate(text)) <= tokens:
            taken.append((path, text))
            tokens -= cost
        else:
            left_out.append(path)
    return Context(files=tuple(taken), left_out=tuple(left_out))


def outline(paths: Sequence[str]) -> str:
    """A repository for an agent that has not seen it: directories with counts, then the files.

    At most `OUTLINE_LIMIT` characters; shallow files first, and what was left out is counted.
    """
    folders = Counter(path.rsplit("/", 1)[0] if "/" in path else "." for path in paths)
    lines = [f"{len(paths)} files in {len(folders)} directories"]
    size = len(lines[0])
    for folder, count in sorted(folders.items(), key=lambda item: (item[0].count("/"), item[0])):
        line = f"{folder}/ ({count})"
        if size + len(line) > OUTLINE_LIMIT // 3:
            lines.append("...")
            break
        lines.append(line)
        size += len(line) + 1
    for shown, path in enumerate(sorted(paths, key=lambda p: (p.count("/"), p))):
        if size + len(path) > OUTLINE_LIMIT:
            lines.append(f"... and {len(paths) - shown} more files")
            break
        lines.append(path)
        size += len(path) + 1
    return "\n".join(lines)
