"""Where agents run: workspaces, the sandbox, the harnesses, collection of what was written, and checks."""
