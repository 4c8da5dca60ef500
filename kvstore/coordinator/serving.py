"""What a node has to answer clients, made and ended as one: who is let in, what namespaces may use, and the coordinators with the
repair that follows a read. Registers are coordinated by linearizable/.
"""

from __future__ import annotations

import random

from kvstore.cluster.view import RingHolder
from kvstore.config import NodeConfig
from kvstore.coordinator.batch import Limits
from kvstore.coordinator.catching_up import CatchingUp
from kvstore.coordinator.coordinator import Coordinator
from kvstore.coordinator.get import TURN_BYTES_MAX, GetCoordinator
from kvstore.coordinator.intake import make_intake
from kvstore.coordinator.linearizable.coordinator import RegisterCoordinator
from kvstore.coordinator.minting import Minter
from kvstore.coordinator.put import PutCoordinator
from kvstore.coordinator.quotas import Quotas
from kvstore.coordinator.read_repair import Pace, ReadRepair
from kvstore.coordinator.replicas import Replicas
from kvstore.coordinator.scan import ScanCoordinator
from kvstore.coordinator.slow import SlowLog
from kvstore.coordinator.touch import TouchCoordinator
from kvstore.core.doubts import Doubts
from kvstore.core.membership.opinions import Opinions
from kvstore.runtime import Clock
from kvstore.storage.freshness import Freshness
from kvstore.storage.half import StorageHalf
from kvstore.storage.replica import Replica
from kvstore.telemetry.node import Telemetry
from kvstore.transport.peers import PeerTransport

FULL_LOAD_OPERATIONS = 1024
"""So many operations under way leave nothing over for work in the background."""


class Serving:
    """One node's."""

    def __init__(
        self,
        config: NodeConfig,
        *,
        storage: StorageHalf,
        replica: Replica,
        registers: RegisterCoordinator,
        peers: PeerTransport,
        ring: RingHolder,
        opinions: Opinions,
        doubts: Doubts,
        freshness: Freshness,
        pace: Pace,
        clock: Clock,
        rng: random.Random,
        durable: bool,
        telemetry: Telemetry,
    ) -> None:
        me, cluster, bytes_max = config.node_id, config.cluster, config.limits.in_flight_bytes_max
        store, committer = storage.store, storage.committer
        self._committer = committer
        limits = Limits(cluster.key_bytes_max, cluster.value_bytes_max, cluster.siblings_max)
        replicas = Replicas(me, peers, opinions)
        self.read_repair = ReadRepair(store, replicas, freshness, pace, in_flight_bytes_max=bytes_max // 2)
        minter = Minter(
            store=store,
            ledger=storage.ledger,
            clock=clock,
            rng=rng,
            limits=limits,
            retry_window_ms=int(cluster.retry_window_s * 1000),
            retry_ids_max=cluster.retry_ids_max,
        )
        self.intake = make_intake(me, config.limits, lambda: committer.is_behind)
        self.quotas = Quotas(cluster.namespaces, lambda: len(ring.view.ring.members) - len(opinions.dead))
        catching_up = CatchingUp(store=store, hints=storage.hints, replicas=replicas, clock=clock, freshness=freshness)
        puts = PutCoordinator(
            minter=minter,
            store=store,
            hints=storage.hints,
            replicas=replicas,
            writers=replica.writers,
            clock=clock,
            catching_up=catching_up,
            durable=durable,
        )
        touches = TouchCoordinator(
            puts=puts,
            minter=minter,
            catching_up=catching_up,
            store=store,
            replicas=replicas,
            clock=clock,
            durable=durable,
        )
        gets = GetCoordinator(
            store=store,
            replicas=replicas,
            repair=self.read_repair,
            clock=clock,
            durable=durable,
            meter=telemetry.requests,
            doubts=doubts,
            freshness=freshness,
            turn_bytes_max=min(TURN_BYTES_MAX, bytes_max // 32),
        )
        self.coordinator = Coordinator(
            me=me,
            ring=ring,
            puts=puts,
            touches=touches,
            gets=gets,
            scans=ScanCoordinator(me=me, replica=replica, peers=peers, ring=ring, clock=clock, durable=durable, doubts=doubts),
            registers=registers,
            peers=peers,
            opinions=opinions,
            limits=limits,
            in_flight_max=config.limits.in_flight_max,
            timer=telemetry.timer,
            slow=SlowLog(telemetry.slow_batch_s, telemetry.timer, telemetry.logs),
            meter=telemetry.requests,
        )

    @property
    def load(self) -> float:
        """How busy clients keep the node, from 0 to 1; for those who can wait."""
        if self._committer.is_behind:
            return 1.0
        return max(self.coordinator.in_flight / FULL_LOAD_OPERATIONS, self.intake.load)

    @property
    def overloaded(self) -> int:
        """Operations that were refused because there were too many."""
        return self.coordinator.overloaded + self.intake.refused + self.intake.shed

    def stop(self) -> None:
        """Refuses whatever comes from now on, and repairs nothing any more."""
        self.coordinator.stop()
        self.read_repair.stop()

    def check(self) -> None:
        """Asserts the invariants; for tests and simulation."""
        self.coordinator.check()
        self.intake.check()
