"""What people type: `/interlock <verb> ...` on the first line of a new comment."""

from schemas.base import Frozen

VERBS = {"approve", "accept", "replan", "answer", "stop", "resume", "retry", "release", "status", "help"}


class Command(Frozen):
    """`rest` is the remainder of the comment; `unknown` stands for a verb that we do not have."""

    verb: str
    rest: str = ""


def parse(body: str) -> Command | None:
    """The command of a comment; None if its first line is none. Quoted or indented text never counts."""
    first, _, more = body.replace("\r\n", "\n").partition("\n")
    if not first.lower().startswith("/interlock") or (len(first) > 10 and not first[10].isspace()):
        return None
    words = first[10:].split(maxsplit=1)
    verb = words[0].lower() if words else "help"
    rest = "\n".join(part for part in (words[1] if len(words) > 1 else "", more) if part).strip()
    if verb in VERBS and verb not in ("answer", "replan"):
        rest = rest.split("\n", 1)[0].strip()
    return Command(verb=verb if verb in VERBS else "unknown", rest=rest)
