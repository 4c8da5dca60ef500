"""Several nodes in one event loop: real coordinators, stores, peer links and services; memory as disk, and a wire made of bytes.

Every message passes through protobuf bytes. Each directed link can be cut, held (messages wait until released) or made to answer
errors. Time of day is a `ManualClock`; deadlines are the event loop's. Tests read answers through `Told`, one entry an operation.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kvproto.codec import decode_error, decode_replies, encode_batch, encode_error
from kvproto.columns import GroupReply, Kind, Level, NodeStatus, OperationGroup, Receipt, ScanPage, ScanQuery
from kvproto.errors import AvailabilityError, KvError
from kvproto.large_messages import whole
from kvproto.outbox import Outbox
from kvproto.v1 import key_value_pb2, peer_pb2
from kvstore.api.exchange import Exchange
from kvstore.api.exchange import Reply as PeerReply
from kvstore.api.key_value import KeyValueService
from kvstore.api.peer import CatalogDesk, PeerService
from kvstore.config import ClusterConfig, NodeConfig, NodeLimits
from kvstore.core.merkle.questions import Question, Reply
from kvstore.core.page import Page
from kvstore.local_node import LocalNode
from kvstore.storage.memory import MemoryEngine
from kvstore.telemetry.node import Telemetry
from kvstore.telemetry.trace import TraceIds
from kvstore.transport.codec import Request, decode_page, decode_reap, encode_reap
from kvstore.transport.compare_codec import decode_reply, encode_question
from kvstore.transport.hello import Doorkeeper, Identity
from kvstore.transport.peer_link import PeerLink
from kvstore.transport.peers import FetchChunk, ReapAnswer, ReapQuestion, RegisterChunk, StoreChunk
from tests.support.clocks import ManualClock
from tests.support.waiting import until


class UnaryContext:
    """What a unary handler asks of gRPC: who calls, and how much time is left."""

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self._when_done: list[Callable[[UnaryContext], None]] = []

    def peer(self) -> str:
        return self._peer

    def time_remaining(self) -> float | None:
        return None

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    def add_done_callback(self, callback: Callable[[UnaryContext], None]) -> None:
        self._when_done.append(callback)

    def done(self) -> None:
        for callback in self._when_done:
            callback(self)


class Wire:
    """One direction between two nodes. `cut`: nothing passes and the sender knows; `held`: it waits; `error`: it is refused."""

    def __init__(self) -> None:
        self.is_cut = False
        self.is_held = False
        self.error: KvError | None = None
        self.waiting: list[Callable[[], None]] = []
        self.messages = 0

    def pass_on(self, deliver: Callable[[], None]) -> None:
        """Delivers in the next turn of the loop, or when released."""
        self.messages += 1
        if self.is_held:
            self.waiting.append(deliver)
        else:
            asyncio.get_running_loop().call_soon(deliver)

    def hold(self) -> None:
        self.is_held = True

    def release(self) -> None:
        self.is_held = False
        waiting, self.waiting = self.waiting, []
        for deliver in waiting:
            asyncio.get_running_loop().call_soon(deliver)


class _ReplyBox(Outbox[PeerReply]):
    """Hands each reply on at once."""

    def __init__(self, reply: Callable[[peer_pb2.PeerReply], None]) -> None:
        async def hand_on(message: PeerReply) -> None:
            reply(whole(message))

        super().__init__(hand_on)


class _Stream:
    """A `PeerStream` to `target` over the wire."""

    def __init__(self, cluster: Cluster, me: str, target: str, link: PeerLink) -> None:
        self.cluster, self.me, self.target, self.link = cluster, me, target, link

    def send(self, message: Request) -> None:
        raw = whole(message).SerializeToString()
        self.cluster.wire(self.me, self.target).pass_on(lambda: self._arrive(raw))

    def _arrive(self, raw: bytes) -> None:
        request, wire = peer_pb2.PeerRequest.FromString(raw), self.cluster.wire(self.me, self.target)
        if wire.error is not None:
            self._reply(peer_pb2.PeerReply(batch_id=request.batch_id, last=True, error=encode_error(wire.error)))
            return
        self.cluster.members[self.target].peer_service.exchange.answer(request, _ReplyBox(self._reply))

    def _reply(self, message: peer_pb2.PeerReply) -> None:
        raw = message.SerializeToString()
        self.cluster.wire(self.target, self.me).pass_on(lambda: self.link.receive(peer_pb2.PeerReply.FromString(raw)))


class WirePeers:
    """The `PeerTransport` of one node of a `Cluster`: a real `PeerLink` to every other."""

    def __init__(self, cluster: Cluster, me: str, others: Sequence[str], ring_of: Callable[[], tuple[int, int]]) -> None:
        self.cluster, self.me, self._ring_of = cluster, me, ring_of
        self.links = {node: PeerLink(node, clock=cluster.clock, ring_of=ring_of) for node in others}
        for node in others:
            self.connect(node)

    def connect(self, node: str) -> None:
        link = self.links[node]
        link.up(_Stream(self.cluster, self.me, node, link))

    def store(self, chunk: StoreChunk) -> None:
        self.links[chunk.node].submit(chunk)

    def fetch(self, chunk: FetchChunk) -> None:
        self.links[chunk.node].submit(chunk)

    def register(self, chunk: RegisterChunk) -> None:
        self.links[chunk.node].submit(chunk)

    async def page(
        self, node: str, namespace: int, start: bytes, end: bytes, count_max: int, bytes_max: int, timeout_s: float
    ) -> Page:
        await self._travel(self.me, node)
        epoch, ring_hash = self._ring_of()
        request = peer_pb2.PageRequest(
            ring_epoch=epoch,
            ring_hash=ring_hash,
            namespace=namespace,
            start=start,
            end=end,
            count_max=count_max,
            bytes_max=bytes_max,
        )
        reply = await self.cluster.members[node].peer_service.Page(
            peer_pb2.PageRequest.FromString(request.SerializeToString()), None
        )
        await self._travel(node, self.me)
        return decode_page(peer_pb2.PageReply.FromString(reply.SerializeToString()))

    async def compare(self, node: str, question: Question, timeout_s: float, *, urgent: bool = False) -> Reply:
        await self._travel(self.me, node)
        epoch, ring_hash = self._ring_of()
        sent_ms = self.cluster.clock.now_ms()
        request = encode_question(question, epoch=epoch, ring_hash=ring_hash, sent_ms=sent_ms, asker=self.me, urgent=urgent)
        raw = request.SerializeToString()
        reply = await self.cluster.members[node].peer_service.Compare(peer_pb2.CompareRequest.FromString(raw), None)
        await self._travel(node, self.me)
        return decode_reply(question, peer_pb2.CompareReply.FromString(reply.SerializeToString()))

    async def forward(self, node: str, group: OperationGroup, timeout_s: float, trace: bytes = b"") -> list[GroupReply]:
        await self._travel(self.me, node)
        request = encode_batch(1, [group], ring_epoch=self._ring_of()[0], hops=1, trace_id=trace)
        service = self.cluster.members[node].key_value_service
        context = UnaryContext(self.me)
        try:
            reply = await service.Batch(key_value_pb2.BatchRequest.FromString(request.SerializeToString()), context)
        finally:
            context.done()
        await self._travel(node, self.me, may_have_applied=True)
        return decode_replies(key_value_pb2.BatchReply.FromString(reply.SerializeToString()))

    async def reap(self, node: str, question: ReapQuestion, timeout_s: float) -> ReapAnswer:
        await self._travel(self.me, node)
        epoch, ring_hash = self._ring_of()
        request = encode_reap(question, epoch=epoch, ring_hash=ring_hash)
        service = self.cluster.members[node].peer_service
        reply = await service.Reap(peer_pb2.ReapRequest.FromString(request.SerializeToString()), None)
        await self._travel(node, self.me, may_have_applied=True)
        return decode_reap(peer_pb2.ReapReply.FromString(reply.SerializeToString()))

    async def owe(self, node: str, partitions: Collection[int], timeout_s: float) -> None:
        await self._travel(self.me, node)
        request = peer_pb2.OweRequest(node_id=self.me, partitions=sorted(partitions))
        await self.cluster.members[node].peer_service.Owe(peer_pb2.OweRequest.FromString(request.SerializeToString()), None)
        await self._travel(node, self.me)

    async def catalog(self, node: str, revision: int, data: bytes, timeout_s: float) -> tuple[int, bytes]:
        await self._travel(self.me, node)
        request = peer_pb2.CatalogRequest(
            cluster_id=self.cluster.members[node].local.config.cluster.id, sender=self.me, revision=revision, catalog=data
        )
        reply = await self.cluster.members[node].peer_service.Catalog(request, None)
        await self._travel(node, self.me)
        if reply.HasField("error"):
            raise decode_error(reply.error)
        return reply.revision, reply.catalog

    async def status(self, node: str, timeout_s: float) -> NodeStatus:
        return await self.cluster.members[node].local.status()

    def reachable(self, node: str) -> bool:
        return self.links[node].is_up

    def lag_s(self, node: str) -> float:
        return self.links[node].lag_s()

    def queued(self, node: str) -> int:
        return self.links[node].queued_count

    async def _travel(self, source: str, target: str, *, may_have_applied: bool = False) -> None:
        wire = self.cluster.wire(source, target)
        if wire.is_cut:
            raise AvailabilityError(f"{target} is unreachable", may_have_applied=may_have_applied, subject=target)
        if wire.error is not None:
            raise wire.error
        arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        wire.pass_on(lambda: None if arrived.done() else arrived.set_result(None))
        await arrived


@dataclass
class Member:
    """One node and what stands in front of it."""

    local: LocalNode
    peers: WirePeers
    engine: MemoryEngine
    peer_service: PeerService
    key_value_service: KeyValueService
    failures: list[KvError] = field(default_factory=list)


@dataclass
class Told:
    """What one operation was answered."""

    values: list[bytes] = field(default_factory=list)
    count: int = 1
    versions: list[bytes] = field(default_factory=list)
    context: bytes = b""
    expires_ms: list[int] = field(default_factory=list)
    receipt: Receipt | None = None
    error: KvError | None = None

    @property
    def value(self) -> bytes | None:
        """The only value, None when there is none."""
        if self.error is not None:
            raise self.error
        assert self.count == len(self.values) <= 1, self
        return self.values[0] if self.values else None


class Answer:
    """The answer to a batch while it comes in: `told` by (group, position), `done` once the last part has come."""

    def __init__(self, groups: Sequence[OperationGroup]) -> None:
        self.groups = groups
        self.told: dict[tuple[int, int], Told] = {}
        self.parts = 0
        self.done = False
        self.task: asyncio.Task[None] | None = None

    def __getitem__(self, position: int) -> Told:
        return self.told[0, position]

    def take(self, replies: list[GroupReply], last: bool) -> None:
        assert not self.done, "nothing comes after the last part"
        self.parts += 1
        self.done = last
        for reply in replies:
            self._take_one(reply)

    def _take_one(self, reply: GroupReply) -> None:
        group = self.groups[reply.group]
        positions = range(max(1, len(group.keys))) if reply.positions is None else reply.positions
        values, expiries = iter(reply.values), iter(reply.expires_ms)
        versions = iter([reply.versions[at : at + 20] for at in range(0, len(reply.versions), 20)])
        for index, position in enumerate(positions):
            assert (reply.group, position) not in self.told, "an operation is answered once"
            told = self.told[reply.group, position] = Told(error=reply.error, receipt=reply.receipt)
            if reply.error is not None:
                continue
            told.count = reply.counts[index] if reply.counts else 1
            told.context = reply.contexts[index]
            if group.kind is Kind.GET:
                told.values = [next(values) for _ in range(told.count)]
                told.versions = [next(versions) for _ in range(told.count)]
                told.expires_ms = [next(expiries) for _ in range(told.count)] if reply.expires_ms else []
            else:
                told.versions = [next(versions)]
                told.values = [next(values)] if reply.values else []  # of increments

    async def complete(self) -> Answer:
        """Waits for the last part."""
        await until(lambda: self.done)
        return self


class Cluster:
    """`nodes` nodes called n1, n2, …; `engine` makes the disk of each, `telemetry` its counters. Use as `async with`."""

    def __init__(
        self,
        nodes: int = 3,
        *,
        settings: ClusterConfig | None = None,
        limits: NodeLimits | None = None,
        engine: Callable[[], MemoryEngine] = MemoryEngine,
        telemetry: Callable[[], Telemetry] | None = None,
        seed: int = 1,
    ) -> None:
        self._telemetry = telemetry
        self.ids = [f"n{at + 1}" for at in range(nodes)]
        self.clock = ManualClock()
        self.members: dict[str, Member] = {}
        self._settings = settings or ClusterConfig(partitions=8)
        self._limits = limits or NodeLimits()
        self._engine = engine
        self._seed = seed
        self._wires: dict[tuple[str, str], Wire] = {}
        self._answers: list[Answer] = []
        self.defects: list[str] = []  # exceptions in callbacks, which would otherwise only be logged

    async def __aenter__(self) -> Self:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.defects.append(str(context)))
        for node in self.ids:
            self.members[node] = self._build(node)
        for node, member in self.members.items():
            await member.local.ledger.leased()
            for other in self.ids:
                if other != node:
                    member.local.upkeep.doubts.told(other, ())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for answer in self._answers:
            if answer.task is not None:
                answer.task.cancel()
        for wire in self._wires.values():
            wire.is_held, wire.waiting = True, []
        for member in self.members.values():
            if error is None:
                member.local.store.check()
                member.local.linearizable.check()
            await member.local.close()
        assert error is not None or not self.defects, self.defects

    def wire(self, source: str, target: str) -> Wire:
        """What carries messages from `source` to `target`; both directions carry parts of an exchange."""
        return self._wires.setdefault((source, target), Wire())

    def cut(self, left: str, right: str) -> None:
        """Nothing passes between the two, and both know."""
        for source, target in ((left, right), (right, left)):
            self.wire(source, target).is_cut = True
            link = self.members[source].peers.links[target]
            if link.is_up:
                link.down("was cut off")
                self.members[source].local.upkeep.owing.unlinked(target)

    def heal(self, left: str, right: str) -> None:
        for source, target in ((left, right), (right, left)):
            self.wire(source, target).is_cut = False
            if not self.members[source].peers.reachable(target):
                self.members[source].peers.connect(target)
        for source, target in ((left, right), (right, left)):
            self.members[source].local.upkeep.owing.linked(target)

    def isolate(self, node: str) -> None:
        for other in self.ids:
            if other != node:
                self.cut(node, other)

    def rejoin(self, node: str) -> None:
        for other in self.ids:
            if other != node:
                self.heal(node, other)

    def stall(self, node: str) -> None:
        """Whatever is sent to `node` waits; nobody knows."""
        for other in self.ids:
            if other != node:
                self.wire(other, node).hold()

    def resume(self, node: str) -> None:
        for other in self.ids:
            if other != node:
                self.wire(other, node).release()

    # --- operations

    def start(self, node: str, *groups: OperationGroup, hops: int = 0, trace: bytes = b"") -> Answer:
        """Hands a batch to the coordinator of `node`."""
        answer = Answer(groups)
        work = self.members[node].local.coordinator.execute(groups, answer.take, hops=hops, trace=trace)
        answer.task = asyncio.get_running_loop().create_task(work)
        self._answers.append(answer)
        return answer

    async def run(self, node: str, *groups: OperationGroup) -> Answer:
        return await self.start(node, *groups).complete()

    async def put(self, node: str, key: bytes, value: bytes, *, context: bytes = b"", **options: Any) -> Told:
        return (await self.run(node, puts({key: value}, contexts=[context] if context else (), **options)))[0]

    async def delete(self, node: str, key: bytes, **options: Any) -> Told:
        return (await self.run(node, OperationGroup(Kind.DELETE, "default", [key], **options)))[0]

    async def get(self, node: str, key: bytes, **options: Any) -> Told:
        return (await self.run(node, gets(key, **options)))[0]

    async def scan(self, node: str, **options: Any) -> list[ScanPage]:
        query = ScanQuery("default", **options)
        return [page async for page in self.members[node].local.coordinator.scan(query)]

    # --- looking inside

    def store_key(self, key: bytes) -> bytes:
        view = self.members[self.ids[0]].local.view
        return view.space("default").prefixes[view.ring.partition_of(key)] + key

    def owners(self, key: bytes) -> list[str]:
        view = self.members[self.ids[0]].local.view
        return list(view.preference[view.ring.partition_of(key)])

    def held(self, node: str, key: bytes) -> bytes | None:
        """The record of `key` that is durable on `node`."""
        return self.members[node].engine.get(self.store_key(key))

    def _build(self, node: str) -> Member:
        addresses = {other: f"127.0.0.1:{7400 + at}" for at, other in enumerate(self.ids)}
        others = {other: address for other, address in addresses.items() if other != node}
        config = NodeConfig(
            node_id=node,
            listen=addresses[node],
            advertise=addresses[node],
            data=Path("in-memory"),
            peers=others,
            cluster=self._settings,
            limits=self._limits,
        )
        engine, failures = self._engine(), list[KvError]()
        peers = WirePeers(self, node, list(others), lambda: (local.view.ring.epoch, local.view.ring.hash))
        local = LocalNode(
            config,
            engine,
            peers,
            clock=self.clock,
            rng=random.Random(f"{self._seed}/{node}"),
            on_failure=failures.append,
            telemetry=self._telemetry() if self._telemetry is not None else None,
        )
        identity = Identity(node, 1, self._settings, config.advertise, "")
        doorkeeper = Doorkeeper(identity, frozenset(self.ids), peers_incarnation)
        peer_service = PeerService(
            local.replica,
            local.ring,
            doorkeeper,
            exchange=Exchange(
                node,
                local.replica,
                local.ring,
                registers=local.linearizable.desk,
                telemetry=local.telemetry,
                freshness=local.upkeep.freshness,
            ),
            answering=local.answering,
            telemetry=local.telemetry,
            reap_votes=local.upkeep.reap_votes,
            on_owing=local.upkeep.owing.told,
            catalog=CatalogDesk(
                lambda: local.view.catalog.revision, local.namespaces.spread.heard, local.namespaces.spread.receive
            ),
        )
        key_value_service = KeyValueService(
            local.coordinator, local.ring, self._settings.id, traces=TraceIds(1), logs=local.telemetry.logs
        )
        return Member(local, peers, engine, peer_service, key_value_service, failures)


async def peers_incarnation(node: str) -> int | None:
    """Nobody else lives."""
    return None


def puts(pairs: dict[bytes, bytes], **options: Any) -> OperationGroup:
    """A group that puts `pairs`."""
    return OperationGroup(Kind.PUT, "default", list(pairs), list(pairs.values()), **options)


def gets(*keys: bytes, **options: Any) -> OperationGroup:
    """A group that gets `keys`."""
    return OperationGroup(Kind.GET, "default", list(keys), **options)


def request_id(clock: ManualClock, tag: int, *, age_s: float = 0.0) -> bytes:
    """A client's request id, issued `age_s` ago."""
    return (clock.time_ms - int(age_s * 1000)).to_bytes(6, "big") + tag.to_bytes(10, "big")


Options = dict[str, Any]
"""Options of an operation, by their names in `OperationGroup`."""

ONE: Options = {"level": Level.ONE}
QUORUM: Options = {"level": Level.QUORUM}
ALL: Options = {"level": Level.ALL}
LONG: Options = {"timeouts_ms": [3_600_000]}
"""So long that a test which waits for it fails."""
