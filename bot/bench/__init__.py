"""The project's own benchmarks: the same work by us and by peers in the same run, ratios and the machine's noise."""
