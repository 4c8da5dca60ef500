"""A node's own half, everything that works without a network: storage below, coordinators above, and whatever peers it is given.

Wires its parts and ends them, decides nothing; what each part consists of stands in its own package. Embedded stores are one of
these; assembly.py puts peers and a server around it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Mapping

from kvproto.columns import ClusterInfo, LossAccepted, NodeStatus, RepairProgress
from kvproto.errors import BadRequest, StorageError
from kvstore import __version__
from kvstore.cluster.configured import build_view
from kvstore.cluster.leases import pack_state
from kvstore.cluster.view import RingHolder, RingView
from kvstore.config import NodeConfig
from kvstore.coordinator.linearizable.half import LinearizableHalf
from kvstore.coordinator.serving import Serving
from kvstore.core.membership.opinions import Opinions
from kvstore.core.reaping import Grace
from kvstore.crash_points import crash_point
from kvstore.local_namespaces import LocalNamespaces, joins_of
from kvstore.local_status import status_of
from kvstore.repair.answering import Answering
from kvstore.repair.mending import Mending
from kvstore.repair.pace import Pace
from kvstore.repair.rebuilding import LOST, UNHEARD
from kvstore.repair.register_upkeep import RegisterUpkeep
from kvstore.repair.returning import Returning
from kvstore.repair.set_aside import Keep
from kvstore.repair.surroundings import Surroundings
from kvstore.repair.upkeep import Upkeep
from kvstore.runtime import Clock, StartWorker, ThreadWorker
from kvstore.storage.catalogs import load_catalog
from kvstore.storage.engine import Engine
from kvstore.storage.half import StorageHalf
from kvstore.storage.replica import Replica
from kvstore.telemetry import key_hash
from kvstore.telemetry.node import Telemetry
from kvstore.transport.peers import PeerTransport

SETTLED = crash_point("stop.settled", "everything that was accepted is durable, and nothing says that this was a clean end")
STORED = crash_point("stop.stored", "the hash trees are stored for the next life, without the marker that says to believe them")


class LocalNode:
    """A node's own half. `mending` is there where there are peers; what everybody asks the parts for is at hand here as well."""

    def __init__(
        self,
        config: NodeConfig,
        engine: Engine,
        peers: PeerTransport,
        *,
        clock: Clock,
        rng: random.Random,
        on_failure: Callable[[StorageError], None],
        on_lease: Callable[[bytes, int], None] = lambda actor, lease: None,
        durable: bool = True,
        start_worker: StartWorker = ThreadWorker,
        telemetry: Telemetry | None = None,
        clean_state: bytes | None = None,
        opinions: Opinions | None = None,
        keep: Keep = lambda name, data: None,
    ) -> None:
        """`clean_state`: what the last clean stop of this directory left, if nothing was opened since. `keep`: where what this node
        sets aside goes; needed where there are peers."""
        self.config = config
        self.telemetry = telemetry = telemetry or Telemetry(asyncio.get_running_loop().time)
        self.clock = clock
        self.opinions = opinions or Opinions()
        self.ring = ring = RingHolder(build_view(config, load_catalog(engine, frozenset(config.cluster.namespaces))))
        view = ring.view
        self.storage = storage = StorageHalf(
            config,
            engine,
            catalog=view.catalog,
            infos=[space.info for space in view.all_spaces()],
            prefixes=_prefixes_with_trees(view),
            linearizable=view.linearizable,
            joins=joins_of(view),
            clock=clock,
            rng=rng,
            on_failure=on_failure,
            on_lease=on_lease,
            durable=durable,
            start_worker=start_worker,
            telemetry=telemetry,
            clean_state=clean_state,
        )
        self.engine, self.memory = storage.engine, storage.memory
        self.committer, self.ledger, self.store, self.hints = storage.committer, storage.ledger, storage.store, storage.hints
        self.linearizable = LinearizableHalf(
            config,
            storage.engine,
            storage.committer,
            ring=ring,
            peers=peers,
            opinions=self.opinions,
            clock=clock,
            rng=rng,
            may_vote=lambda: self.returning.rebuilding.reason not in (LOST, UNHEARD),
            on_lost=self._register_lost,
        )
        self.replica = Replica(
            storage.store,
            storage.engine,
            config.cluster.partitions,
            storage.hints,
            clock=clock,
            registers=self.linearizable.registers,
            linearizable=view.linearizable,
        )
        self.answering = Answering(storage.forest, self.replica)
        self.pace = Pace(lambda: self.serving.load)
        grace = Grace(config.cluster.tombstone_grace_s)
        around = Surroundings(config, storage, self.linearizable.registers, self.replica, peers, ring, clock, self.pace, grace)
        self.upkeep = Upkeep(around, timer=telemetry.timer)
        self.returning = Returning(around, keep=keep)
        self.mending = self._make_mending(around, rng)
        self.serving = Serving(
            config,
            storage=storage,
            replica=self.replica,
            registers=self.linearizable.coordinator,
            peers=peers,
            ring=ring,
            opinions=self.opinions,
            doubts=self.upkeep.doubts,
            freshness=self.upkeep.freshness,
            pace=self.pace,
            clock=clock,
            rng=rng,
            durable=durable,
            telemetry=telemetry,
        )
        self.coordinator = self.serving.coordinator
        self.namespaces = LocalNamespaces(
            around, linearizable=self.linearizable, serving=self.serving, rebuilding=self.returning.rebuilding, rng=rng
        )
        self.register_upkeep = self._make_register_upkeep(around) if config.others else None

    @property
    def view(self) -> RingView:
        """What this node goes by now."""
        return self.ring.view

    def describe(self, advertised: Mapping[str, str] | None = None) -> ClusterInfo:
        """What clients are told. `advertised`: where they reach the other nodes, by what those say; the rest is as in [peers]."""
        cluster = self.config.cluster
        return self.ring.view.describe(
            cluster_id=cluster.id,
            version=__version__,
            limits=(cluster.key_bytes_max, cluster.value_bytes_max),
            now_ms=self.clock.now_ms(),
            retry_window_ms=int(cluster.retry_window_s * 1000),
            advertised=advertised or {},
        )

    async def status(self, peers: tuple[tuple[str, str, int], ...] = (), uptime_s: float = 0.0) -> NodeStatus:
        """This node's own numbers; counting its keys reads them all, off the loop."""
        return await status_of(self, peers, uptime_s)

    def compare_now(self, namespace: str, follow: int) -> RepairProgress:
        """Compares with every peer now, and tells how far that is (`AntiEntropy.repair`)."""
        if self.replica.closed is not None:
            raise self.replica.closed
        if self.mending is None:
            return RepairProgress(node_id=self.config.node_id, number=1, over=True)
        return self.mending.anti_entropy.repair(namespace, follow)

    def accept_loss(self, nodes: Collection[str]) -> LossAccepted:
        """Does not wait any longer for what `nodes` have lost of registers (`Readmitting.accept_loss`). Raises `BadRequest` for
        names that are no nodes."""
        if self.replica.closed is not None:
            raise self.replica.closed
        strangers = sorted(set(nodes) - set(self.config.nodes))
        if strangers or not nodes:
            there_are = ", ".join(sorted(self.config.nodes))
            raise BadRequest(f"{', '.join(strangers) or 'nothing'} is no node here; there is: {there_are}", subject="accept-loss")
        waiting = 0 if self.mending is None else self.mending.readmitting.accept_loss(nodes)
        return LossAccepted(self.config.node_id, waiting)

    def start_background(self) -> None:
        """Begins what goes on beside the work of clients: hints, sweeps, trees, exchanges."""
        self.upkeep.start()
        self.returning.start()
        self.namespaces.start()
        for part in (self.mending, self.register_upkeep):
            if part is not None:
                part.start()

    def check(self) -> None:
        """Asserts the invariants of every state machine; for tests and simulation."""
        for part in (self.storage, self.linearizable, self.upkeep, self.serving, self.namespaces):
            part.check()

    async def close(self) -> bytes | None:
        """Ends storage. The actor state for a clean-shutdown marker, or None if this was no clean end."""
        self.serving.stop()
        self.upkeep.stop()
        self.linearizable.stop()
        self.returning.stop()
        self.namespaces.stop()
        for part in (self.mending, self.register_upkeep):
            if part is not None:
                part.stop()
        await self.committer.close()
        await SETTLED.passed()
        self.replica.close()
        state = None if self.committer.failure is not None else pack_state(self.ledger)
        state = self.storage.end(state, self.returning.absence.note_end)
        await STORED.passed()
        return state

    def _make_mending(self, around: Surroundings, rng: random.Random) -> Mending | None:
        forest, proposing = self.storage.forest, self.linearizable.proposing
        if forest is None:
            return None
        return Mending(
            around,
            forest,
            answering=self.answering,
            rebuilding=self.returning.rebuilding,
            freshness=self.upkeep.freshness,
            rng=rng,
            incarnation=proposing.incarnation,
            is_busy=lambda: self.coordinator.in_flight > 0,
            taken=proposing.proposer.taken,
            read_catalog=lambda timeout_s: self.namespaces.catalog.changes.read(timeout_s),  # noqa: PLW0108 - made below
        )

    def _make_register_upkeep(self, around: Surroundings) -> RegisterUpkeep:
        half = self.linearizable
        upkeep = RegisterUpkeep(
            around,
            half.scans,
            settle=half.proposing.settle,
            read=half.proposing.read,
            reap=half.proposing.reap,
            leader_of=half.leader_of,
        )
        half.coordinator.reads.want = upkeep.horizons.want
        self.namespaces.on_change = upkeep.follow
        return upkeep

    def _register_lost(self, store_key: bytes) -> None:
        count = self.linearizable.registers.quarantined
        self.telemetry.logs.tell("error", "register_quarantined", key_hash=key_hash(store_key), count=count)


def _prefixes_with_trees(view: RingView) -> list[bytes]:
    return [prefix for space in view.spaces.values() if space.is_compared for prefix in space.prefixes]
