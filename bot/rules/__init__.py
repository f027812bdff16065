"""The rulebook: pure functions over values. No I/O, no clock, no randomness."""
