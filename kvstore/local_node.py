"""A node's own half, everything that works without a network: storage below, coordinators above, and whatever peers it is given.

Wires and ends, decides nothing. Embedded stores are one of these; assembly.py puts peers and a server around it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping

from kvproto.columns import ClusterInfo, NamespaceInfo, NodeStatus, RepairProgress
from kvproto.errors import StorageError
from kvproto.link import LinkBounds
from kvstore import __version__
from kvstore.cluster.leases import pack_state
from kvstore.cluster.view import NO_CATALOG, RingHolder, RingView
from kvstore.config import NodeConfig
from kvstore.config.policies import load_policies
from kvstore.coordinator.batch import Limits
from kvstore.coordinator.coordinator import Coordinator
from kvstore.coordinator.get import TURN_BYTES_MAX, GetCoordinator
from kvstore.coordinator.intake import make_intake
from kvstore.coordinator.linearizable.half import LinearizableHalf
from kvstore.coordinator.minting import Minter
from kvstore.coordinator.put import PutCoordinator
from kvstore.coordinator.quotas import Quotas
from kvstore.coordinator.read_repair import ReadRepair
from kvstore.coordinator.replicas import Replicas
from kvstore.coordinator.scan import ScanCoordinator
from kvstore.coordinator.slow import SlowLog
from kvstore.coordinator.touch import TouchCoordinator
from kvstore.core.catalog.catalog import Catalog
from kvstore.core.doubts import Doubts
from kvstore.core.membership.opinions import Opinions
from kvstore.core.reaping import Grace, ReapingPlan
from kvstore.core.ring import Member
from kvstore.core.ring_planner import plan_ring
from kvstore.crash_points import crash_point
from kvstore.local_namespaces import LocalNamespaces, joins_of
from kvstore.repair.absence import Absence
from kvstore.repair.answering import Answering
from kvstore.repair.anti_entropy import AntiEntropy
from kvstore.repair.hinted_handoff import HintedHandoff
from kvstore.repair.lost_records import LostRecords
from kvstore.repair.owing import Owing
from kvstore.repair.pace import Pace
from kvstore.repair.readmitting import Readmitting
from kvstore.repair.reap_votes import ReapVotes
from kvstore.repair.reaping import Reaper
from kvstore.repair.rebuilding import LOST, UNHEARD, Rebuilding
from kvstore.repair.set_aside import Keep, SetAside
from kvstore.repair.tree_keeper import TreeKeeper
from kvstore.repair.unnoted import Unnoted
from kvstore.runtime import Clock, StartWorker, ThreadWorker
from kvstore.storage.alive import AliveMark
from kvstore.storage.catalogs import load_catalog
from kvstore.storage.commit import Committer
from kvstore.storage.dropped_ids import DroppedIds
from kvstore.storage.engine import Engine
from kvstore.storage.epochs import ActorLedger, load_past
from kvstore.storage.freshness import Freshness
from kvstore.storage.hints import HintTable
from kvstore.storage.layout import NAMESPACE_AT
from kvstore.storage.replica import Replica
from kvstore.storage.store import Store
from kvstore.storage.tombstones import ReapStamps
from kvstore.storage.trees import load_forest, store_forest
from kvstore.telemetry import key_hash
from kvstore.telemetry.node import Telemetry
from kvstore.transport.peers import PeerTransport

FULL_LOAD_OPERATIONS = 1024
"""So many operations under way leave nothing over for work in the background."""

SETTLED = crash_point("stop.settled", "everything that was accepted is durable, and nothing says that this was a clean end")
STORED = crash_point("stop.stored", "the hash trees are stored for the next life, without the marker that says to believe them")

COMMIT_BYTES_MAX = 1024 * 1024
"""Of records that one fsync makes durable: many small ones must not wait for an fsync each 256 KiB."""


def build_view(config: NodeConfig, catalog: Catalog = NO_CATALOG) -> RingView:
    """The ring and namespaces that follow from the configuration alone, equal on every node whose cluster settings are; and those
    of the `catalog`, made at run time."""
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
            quota_operations_per_s=space.quota_operations_per_s,
            quota_bytes_per_s=space.quota_bytes_per_s,
            r_is_exact=space.r is not None,
            w_is_exact=space.w is not None,
        )
        for name, space in sorted(cluster.namespaces.items())
    )
    return RingView(config.node_id, ring, namespaces, load_policies(cluster.namespaces), catalog)


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
        telemetry: Telemetry | None = None,
        clean_state: bytes | None = None,
        opinions: Opinions | None = None,
        keep: Keep = lambda name, data: None,
    ) -> None:
        """`clean_state`: what the last clean stop of this directory left, if nothing was opened since. `keep`: where what this node
        sets aside goes; needed where there are peers."""
        cluster, me = config.cluster, config.node_id
        telemetry = telemetry or Telemetry(asyncio.get_running_loop().time)
        self.config = config
        self.telemetry = telemetry
        self.clock = clock
        self.engine = engine
        self.ring = RingHolder(build_view(config, load_catalog(engine, frozenset(cluster.namespaces))))
        queue = LinkBounds(batch_bytes_max=COMMIT_BYTES_MAX, queue_count_max=config.limits.in_flight_max * 4)
        self.committer = Committer(
            engine,
            sync=durable,
            on_failure=on_failure,
            bounds=queue,
            name=f"commit@{me}",
            start_worker=start_worker,
            meter=telemetry.commits,
        )
        self.ledger = ActorLedger(me, self.committer, rng, on_renewed=on_lease, past=load_past(engine))
        others = [node for node in config.nodes if node != me]
        eventual = [space for space in self.view.spaces.values() if space.info.mode == "eventual"]
        prefixes = [prefix for space in eventual for prefix in space.prefixes]
        dropped = DroppedIds(self.view.catalog)

        def has_no_tree(prefix: bytes) -> bool:
            return prefix[NAMESPACE_AT] in self.view.linearizable or dropped.is_of(prefix)

        self.forest = load_forest(engine, clean_state, prefixes, has_no_tree) if others else None
        self.store = Store(
            engine,
            self.committer,
            cache_bytes_max=config.limits.record_cache_bytes,
            on_quarantine=self._quarantined,
            forest=self.forest,
            joins=joins_of(self.view),
        )
        self.hints = HintTable(
            clock,
            count_max=config.limits.hints_max,
            held_bytes_max=config.limits.hints_bytes_max,
            age_s_max=config.limits.hint_age_s_max,
        )
        self.hints.load(engine)
        self.opinions = opinions or Opinions()
        self.linearizable = LinearizableHalf(
            config,
            engine,
            self.committer,
            ring=self.ring,
            peers=peers,
            opinions=self.opinions,
            clock=clock,
            rng=rng,
            may_vote=lambda: self.rebuilding.reason not in (LOST, UNHEARD),
            on_lost=self._register_lost,
        )
        self.replica = Replica(
            self.store,
            engine,
            cluster.partitions,
            self.hints,
            clock=clock,
            registers=self.linearizable.registers,
            linearizable=self.view.linearizable,
        )
        self.pace = pace = Pace(self._load)
        self.doubts = Doubts(others, peers.reachable)
        self.owing = Owing(me=me, others=others, hints=self.hints, peers=peers, doubts=self.doubts)
        self.handoff = HintedHandoff(
            me=me,
            hints=self.hints,
            store=self.store,
            ledger=self.ledger,
            peers=peers,
            ring=self.ring,
            clock=clock,
            pace=pace,
            owing=self.owing,
        )
        grace = Grace(cluster.tombstone_grace_s)
        self.freshness = Freshness(me, clock, grace)
        self.stamps = ReapStamps(engine)
        self.reap_votes = ReapVotes(me=me, store=self.store, hints=self.hints, stamps=self.stamps, ring=self.ring, clock=clock)
        self.reaper = Reaper(
            me=me,
            store=self.store,
            replica=self.replica,
            votes=self.reap_votes,
            plan=ReapingPlan(grace),
            peers=peers,
            ring=self.ring,
            clock=clock,
            timer=telemetry.timer,
        )
        self.answering = Answering(self.forest, self.replica)
        self.rebuilding = Rebuilding(
            me, engine, self.store, self.committer, self.ledger, self.ring, self.linearizable.registers.lose
        )
        self.alive = AliveMark(engine, self.committer, clock)
        self.aside = SetAside(
            me=me,
            engine=engine,
            committer=self.committer,
            store=self.store,
            replica=self.replica,
            ring=self.ring,
            clock=clock,
            pace=pace,
            keep=keep,
        )
        self.absence = Absence(
            me=me,
            mark=self.alive,
            aside=self.aside,
            replica=self.replica,
            rebuilding=self.rebuilding,
            grace=grace,
            clock=clock,
            has_peers=bool(others),
        )
        self.trees: TreeKeeper | None = None
        self.anti_entropy: AntiEntropy | None = None
        self.lost_records: LostRecords | None = None
        self.readmitting: Readmitting | None = None
        if self.forest is not None:
            self.trees = TreeKeeper(me=me, forest=self.forest, store=self.store, replica=self.replica, pace=pace)
            self.lost_records = LostRecords(
                me=me, store=self.store, peers=peers, ring=self.ring, freshness=self.freshness, pace=pace
            )
            self.anti_entropy = AntiEntropy(
                me=me,
                forest=self.forest,
                store=self.store,
                replica=self.replica,
                peers=peers,
                ring=self.ring,
                hints=self.hints,
                rebuilding=self.rebuilding,
                unnoted=Unnoted(engine, self.committer, others, may_have_lost=clean_state is None and self.ledger.has_past),
                answering=self.answering,
                others=others,
                freshness=self.freshness,
                pace=pace,
                is_busy=lambda: self.coordinator.in_flight > 0,
                rng=random.Random(rng.getrandbits(64)),
                interval_s=config.limits.repair_interval_s,
            )
        limits = Limits(cluster.key_bytes_max, cluster.value_bytes_max, cluster.siblings_max)
        replicas = Replicas(me, peers, self.opinions)
        self.repair = ReadRepair(
            self.store, replicas, self.freshness, pace, in_flight_bytes_max=config.limits.in_flight_bytes_max // 2
        )
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
        puts = PutCoordinator(
            minter=minter,
            store=self.store,
            hints=self.hints,
            replicas=replicas,
            clock=clock,
            freshness=self.freshness,
            durable=durable,
        )
        self.quotas = Quotas(cluster.namespaces, lambda: len(self.ring.view.ring.members) - len(self.opinions.dead))
        self.coordinator = Coordinator(
            me=me,
            ring=self.ring,
            puts=puts,
            touches=TouchCoordinator(puts=puts, minter=minter, store=self.store, replicas=replicas, clock=clock, durable=durable),
            gets=GetCoordinator(
                store=self.store,
                replicas=replicas,
                repair=self.repair,
                clock=clock,
                durable=durable,
                meter=telemetry.requests,
                doubts=self.doubts,
                freshness=self.freshness,
                turn_bytes_max=min(TURN_BYTES_MAX, config.limits.in_flight_bytes_max // 32),
            ),
            scans=ScanCoordinator(
                me=me, replica=self.replica, peers=peers, ring=self.ring, clock=clock, durable=durable, doubts=self.doubts
            ),
            registers=self.linearizable.coordinator,
            peers=peers,
            opinions=self.opinions,
            limits=limits,
            in_flight_max=config.limits.in_flight_max,
            timer=telemetry.timer,
            slow=SlowLog(telemetry.slow_batch_s, telemetry.timer, telemetry.logs),
            meter=telemetry.requests,
        )

        self.namespaces = LocalNamespaces(
            me,
            others,
            engine=engine,
            committer=self.committer,
            ring=self.ring,
            store=self.store,
            replica=self.replica,
            hints=self.hints,
            linearizable=self.linearizable,
            quotas=self.quotas,
            coordinator=self.coordinator,
            rebuilding=self.rebuilding,
            peers=peers,
            pace=pace,
            clock=clock,
            rng=rng,
        )
        if others:
            self.readmitting = Readmitting(
                me=me,
                registers=self.linearizable.registers,
                taken=self.linearizable.proposing.proposer.taken,
                peers=peers,
                ring=self.ring,
                pace=pace,
                rng=random.Random(self.linearizable.proposing.incarnation),
                read_catalog=self.namespaces.catalog.changes.read,
            )

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
        config, compared = self.config, self.anti_entropy
        divergent = 0 if compared is None else await compared.divergent_partitions()
        return NodeStatus(
            node_id=config.node_id,
            address=config.advertise,
            zone=config.zone,
            state="alive",
            ring_epoch=self.ring.view.ring.epoch,
            keys=await self.replica.count_keys(),
            version=__version__,
            hints_pending=self.hints.count,
            hints_dropped=self.hints.dropped,
            oldest_hint_s=self.hints.oldest_s(),
            quarantined=self.store.quarantined + self.linearizable.registers.quarantined,
            peers=peers,
            commits=self.committer.commits,
            commit_records=self.committer.records,
            read_repairs=self.repair.repaired,
            overloaded=self.coordinator.overloaded + self.intake.refused + self.intake.shed,
            uptime_s=uptime_s,
            divergent_partitions=divergent,
            rebuilding=self.rebuilding.reason or ("registers lost" if self.linearizable.registers.is_lost else ""),
            set_aside=self.aside.kept,
            trees_unknown=0 if self.forest is None else self.forest.unknown_count,
            differences=0 if compared is None else compared.differences,
            repaired=0 if compared is None else compared.repaired,
            rounds=() if compared is None else compared.last_rounds(),
        )

    def compare_now(self, namespace: str, follow: int) -> RepairProgress:
        """Compares with every peer now, and tells how far that is (`AntiEntropy.repair`)."""
        if self.replica.closed is not None:
            raise self.replica.closed
        if self.anti_entropy is None:
            return RepairProgress(node_id=self.config.node_id, number=1, over=True)
        return self.anti_entropy.repair(namespace, follow)

    def start_background(self) -> None:
        """Begins what goes on beside the work of clients: hints, sweeps, trees, exchanges."""
        self.handoff.start()
        self.reaper.start()
        self.absence.start()
        self.aside.start()
        self.namespaces.start()
        for job in (self.trees, self.anti_entropy, self.lost_records, self.readmitting):
            if job is not None:
                job.start()

    def check(self) -> None:
        """Asserts the invariants of every state machine; for tests and simulation."""
        self.store.check()
        self.committer.check()
        self.coordinator.check()
        self.intake.check()
        self.ledger.check()
        self.hints.check()
        self.reaper.check()
        self.linearizable.check()
        self.namespaces.check()

    async def close(self) -> bytes | None:
        """Ends storage. The actor state for a clean-shutdown marker, or None if this was no clean end."""
        self.coordinator.stop()
        self.handoff.stop()
        self.owing.stop()
        self.repair.stop()
        self.reaper.stop()
        self.linearizable.stop()
        self.absence.stop()
        self.aside.stop()
        self.namespaces.stop()
        for job in (self.trees, self.anti_entropy, self.lost_records, self.readmitting):
            if job is not None:
                job.stop()
        await self.committer.close()
        await SETTLED.passed()
        self.replica.close()
        state = None if self.committer.failure is not None else pack_state(self.ledger)
        try:
            if state is not None and self.forest is not None:
                self.absence.note_end()
                store_forest(self.engine, self.forest, state)
                await STORED.passed()
        except StorageError:
            state = None  # everything accepted is durable, but the next start has to find out what
        finally:
            self.engine.close()
        return state

    def _load(self) -> float:
        """How busy clients keep the node, from 0 to 1; for those who can wait."""
        return 1.0 if self.committer.is_behind else max(self.coordinator.in_flight / FULL_LOAD_OPERATIONS, self.intake.load)

    def _register_lost(self, store_key: bytes) -> None:
        count = self.linearizable.registers.quarantined
        self.telemetry.logs.tell("error", "register_quarantined", key_hash=key_hash(store_key), count=count)

    def _quarantined(self, store_key: bytes) -> None:
        self.telemetry.logs.tell("error", "record_quarantined", key_hash=key_hash(store_key), count=self.store.quarantined)
        self.ledger.begin_epoch()
