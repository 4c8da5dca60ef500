"""Clocks of the simulated world: every node's own wall clock, and the clients' monotonic one."""

from __future__ import annotations

from kvstore.simulation.loop import START_NS, SimLoop

EPOCH_MS = 1_700_000_000_000
"""The wall clock's reading when a world begins."""


class NodeClock:
    """A `kvstore.runtime.Clock` that goes with virtual time; `skew_ms` is how wrong it is, and may jump."""

    def __init__(self, loop: SimLoop) -> None:
        self.skew_ms = 0
        self._loop = loop

    def now_ms(self) -> int:
        """Unix time in milliseconds, as this node believes."""
        return EPOCH_MS + (self._loop.now_ns - START_NS) // 1_000_000 + self.skew_ms

    def since_boot_s(self) -> float:
        """Virtual time: no skew has it."""
        return self._loop.time()


class ClientClock:
    """A `kvclient.clock.Clock`: virtual time."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop

    def monotonic_s(self) -> float:
        """Seconds since some fixed moment."""
        return self._loop.time()
