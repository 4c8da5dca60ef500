"""What a node does for its registers beside the work of clients: rounds of horizons, repair and reaping, begun and ended as one.

A cluster that has no linearizable namespace of users pays for none of it. (The nodes' own one has a few keys that are read from a
majority, and is left out.)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from kvstore.repair.horizons import Horizons
from kvstore.repair.register_reaping import RegisterReaper
from kvstore.repair.register_repair import RegisterRepair
from kvstore.repair.surroundings import Surroundings
from kvstore.storage.register_scans import RegisterScans


class RegisterUpkeep:
    """One node's, from `start` to `stop`. `settle`, `read` and `reap` are those of the node's proposer, `leader_of` says who
    proposes for a group."""

    def __init__(
        self,
        around: Surroundings,
        scans: RegisterScans,
        *,
        settle: Callable[[Sequence[bytes]], None],
        read: Callable[[Sequence[bytes]], Awaitable[None]],
        reap: Callable[[Sequence[bytes]], None],
        leader_of: Callable[[bytes], str | None],
    ) -> None:
        config, registers, peers, ring, pace = around.config, around.registers, around.peers, around.ring, around.pace
        me = config.node_id
        self._tracker = registers.tracker
        self.horizons = Horizons(
            me=me,
            registers=registers,
            scans=scans,
            peers=peers,
            ring=ring,
            pace=pace,
            clock=around.clock,
            bound_s=config.cluster.timeline_bound_s,
            idle_s=config.limits.repair_interval_s,
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
            read=read,
            reap=reap,
            peers=peers,
            ring=ring,
            pace=pace,
            clock=around.clock,
            grace_s=config.cluster.tombstone_grace_s,
            window_s=config.cluster.retry_window_s,
        )
        self._may_run = self._runs = False

    def start(self) -> None:
        """Begins as soon as there is a register to look after."""
        self._may_run = True
        self.follow()

    def follow(self) -> None:
        """The ring, or the namespaces, may have changed."""
        self.horizons.follow()
        if self._may_run and not self._runs and self._tracker.groups:
            self._runs = True
            for job in (self.horizons, self.repair, self.reaper):
                job.start()

    def stop(self) -> None:
        """Ends at once."""
        self._may_run = False
        for job in (self.horizons, self.repair, self.reaper):
            job.stop()
