"""What goes wrong in front of the stand-in, for whoever plays people there; the command line says it to its user."""

from __future__ import annotations


class NoScene(RuntimeError):
    """The scene cannot be set: the message says what has to be different."""


class Refused(RuntimeError):
    """GitHub refuses what a person does, or the work that they wait for has stopped."""
