"""Sentences for people and agents: which of several rules is broken."""


def first(*rules: tuple[bool, str]) -> str | None:
    """The sentence of the first rule that is broken; None if all are kept."""
    return next((sentence for broken, sentence in rules if broken), None)
