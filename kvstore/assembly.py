"""One node's objects: made in the order in which they need each other, ended in the opposite one. Waits for nothing while it makes
them, and decides nothing; starting.py has them begin their work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette

from kvproto.columns import NodeStatus
from kvproto.errors import StorageError
from kvstore.api.admin import AdminService
from kvstore.api.condition import Condition
from kvstore.api.exchange import Exchange
from kvstore.api.frame_server import FrameServer, takes_frames
from kvstore.api.http import make_application
from kvstore.api.http_server import HttpServer
from kvstore.api.interceptor import CallCounter
from kvstore.api.key_value import KeyValueService
from kvstore.api.loop_lag import LoopLag
from kvstore.api.metrics.collector import Exposition
from kvstore.api.metrics.membership import collect_membership
from kvstore.api.peer import CatalogDesk, PeerService
from kvstore.api.server import GrpcServer
from kvstore.cluster.leases import Leases
from kvstore.config import NodeConfig
from kvstore.config.policies import load_policies
from kvstore.core.membership.opinions import Opinions
from kvstore.core.membership.suspicion import TIMINGS
from kvstore.local_node import LocalNode
from kvstore.membership.detection import FailureDetection
from kvstore.membership.promptness import Promptness
from kvstore.peer_events import PeerEvents
from kvstore.seams import Directory, Seams
from kvstore.storage.catalogs import load_catalog
from kvstore.storage.engine import Engine
from kvstore.storage.incarnations import IncarnationLedger
from kvstore.storage.namespaces import remember_namespaces, remember_policies
from kvstore.storage.peer_leases import PeerLeases
from kvstore.storage.write_buffers import buffer_bytes_of
from kvstore.telemetry.node import Telemetry
from kvstore.telemetry.trace import TraceIds
from kvstore.transport.detector_calls import DetectorCalls
from kvstore.transport.grpc_peers import GrpcPeers
from kvstore.transport.hello import Doorkeeper, Identity
from kvstore.transport.peer_streams import FrameDials

STOP_GRACE_S = 1.0


class Assembly:
    """What one node consists of; None is what was not made yet. A build that broke off is closed as far as it came."""

    def __init__(
        self,
        config: NodeConfig,
        seams: Seams,
        *,
        on_failure: Callable[[StorageError], None],
        status: Callable[[], Awaitable[NodeStatus]],
    ) -> None:
        self.config = config
        self.directory: Directory | None = None
        self.peers: GrpcPeers | None = None
        self.calls: DetectorCalls | None = None
        self.detection: FailureDetection | None = None
        self.leases: Leases | None = None
        self.local: LocalNode | None = None
        self.server: GrpcServer | None = None
        self.frames: FrameServer | None = None
        self.http: HttpServer | None = None
        self.loop_lag: LoopLag | None = None
        self.watching: asyncio.Task[None] | None = None
        self._seams = seams
        self._on_failure = on_failure
        self._status = status

    def build(self) -> None:
        """Opens the data and makes everything. Raises a `KvError` that says in a sentence what cannot be had."""
        config, seams = self.config, self._seams
        load_policies(config.cluster.namespaces)  # a function that is no merge is refused before anything is opened
        if config.tls is not None:
            seams.secure(config)
        self.directory = directory = seams.open_directory(config.data, cluster_id=config.cluster.id, node_id=config.node_id)
        identity = Identity(config.node_id, seams.rng.getrandbits(64), config.cluster, config.advertise, config.zone)
        told = config.telemetry
        telemetry = Telemetry(seams.timer, metrics=told.metrics, slow_batch_s=told.slow_batch_ms / 1000)
        promptness = Promptness(config.others, timer=telemetry.timer)
        events, advertised = PeerEvents(seams.clock), dict[str, str]()
        self.peers = events.peers = peers = self._make_peers(identity, telemetry, promptness, events, advertised)
        self.leases = Leases(identity, peers)
        opinions = Opinions()
        self.local = events.local = local = LocalNode(
            config,
            self._open_engine(directory),
            peers,
            clock=seams.clock,
            rng=seams.rng,
            on_failure=self._on_failure,
            on_lease=self.leases.renewed,
            start_worker=seams.start_worker,
            telemetry=telemetry,
            clean_state=directory.clean_state,
            opinions=opinions,
            keep=directory.append,
        )
        self._make_detection(local, peers, opinions, promptness)
        if config.http and seams.http is not None:  # takes its port, before the other one can be connected to
            self.http = seams.http(config.http, self._application(local, peers))
        leases = PeerLeases(local.engine, local.committer)
        events.doorkeeper = Doorkeeper(
            identity,
            frozenset(config.nodes),
            peers.incarnation_of,
            leases=leases.load(),
            advertised=advertised,
            on_lease=leases.remember,
        )
        self.server = self._make_server(identity, local, events, advertised)

    def _make_peers(
        self,
        identity: Identity,
        telemetry: Telemetry,
        promptness: Promptness,
        events: PeerEvents,
        advertised: dict[str, str],
    ) -> GrpcPeers:
        seams = self._seams
        return GrpcPeers(
            identity,
            self.config.peers,
            clock=seams.clock,
            ring_of=events.ring,
            channel=seams.channel,
            security=seams.security,
            frames=self._frame_dials(identity),
            meter=telemetry.link,
            timer=telemetry.timer,
            on_round_trip=promptness.record,
            on_up=events.linked,
            on_down=self._link_broke,
            advertised=advertised,
            on_remembered=events.answered,
            noted=events.noted,
            remembered=events.lease_of,
            on_lived=events.heard_lived,
            revision=events.revision,
            on_revision=events.heard_revision,
        )

    def _make_detection(self, local: LocalNode, peers: GrpcPeers, opinions: Opinions, promptness: Promptness) -> None:
        config, seams = self.config, self._seams
        timing = TIMINGS[config.membership.timing]
        self.calls = DetectorCalls(
            config.node_id,
            config.cluster.id,
            config.peers,
            channel=seams.channel,
            security=seams.security,
            timeout_s=2 * timing.probe_interval_ms / 1000,
        )
        self.calls.revision, self.calls.on_revision = lambda: local.view.catalog.revision, local.namespaces.spread.heard
        self.detection = FailureDetection(
            config.node_id,
            config.others,
            timing=timing,
            rng=seams.rng,
            carrier=self.calls,
            incarnations=IncarnationLedger(local.engine, local.committer),
            opinions=opinions,
            promptness=promptness,
            data=peers,
            ring=local.ring,
        )

    def _make_server(self, identity: Identity, local: LocalNode, events: PeerEvents, advertised: dict[str, str]) -> GrpcServer:
        config, seams, telemetry, detection = self.config, self._seams, local.telemetry, self.detection
        assert detection is not None, "made before"
        key_value = KeyValueService(
            local.coordinator,
            local.ring,
            config.cluster.id,
            traces=TraceIds(identity.incarnation),
            logs=telemetry.logs,
            intake=local.serving.intake,
            quotas=local.serving.quotas,
            security=seams.security,
            operations_max=config.limits.batch_operations_max,
        )
        spread = local.namespaces.spread
        exchange = Exchange(
            config.node_id,
            local.replica,
            local.ring,
            registers=local.linearizable.desk,
            telemetry=telemetry,
            freshness=local.upkeep.freshness,
        )
        if takes_frames(config):
            room = seams.sockets(config.limits.connections_max)
            self.frames = FrameServer(seams.frames, config, identity, exchange, key_value, clients_max=room.frames)
        peer = PeerService(
            local.replica,
            local.ring,
            events.doorkeeper,
            exchange=exchange,
            answering=local.answering,
            telemetry=telemetry,
            ports=self._ports,
            reap_votes=local.upkeep.reap_votes,
            detector=detection.receive,
            on_greeted=events.greeted,
            on_owing=local.upkeep.owing.told,
            on_remembered=events.remembered,
            lived=events.lived,
            catalog=CatalogDesk(events.revision, spread.heard, spread.receive),
            security=seams.security,
        )
        namespaces = local.namespaces
        admin = AdminService(
            lambda: local.describe(advertised),
            self._status,
            local.compare_now,
            local.accept_loss,
            namespaces.create,
            namespaces.drop,
            lambda: (*self._ports(), identity.incarnation),
        )
        interceptors = [CallCounter(telemetry.calls)] if telemetry.calls is not None else []
        server = seams.server(interceptors, config.limits.connections_max)
        return GrpcServer(server, config.listen, key_value, peer, admin, security=seams.security)

    def _frame_dials(self, identity: Identity) -> FrameDials:
        config = self.config
        return FrameDials(identity, config.peers, config.peer_frames, self._seams.frames if takes_frames(config) else None)

    def _ports(self) -> tuple[int, int]:
        assert self.server is not None, "asked through it"
        return self.server.port, 0 if self.frames is None else self.frames.port

    async def close(self) -> None:
        """Answers what is in flight, makes everything durable, leaves the clean-shutdown marker if this is a clean end."""
        if self.local is not None:
            self.local.coordinator.stop()  # /ready says so from here on
        if self.server is not None:
            await self.server.stop(STOP_GRACE_S)
        if self.frames is not None:
            self.frames.stop()
        if self.watching is not None:
            self.watching.cancel()
        if self.leases is not None:
            self.leases.stop()
        if self.detection is not None:
            self.detection.stop()
        if self.calls is not None:
            await self.calls.close()
        if self.peers is not None:
            await self.peers.close()
        if self.loop_lag is not None:
            await self.loop_lag.stop()
        if self.http is not None:
            await self.http.stop()
        state = None
        try:
            state = await self.local.close() if self.local is not None else None
        finally:
            if self.directory is not None:
                self.directory.close(state)

    async def start_http(self) -> None:
        """From here on the http address answers, if there is one."""
        if self.http is None or self.local is None:
            return
        await self.http.start()
        telemetry, name = self.local.telemetry, f"lag@{self.config.node_id}"
        if telemetry.loop_lag is not None:
            self.loop_lag = LoopLag(telemetry.loop_lag, telemetry.timer, name=name)

    def watch_certificates(self) -> None:
        """From here on somebody looks after them, if there are any."""
        if self.config.tls is not None:
            name = f"certificates@{self.config.node_id}"
            self.watching = asyncio.get_running_loop().create_task(self._seams.security.watch(), name=name)

    def check(self) -> None:
        """Asserts the invariants of every state machine; for tests and simulation."""
        if self.local is not None:
            self.local.check()
        if self.peers is not None:
            self.peers.check()
        if self.detection is not None:
            self.detection.check()

    def _link_broke(self, node: str) -> None:
        if self.local is not None:
            self.local.upkeep.owing.unlinked(node)
        if self.detection is not None:
            self.detection.link_broke(node)

    def _application(self, local: LocalNode, peers: GrpcPeers) -> Starlette:
        detection, calls = self.detection, self.calls
        assert detection is not None and calls is not None, "made before"
        exposition = None
        if local.telemetry.metrics:
            exposition = Exposition(
                local, peers.links, lambda: self._seams.security.expires_at_ms, lambda: collect_membership(detection, calls)
            )
        return make_application(Condition(local, peers.states), exposition)

    def _open_engine(self, directory: Directory) -> Engine:
        config, limits = self.config, self.config.limits
        engine = self._seams.open_engine(
            directory.subdirectory("data"),
            write_buffer_bytes=buffer_bytes_of(config.node_id, list(config.nodes), limits.write_buffer_bytes),
            cache_bytes=limits.block_cache_bytes,
        )
        try:
            cluster = config.cluster
            remember_namespaces(engine, {name: space.id for name, space in cluster.namespaces.items()})
            policies = {name: (space.id, space.written_under) for name, space in cluster.namespaces.items()}
            remember_policies(engine, policies, cluster.partitions)
            load_catalog(engine, frozenset(cluster.namespaces))  # said now, if it cannot be gone by
        except BaseException:
            engine.close()
            raise
        return engine
