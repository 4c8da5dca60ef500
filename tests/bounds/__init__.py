"""Clients that take more than their share, and requests that are wrong: a node stays within its bounds and serves the others."""
