"""How much text fits: a token estimate without a tokenizer, and what goes into a prompt when not everything does."""

from collections.abc import Iterable

from schemas.agent import Context

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
        cost = estimate(text) + estimate(path) if text is not None else tokens + 1
        if text is not None and cost <= tokens:
            taken.append((path, text))
            tokens -= cost
        else:
            left_out.append(path)
    return Context(files=tuple(taken), left_out=tuple(left_out))
