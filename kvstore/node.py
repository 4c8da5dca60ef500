"""Builds one node's objects, in order, and ends them in the opposite one. Decides nothing else.

`LocalNode` is everything that works without a network: engine, commit thread, store, coordinators. `Node` adds the peers and the
gRPC server. Embedded stores use the first, `kv serve` the second, the simulation the same classes with its own seams.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from kvproto.columns import ClusterInfo, NamespaceInfo, NodeStatus
from kvproto.errors import AvailabilityError, ClusterError, KvError, ShuttingDown, StorageError, UserError
from kvproto.link import LinkBounds
from kvstore import __version__
from kvstore.api.admin import AdminService
from kvstore.api.key_value import KeyValueService, make_intake
from kvstore.api.peer import PeerService
from kvstore.api.server import GrpcServer
from kvstore.cluster.view import RingHolder, RingView
from kvstore.config import NodeConfig
from kvstore.coordinator.batch import Limits
from kvstore.coordinator.coordinator import Coordinator
from kvstore.coordinator.get import TURN_BYTES_MAX, GetCoordinator
from kvstore.coordinator.minting import Minter
from kvstore.coordinator.put import PutCoordinator
from kvstore.coordinator.read_repair import ReadRepair
from kvstore.coordinator.replicas import Replicas
from kvstore.coordinator.scan import ScanCoordinator
from kvstore.core.ring import Member
from kvstore.core.ring_planner import plan_ring
from kvstore.runtime import Clock, StartWorker, ThreadWorker
from kvstore.seams import Directory, ProductionSeams, Seams
from kvstore.storage.commit import Committer
from kvstore.storage.engine import Engine
from kvstore.storage.epochs import ActorLedger
from kvstore.storage.namespaces import remember_namespaces
from kvstore.storage.replica import Replica
from kvstore.storage.store import Store
from kvstore.telemetry import log
from kvstore.transport.grpc_peers import GrpcPeers
from kvstore.transport.hello import Doorkeeper, Identity, remembers_more
from kvstore.transport.peers import PeerTransport

COMMIT_BYTES_MAX = 1024 * 1024
"""Of records that one fsync makes durable: many small ones must not wait for an fsync each 256 KiB."""
STOP_GRACE_S = 1.0
LINKS_WAIT_S = 1.0
"""A node that starts waits so long at the most for the links to those that have answered it."""


def build_view(config: NodeConfig) -> RingView:
    """The ring and namespaces that follow from the configuration alone; equal on every node whose cluster settings are."""
    addresses = {**config.peers, config.node_id: config.advertise}
    members = [Member(node, addresses[node], config.zone_of(node)) for node in config.nodes]
    cluster = config.cluster
    ring = plan_ring(members, partitions=cluster.partitions, replicas=cluster.replicas)
    nodes = len(members)
    namespaces = tuple(
        NamespaceInfo(
            id=space.id,
            name=name,
            mode=space.mode,
            preset=space.preset,
            n=space.effective_n(nodes),
            n_asked=space.n,
            r=space.read_quorum(nodes),
            w=space.write_quorum(nodes),
            ttl_ms=int((space.ttl_s or 0) * 1000),
            policy=space.policy,
        )
        for name, space in sorted(cluster.namespaces.items())
    )
    return RingView(config.node_id, ring, namespaces)


class LocalNode:
    """A node's own half: storage below, coordinators above, and whatever peers it is given."""

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
    ) -> None:
        cluster, me = config.cluster, config.node_id
        self.config = config
        self.clock = clock
        self.engine = engine
        self.view = build_view(config)
        self.ring = RingHolder(self.view)
        queue = LinkBounds(batch_bytes_max=COMMIT_BYTES_MAX, queue_count_max=config.limits.in_flight_max * 4)
        self.committer = Committer(
            engine, sync=durable, on_failure=on_failure, bounds=queue, name=f"commit@{me}", start_worker=start_worker
        )
        self.ledger = ActorLedger(me, self.committer, rng, on_renewed=on_lease)
        self.store = Store(
            engine,
            self.committer,
            cache_bytes_max=config.limits.record_cache_bytes,
            on_quarantine=lambda store_key: self._quarantined(),
        )
        self.replica = Replica(self.store, engine, cluster.partitions)
        limits = Limits(cluster.key_bytes_max, cluster.value_bytes_max, cluster.siblings_max)
        replicas = Replicas(me, peers)
        self.repair = ReadRepair(self.store, replicas, in_flight_bytes_max=config.limits.in_flight_bytes_max // 2)
        minter = Minter(
            store=self.store,
            ledger=self.ledger,
            clock=clock,
            rng=rng,
            limits=limits,
            retry_window_ms=int(cluster.retry_window_s * 1000),
            retry_ids_max=cluster.retry_ids_max,
        )
        self.intake = make_intake(me, config.limits, lambda: self.committer.is_behind)
        self.coordinator = Coordinator(
            me=me,
            ring=self.ring,
            puts=PutCoordinator(minter=minter, store=self.store, replicas=replicas, clock=clock, durable=durable),
            gets=GetCoordinator(
                store=self.store,
                replicas=replicas,
                repair=self.repair,
                clock=clock,
                durable=durable,
                turn_bytes_max=min(TURN_BYTES_MAX, config.limits.in_flight_bytes_max // 32),
            ),
            scans=ScanCoordinator(me=me, replica=self.replica, peers=peers, ring=self.ring, clock=clock, durable=durable),
            peers=peers,
            limits=limits,
            in_flight_max=config.limits.in_flight_max,
        )

    def describe(self) -> ClusterInfo:
        """What clients are told."""
        cluster = self.config.cluster
        return self.ring.view.describe(
            cluster_id=cluster.id,
            version=__version__,
            limits=(cluster.key_bytes_max, cluster.value_bytes_max),
            now_ms=self.clock.now_ms(),
            retry_window_ms=int(cluster.retry_window_s * 1000),
        )

    async def status(self, peers: tuple[tuple[str, str, int], ...] = (), uptime_s: float = 0.0) -> NodeStatus:
        """This node's own numbers; counting its keys reads them all, off the loop."""
        config = self.config
        return NodeStatus(
            node_id=config.node_id,
            address=config.advertise,
            zone=config.zone,
            state="alive",
            ring_epoch=self.ring.view.ring.epoch,
            keys=await self.replica.count_keys(),
            version=__version__,
            quarantined=self.store.quarantined,
            peers=peers,
            commits=self.committer.commits,
            commit_records=self.committer.records,
            read_repairs=self.repair.repaired,
            overloaded=self.coordinator.overloaded + self.intake.refused,
            uptime_s=uptime_s,
        )

    def check(self) -> None:
        """Asserts the invariants of every state machine; for tests and simulation."""
        self.store.check()
        self.committer.check()
        self.coordinator.check()
        self.intake.check()
        self.ledger.check()

    async def close(self) -> bytes | None:
        """Ends storage. The actor state for a clean-shutdown marker, or None if this was no clean end."""
        self.coordinator.stop()
        await self.committer.close()
        self.replica.close()
        self.engine.close()
        ledger = self.ledger
        if self.committer.failure is not None:
            return None
        return ledger.actor + ledger.counter.to_bytes(8, "big") + ledger.lease.to_bytes(8, "big")

    def _quarantined(self) -> None:
        log.error("record_quarantined", count=self.store.quarantined)
        self.ledger.begin_epoch()


class Node:
    """One node of a cluster: a process's worth of it. `seams` is where it meets the world; the machine's, if none are given."""

    def __init__(self, config: NodeConfig, seams: Seams | None = None) -> None:
        self.config = config
        self._seams = seams or ProductionSeams()
        self.failure: KvError | None = None
        self._closed = asyncio.Event()
        self._stopping = False
        self._directory: Directory | None = None
        self._local: LocalNode | None = None
        self._peers: GrpcPeers | None = None
        self._server: GrpcServer | None = None
        self._started_s = 0.0
        self._announcing: asyncio.Task[None] | None = None
        self._greeted = False

    async def start(self) -> None:
        """Opens the data, listens, greets the peers, serves. Raises a `KvError` that says in a sentence why it does not start."""
        config = self.config
        if config.tls is not None:
            raise UserError(
                "[tls] is not available in this version: remove it and listen on loopback, or say insecure = true", subject="tls"
            )
        try:
            await self._build()
        except BaseException as error:
            if not self._stopping:
                await self._tear_down()
                raise
            await self._closed.wait()  # we were stopped while we started; by a failed disk, or by our owner
            if self.failure is not None:
                raise self.failure from error
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and not task.cancelling():
                # A call to a peer was cut short by our own end: nobody has cancelled the one who waits for us.
                raise ShuttingDown(f"{config.node_id} was stopped while it started", subject=config.node_id) from error
            raise
        self._started_s = asyncio.get_running_loop().time()
        log.info("node_ready", node=config.node_id, address=config.listen, cluster=config.cluster.id, peers=len(config.peers))

    async def wait_closed(self) -> None:
        """Returns when the node has stopped, of itself (`failure`) or by `stop`."""
        await self._closed.wait()

    async def stop(self) -> None:
        """Answers what is in flight, makes everything durable, leaves the clean-shutdown marker. Idempotent."""
        if self._stopping:
            await self._closed.wait()
            return
        self._stopping = True
        try:
            await self._tear_down()
        finally:
            self._closed.set()

    @property
    def local(self) -> LocalNode | None:
        """What works without a network, once it is built; for tests and simulation."""
        return self._local

    def link_states(self) -> tuple[tuple[str, str, int], ...]:
        """(id, state, queued operations) of every peer, as this node sees its links."""
        return self._peers.states() if self._peers is not None else ()

    def check(self) -> None:
        """Asserts the invariants of every state machine; for tests and simulation."""
        if self._local is not None:
            self._local.check()
        if self._peers is not None:
            self._peers.check()

    async def _build(self) -> None:
        config, seams = self.config, self._seams
        clock, rng = seams.clock, seams.rng
        directory = seams.open_directory(config.data, cluster_id=config.cluster.id, node_id=config.node_id)
        self._directory = directory
        identity = Identity(config.node_id, rng.getrandbits(64), config.cluster, config.advertise, config.zone)
        peers = GrpcPeers(
            identity,
            config.peers,
            clock=clock,
            ring_of=lambda: (local.ring.view.ring.epoch, local.ring.view.ring.hash),
            channel=seams.channel,
        )
        self._peers = peers
        engine = seams.open_engine(
            directory.subdirectory("data"),
            write_buffer_bytes=config.limits.write_buffer_bytes,
            cache_bytes=config.limits.block_cache_bytes,
        )
        try:
            remember_namespaces(engine, {name: space.id for name, space in config.cluster.namespaces.items()})
        except BaseException:
            engine.close()
            raise

        def leased(actor: bytes, lease: int) -> None:
            # Not before we have asked what the peers remember: this would replace it.
            if self._greeted:
                identity.actor, identity.lease = actor, lease
                self._announce()

        local = LocalNode(
            config,
            engine,
            peers,
            clock=clock,
            rng=rng,
            on_failure=self._fail,
            on_lease=leased,
            start_worker=seams.start_worker,
        )
        self._local = local
        local.coordinator.stopped = AvailabilityError(f"{config.node_id} is starting", subject=config.node_id)
        doorkeeper = Doorkeeper(identity, frozenset(config.nodes), peers.incarnation_of)
        self._server = GrpcServer(
            seams.server(config.limits.connections_max),
            config.listen,
            KeyValueService(
                local.coordinator,
                local.ring,
                config.cluster.id,
                intake=local.intake,
                operations_max=config.limits.batch_operations_max,
            ),
            PeerService(local.replica, local.ring, doorkeeper, on_greeted=peers.greeted_by),
            AdminService(local.describe, self._status),
        )
        await self._server.start()
        present = await self._greet(peers, local, directory.clean_state)
        self._greeted = True
        await local.ledger.leased()
        self._go_on()
        # Before the first dot is minted: whoever starts from an older copy of this directory must find us remembered.
        leased(local.ledger.actor, local.ledger.lease)
        if self._announcing is not None:
            await self._announcing
        self._go_on()
        peers.start()
        # Ready means: the first write finds its quorum.
        await peers.wait_open(present, LINKS_WAIT_S)
        # From here on nothing waits.
        self._go_on()
        local.coordinator.stopped = None
        await self._server.serve()

    def _go_on(self) -> None:
        """After each wait of a start: whoever stopped us meanwhile, or whatever failed, has the last word. What was closed by then
        must not be opened again."""
        if self.failure is not None:
            raise self.failure
        if self._stopping:
            raise ShuttingDown(f"{self.config.node_id} was stopped while it started", subject=self.config.node_id)

    async def _greet(self, peers: GrpcPeers, local: LocalNode, clean_state: bytes | None) -> list[str]:
        """Asks every peer whether it works with us, and what it remembers of our leases: only if somebody remembers them and nobody
        remembers more does a clean shutdown's actor epoch go on (safety rule 2). Peers remember in memory: one that has been
        restarted since knows nothing, and that is no proof of anything. Returns who answered."""
        present: list[str] = []
        remembered = False
        more = False
        state = None if clean_state is None else (clean_state[:12], int.from_bytes(clean_state[12:20], "big"), clean_state[20:])
        for node, reply in (await peers.hello_all()).items():
            if isinstance(reply, ClusterError):
                raise reply
            if isinstance(reply, KvError):
                continue
            present.append(node)
            if state is not None and reply.remembered_actor:
                remembered = True
                more = more or remembers_more(
                    (reply.remembered_actor, reply.remembered_lease), state[0], int.from_bytes(state[2], "big")
                )
        if state is not None and remembered and not more and not local.store.quarantined:
            local.ledger.resume_epoch(state[0], state[1], int.from_bytes(state[2], "big"))
        return present

    def _announce(self) -> None:
        """Tells the peers what we have leased. A peer that cannot be reached is told when its link opens."""
        peers, local = self._peers, self._local
        if peers is None or local is None or (self._announcing is not None and not self._announcing.done()):
            return

        async def announce() -> None:
            told = None
            while told != (now := (local.ledger.actor, local.ledger.lease)):  # renewed again while we were telling
                told = now
                await peers.hello_all()

        self._announcing = asyncio.get_running_loop().create_task(announce(), name=f"lease@{self.config.node_id}")

    async def _status(self) -> NodeStatus:
        assert self._local is not None and self._peers is not None
        return await self._local.status(self._peers.states(), asyncio.get_running_loop().time() - self._started_s)

    def _fail(self, error: StorageError) -> None:
        """A write or sync failed: nothing is acknowledged from here on, and the process ends (safety rule 4)."""
        if self.failure is not None:
            return
        self.failure = StorageError(
            f"{self.config.node_id} stops: {error.message}; start it again once the disk is well", subject=str(self.config.data)
        )
        log.error("storage_failed", reason=error.message)
        if self._local is not None:
            self._local.coordinator.stopped = StorageError(
                f"{self.config.node_id} stopped acknowledging: {error.message}", may_have_applied=True, retryable=True
            )
        self._stop_task = asyncio.get_running_loop().create_task(self.stop(), name=f"stop@{self.config.node_id}")

    async def _tear_down(self) -> None:
        if self._local is not None:
            self._local.coordinator.stop()
        if self._server is not None:
            await self._server.stop(STOP_GRACE_S)
        if self._announcing is not None:
            self._announcing.cancel()
        if self._peers is not None:
            await self._peers.close()
        state = None
        try:
            state = await self._local.close() if self._local is not None else None
        finally:
            if self._directory is not None:
                self._directory.close(state)
