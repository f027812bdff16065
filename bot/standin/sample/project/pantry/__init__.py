"""A list of what is in the kitchen."""
