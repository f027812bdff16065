"""A local GitHub for the demo and the tests: a process of its own that shares no code with the rest.

What it does not know it answers with 404 and says so in its request log; it never calls the bot by anything but webhooks.
"""
