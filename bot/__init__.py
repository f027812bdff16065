"""The bot: everything that decides and acts. See docs/architecture.md for the layers."""
