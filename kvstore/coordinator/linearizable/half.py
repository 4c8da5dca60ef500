"""What a node has for its linearizable namespaces, made and ended as one: the acceptor, its desk, the proposer and the
coordinator."""

from __future__ import annotations

import random
from collections.abc import Callable

from kvstore.cluster.view import RingHolder
from kvstore.config import NodeConfig
from kvstore.coordinator.linearizable.coordinator import RegisterCoordinator
from kvstore.coordinator.linearizable.local_reads import LocalReads
from kvstore.coordinator.linearizable.proposing import Proposing
from kvstore.core.membership.opinions import Opinions
from kvstore.core.register.tracker import Tracker
from kvstore.runtime import Clock
from kvstore.storage.commit import Committer
from kvstore.storage.engine import Engine
from kvstore.storage.register_desk import RegisterDesk
from kvstore.storage.register_scans import RegisterScans
from kvstore.storage.registers import Registers
from kvstore.transport.peers import PeerTransport


class LinearizableHalf:
    """One node's. `may_vote` and `on_lost` as in `Registers`."""

    def __init__(
        self,
        config: NodeConfig,
        engine: Engine,
        committer: Committer,
        *,
        ring: RingHolder,
        peers: PeerTransport,
        opinions: Opinions,
        clock: Clock,
        rng: random.Random,
        may_vote: Callable[[], bool],
        on_lost: Callable[[bytes], None],
    ) -> None:
        me, cluster = config.node_id, config.cluster
        incarnation = rng.getrandbits(64)
        self._ring = ring
        self.tracker = Tracker(me, incarnation or 1)
        cache_bytes_max = config.limits.record_cache_bytes
        self.registers = Registers(
            engine,
            committer,
            cache_bytes_max=cache_bytes_max,
            may_vote=may_vote,
            on_lost=on_lost,
            taken=lambda group: self.proposing.proposer.taken(group),  # noqa: PLW0108 - it is made below
            tracker=self.tracker,
            since_boot_s=clock.since_boot_s,
        )
        self.scans = RegisterScans(engine, committer, self.tracker, lost_seed=incarnation, on_damaged=self.registers.note_damaged)
        self.proposing = Proposing(
            me=me,
            ring=ring,
            registers=self.registers,
            peers=peers,
            clock=clock,
            rng=rng,
            incarnation=incarnation,
            retry_window_ms=int(cluster.retry_window_s * 1000),
            cache_bytes_max=cache_bytes_max,
        )
        self.desk = RegisterDesk(self.registers, self.scans, cluster.partitions, ring.view.linearizable, self.proposing.settle)
        self.coordinator = RegisterCoordinator(
            me=me,
            proposing=self.proposing,
            peers=peers,
            opinions=opinions,
            clock=clock,
            tag=rng.randbytes(5),
            retry_window_ms=int(cluster.retry_window_s * 1000),
            reads=LocalReads(me, self.registers, clock, cluster.timeline_bound_s),
        )

    def leader_of(self, group: bytes) -> str | None:
        """Who proposes for a group, as far as we know; None: there is nobody."""
        return self.coordinator.leader_of(self._ring.view, group)

    def stop(self) -> None:
        """Ends what goes on by itself."""
        self.proposing.stop()

    def check(self) -> None:
        """Asserts the invariants; for tests and simulation."""
        self.registers.check()
        self.tracker.check()
