"""The engine of the merge queue: compose, train, land, verify. Usable on any local repository, without GitHub."""
