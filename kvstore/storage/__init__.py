"""Disk: the engine contract and its implementations, store keys, merge on write, group commit."""
