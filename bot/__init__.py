"""The bot: everything that decides and acts. See docs/architecture.md for the layers."""

__version__ = "0.1.0"
