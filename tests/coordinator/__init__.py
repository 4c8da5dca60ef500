"""Coordinators over several nodes in one event loop."""
