"""What a node does for its registers beside the work of clients: rounds of horizons, repair and reaping, begun and ended as one.

A cluster that has no linearizable namespace of users pays for none of it. (The nodes' own one has a few keys that are read from a
majority, and is left out.)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from kvstore.cluster.view import RingHolder
from kvstore.repair.horizons import Horizons
from kvstore.repair.pace import Pace
from kvstore.repair.register_reaping import RegisterReaper
from kvstore.repair.register_repair import RegisterRepair
from kvstore.runtime import Clock
from kvstore.storage.register_scans import RegisterScans
from kvstore.storage.registers import Registers
from kvstore.transport.peers import PeerTransport


class RegisterUpkeep:
    """One node's, from `start` to `stop`. `settle` and `reap` are those of the node's proposer; `bound_s` is of reads at timeline,
    `idle_s` between rounds that nobody's reads need (0: none), `grace_s` the age of tombstones that may end."""

    def __init__(
        self,
        *,
        me: str,
        registers: Registers,
        scans: RegisterScans,
        settle: Callable[[Sequence[bytes]], None],
        reap: Callable[[Sequence[bytes]], Awaitable[None]],
        leader_of: Callable[[bytes], str | None],
        peers: PeerTransport,
        ring: RingHolder,
        pace: Pace,
        clock: Clock,
        bound_s: float,
        idle_s: float,
        grace_s: float,
    ) -> None:
        self._registers = registers
        self.horizons = Horizons(
            me=me,
            registers=registers,
            scans=scans,
            peers=peers,
            ring=ring,
            pace=pace,
            clock=clock,
            bound_s=bound_s,
            idle_s=idle_s,
        )
        self.repair = RegisterRepair(
            me=me,
            registers=registers,
            scans=scans,
            horizons=self.horizons,
            settle=settle,
            leader_of=leader_of,
            peers=peers,
            ring=ring,
            pace=pace,
        )
        self.reaper = RegisterReaper(
            me=me,
            registers=registers,
            scans=scans,
            leader_of=leader_of,
            reap=reap,
            peers=peers,
            ring=ring,
            pace=pace,
            clock=clock,
            grace_s=grace_s,
        )
        self._may_run = False
        self._runs = False

    def start(self) -> None:
        """Begins as soon as there is a register to look after."""
        self._may_run = True
        self.follow()

    def follow(self) -> None:
        """The ring, or the namespaces, may have changed."""
        self.horizons.follow()
        if self._may_run and not self._runs and self._registers.tracker.groups:
            self._runs = True
            for job in (self.horizons, self.repair, self.reaper):
                job.start()

    def stop(self) -> None:
        """Ends at once."""
        self._may_run = False
        for job in (self.horizons, self.repair, self.reaper):
            job.stop()
