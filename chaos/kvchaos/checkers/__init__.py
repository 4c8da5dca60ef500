"""Checkers: pure functions from what a workload recorded to a verdict. Each has a test in which it must find something."""
