"""What people type: `/interlock <verb> ...` on the first line of a new comment."""

import re
from typing import Final

from schemas.base import Frozen

VERBS: Final[dict[str, tuple[int, int]]] = {
    "approve": (0, 1), "accept": (0, 0), "replan": (0, -1), "answer": (0, -1), "stop": (0, -1), "resume": (0, 0),
    "retry": (0, 1), "release": (0, 1), "priority": (1, 1), "rollback": (0, 0), "status": (0, 0), "help": (0, 0),
}  # fmt: skip
"""Each verb's least and most words behind it; -1: any text. `stop` obeys whatever is said with it."""

_CALL = re.compile(r"/interlock(?:[ \t]+|$)", re.IGNORECASE | re.ASCII)


class Command(Frozen):
    """`rest` is what the verb takes; `unknown` is a verb that we do not have, `misused` one with the wrong words."""

    verb: str
    rest: str = ""


def parse(body: str) -> Command | None:
    """The command of a comment; None if its first line is none. Quoted, indented or look-alike text never counts."""
    first, _, more = body.replace("\r\n", "\n").replace("\r", "\n").partition("\n")
    called = _CALL.match(first)
    if called is None:
        return None
    word, _, rest = first[called.end() :].replace("\t", " ").partition(" ")
    verb, rest = word.lower() if word.isascii() else word, rest.strip()
    if not word:
        return Command(verb="help")
    if verb not in VERBS:
        return Command(verb="unknown")
    least, most = VERBS[verb]
    if most < 0:
        return Command(verb=verb, rest="\n".join(part for part in (rest, more) if part).strip())
    fits = least <= len(rest.split()) <= most
    return Command(verb=verb if fits else "misused", rest=rest if fits else verb)
