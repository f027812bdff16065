"""Agents at work: a workspace, a harness in a sandbox, what it left behind, and our own checks on that."""
