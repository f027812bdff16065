"""Telling our own acts from other people's."""

from schemas.base import Frozen, Person


class Origin(Frozen):
    """Which App we are."""

    slug: str
    app_id: int

    def ours(self, who: Person) -> bool:
        """Whether our own bot user did it: type and name, so that other bots are other bots."""
        return who.type == "Bot" and who.login == f"{self.slug}[bot]"
