"""Our door to GitHub: everything that is asked or written there goes through this package."""
