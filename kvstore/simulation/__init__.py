"""The simulated world: the production node and client in one process, on virtual time, replayable from a seed.

`world.World` is the interface. The server never imports this package (import-linter).
"""
