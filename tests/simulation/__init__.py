"""The simulated world: that it is deterministic, and that each of its faults does what it says."""
