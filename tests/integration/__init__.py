"""Whole clusters of real processes."""
