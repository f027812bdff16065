"""What an operator tells the queue: the body of `POST /commands`."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from schemas.base import Frozen

Verb = Literal["retry", "release", "drop"]
Named = Annotated[str, StringConstraints(max_length=600, pattern=r"^[^\x00-\x1f\x7f]*$")]


class Command(Frozen):
    """One act on an entry; on a lane alone, `release` resumes it. `lane` also tells apart entries of one id."""

    command: Verb
    entry: Named = ""
    lane: Named = ""
    by: Annotated[Named, Field(min_length=1, max_length=100)]

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if not self.entry and not (self.lane and self.command == "release"):
            raise ValueError("name an entry; a lane alone can only be released")
        return self


class Done(Frozen):
    """What a command changed: the states of the entry (or, without one, of the lane)."""

    command: Verb
    lane: str
    entry: str = ""
    before: str
    after: str
    by: str
    why: str
