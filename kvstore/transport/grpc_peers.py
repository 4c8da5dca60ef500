"""The peer transport: dials every peer, greets it over gRPC, keeps one stream for batches open, dials again when it breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio

from kvproto import PROTOCOL
from kvproto.admin_codec import decode_status
from kvproto.codec import decode_error, decode_replies, encode_batch
from kvproto.columns import GroupReply, NodeStatus, OperationGroup
from kvproto.errors import AvailabilityError, DeadlineExceeded, KvError, TlsError
from kvproto.steady import FarClock
from kvproto.v1 import admin_pb2, admin_pb2_grpc, key_value_pb2_grpc, peer_pb2, peer_pb2_grpc
from kvstore.core.merkle.questions import Question, Reply
from kvstore.core.page import Page
from kvstore.runtime import Clock
from kvstore.telemetry import log
from kvstore.telemetry.meters import LinkMeter, Timer
from kvstore.transport.codec import decode_page, decode_reap, encode_reap
from kvstore.transport.compare_codec import decode_reply, encode_question
from kvstore.transport.hello import Identity
from kvstore.transport.peer_link import PeerLink, RoundTrip
from kvstore.transport.peer_streams import FrameDials, FrameStream, GrpcStream, Stream
from kvstore.transport.peers import FetchChunk, ReapAnswer, ReapQuestion, RegisterChunk, StoreChunk
from kvstore.transport.security import Security

HELLO_TIMEOUT_S = 1.0
REDIAL_S = 0.2
REFUSED_REDIAL_S = 2.0
EXPLAIN_EVERY_S = 1.0
FRAMES_SOON_S, FRAMES_SOUGHT_S = 0.2, 10.0
"""A link that came up without them looks for frames so much later, and then so often."""
REPLACE_TIMEOUT_S = 1.0
"""For what is on its way over gRPC when frames are had after all."""


async def _at_once() -> None:
    """Nothing has to be noted."""


class GrpcPeers:
    """Implements `PeerTransport`; `frames` is the cheaper way for batches, where there is one. `ring_of` gives (epoch, hash) as of
    now, `channel` a `grpc.aio.Channel` to an address, `meter` the counters of one link; `on_round_trip` is told of each batch,
    `on_down` of a link that broke; in `advertised` stands what peers that were greeted say of where clients reach them. When
    `security` has other certificates than before, a link that is down is dialled with a new channel; one that stands goes on.
    `on_remembered` is told what each peer remembers of our leases, before that peer is told of newer ones: not before `noted`
    returns. `remembered` is what we remember of theirs; `on_lived` is told the wall time at each peer that answers, and until when
    it has lived. `revision` is the version of the namespaces that we go by; `on_revision` is told that of each peer that
    answers."""

    def __init__(
        self,
        identity: Identity,
        addresses: Mapping[str, str],
        *,
        clock: Clock,
        ring_of: Callable[[], tuple[int, int]],
        channel: Callable[[str], Any],
        security: Security,
        frames: FrameDials | None = None,
        meter: Callable[[], LinkMeter | None] = lambda: None,
        timer: Timer | None = None,
        on_round_trip: RoundTrip | None = None,
        on_up: Callable[[str], None] = lambda node: None,
        on_down: Callable[[str], None] = lambda node: None,
        advertised: dict[str, str] | None = None,
        on_remembered: Callable[[bytes, int], None] = lambda actor, lease: None,
        noted: Callable[[], Awaitable[None]] = _at_once,
        remembered: Callable[[str], tuple[bytes, int] | None] = lambda node: None,
        on_lived: Callable[[str, int, int], None] = lambda node, now_ms, lived_ms: None,
        revision: Callable[[], int] = lambda: 0,
        on_revision: Callable[[str, int], None] = lambda node, revision: None,
    ) -> None:
        self._revision = revision
        self._on_revision = on_revision
        self._on_lived = on_lived
        self._on_remembered = on_remembered
        self._noted = noted
        self._remembered = remembered
        self._heard: set[str] = set()
        self._identity = identity
        self._clock = clock
        self._ring_of = ring_of
        self._advertised = {} if advertised is None else advertised
        self._addresses = dict(addresses)
        self._open_channel = channel
        self._security = security
        self._frames = frames or FrameDials(identity, addresses, {}, None)
        self._channels = {node: channel(address) for node, address in addresses.items()}
        self._versions = dict.fromkeys(addresses, security.version())
        self._faults: dict[str, str] = {}
        self._explained_s = dict.fromkeys(addresses, -EXPLAIN_EVERY_S)
        self._on_up = on_up
        self._on_down = on_down
        self._links = {
            node: PeerLink(node, clock=clock, ring_of=ring_of, meter=meter(), timer=timer, on_round_trip=on_round_trip)
            for node in addresses
        }
        self._far = {node: FarClock() for node in addresses}
        self._tasks: list[asyncio.Task[None]] = []
        self._greeted_by = {node: asyncio.Event() for node in addresses}
        self._opened = asyncio.Event()
        self._closing = False

    def start(self) -> None:
        """Begins to dial; the tasks are named after their peer and end with `close`."""
        for node in sorted(self._links):
            self._tasks.append(asyncio.get_running_loop().create_task(self._keep_open(node), name=f"link@{node}"))

    async def close(self) -> None:
        """Ends every link; what is in flight is answered with an error."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for channel in self._channels.values():
            await channel.close(None)

    async def wait_open(self, nodes: Sequence[str], timeout_s: float) -> None:
        """Returns when the links to `nodes` are up, or after `timeout_s`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not all(self._links[node].is_up for node in nodes):
                    self._opened.clear()
                    await self._opened.wait()

    def greeted_by(self, node: str) -> None:
        """`node` has just greeted us, so it is there: it is dialled now and not when the next attempt is due."""
        if not self._links[node].is_up:
            self._greeted_by[node].set()

    # --- PeerTransport

    def store(self, chunk: StoreChunk) -> None:
        """Sends records; `chunk.answered` is called once."""
        self._links[chunk.node].submit(chunk)

    def fetch(self, chunk: FetchChunk) -> None:
        """Asks for what differs; `chunk.answered` is called once."""
        self._links[chunk.node].submit(chunk)

    def register(self, chunk: RegisterChunk) -> None:
        """Asks the acceptor of a peer; `chunk.answered` is called once."""
        self._links[chunk.node].submit(chunk)

    async def page(
        self, node: str, namespace: int, start: bytes, end: bytes, count_max: int, bytes_max: int, timeout_s: float
    ) -> Page:
        """One page of what `node` holds."""
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
        stub = peer_pb2_grpc.PeerStub(self._channels[node])
        return decode_page(await self._call(node, stub.Page(request, timeout=timeout_s)))

    async def compare(self, node: str, question: Question, timeout_s: float, *, urgent: bool = False) -> Reply:
        """Asks `node` one question of anti-entropy."""
        epoch, ring_hash = self._ring_of()
        me, sent_ms = self._identity.node_id, self._clock.now_ms()
        request = encode_question(question, epoch=epoch, ring_hash=ring_hash, sent_ms=sent_ms, asker=me, urgent=urgent)
        stub = peer_pb2_grpc.PeerStub(self._channels[node])
        return decode_reply(question, await self._call(node, stub.Compare(request, timeout=timeout_s)))

    async def forward(self, node: str, group: OperationGroup, timeout_s: float, trace: bytes = b"") -> list[GroupReply]:
        """Has `node` coordinate `group`."""
        epoch, _ = self._ring_of()
        now_s, far, ahead_ms = asyncio.get_running_loop().time, self._far[node], group.ids_ahead_ms
        request = encode_batch(
            1,
            [group],
            cluster_id=self._identity.cluster.id,
            ring_epoch=epoch,
            hops=1,
            trace_id=trace,
            sent_ms=0 if ahead_ms is None else max(0, int(now_s() * 1000) + ahead_ms),
            receiver_ms=far.at_least_ms(now_s()),
        )
        stub = key_value_pb2_grpc.KeyValueStub(self._channels[node])
        reply = await self._call(node, stub.Batch(request, timeout=max(0.001, timeout_s)))
        far.heard(reply.now_ms, now_s())
        return decode_replies(reply)

    async def reap(self, node: str, question: ReapQuestion, timeout_s: float) -> ReapAnswer:
        """What `node` says to the end of tombstones."""
        epoch, ring_hash = self._ring_of()
        request = encode_reap(question, epoch=epoch, ring_hash=ring_hash)
        stub = peer_pb2_grpc.PeerStub(self._channels[node])
        return decode_reap(await self._call(node, stub.Reap(request, timeout=timeout_s)))

    async def owe(self, node: str, partitions: Collection[int], timeout_s: float) -> None:
        """Tells `node` of which partitions we have undelivered hints."""
        request = peer_pb2.OweRequest(node_id=self._identity.node_id, partitions=sorted(partitions))
        reply = await self._call(node, peer_pb2_grpc.PeerStub(self._channels[node]).Owe(request, timeout=timeout_s))
        if reply.HasField("error"):
            raise decode_error(reply.error)

    async def catalog(self, node: str, revision: int, data: bytes, timeout_s: float) -> tuple[int, bytes]:
        """Tells `node` which namespaces we go by; what is newer there."""
        me = self._identity
        request = peer_pb2.CatalogRequest(cluster_id=me.cluster.id, sender=me.node_id, revision=revision, catalog=data)
        stub = peer_pb2_grpc.PeerStub(self._channels[node])
        reply: peer_pb2.CatalogReply = await self._call(node, stub.Catalog(request, timeout=timeout_s))
        if reply.HasField("error"):
            raise decode_error(reply.error)
        return reply.revision, reply.catalog

    async def status(self, node: str, timeout_s: float) -> NodeStatus:
        """The peer's own numbers."""
        stub = admin_pb2_grpc.AdminStub(self._channels[node])
        return decode_status(await self._call(node, stub.Status(admin_pb2.StatusRequest(), timeout=timeout_s)))

    def reachable(self, node: str) -> bool:
        """Whether the link to `node` is up."""
        link = self._links.get(node)
        return link is not None and link.is_up

    def lag_s(self, node: str) -> float:
        """How long `node` has owed an answer."""
        return self._links[node].lag_s()

    def queued(self, node: str) -> int:
        """Operations that wait for the next message to `node`."""
        return self._links[node].queued_count

    @property
    def links(self) -> Mapping[str, PeerLink]:
        """The link to each peer, by its id; for whoever reads their counters."""
        return self._links

    def states(self) -> tuple[tuple[str, str, int], ...]:
        """(id, state, queued operations) of every peer."""
        return tuple((node, "alive" if link.is_up else "dead", link.queued_count) for node, link in sorted(self._links.items()))

    def check(self) -> None:
        """Asserts the invariants of every link; for tests and simulation."""
        for link in self._links.values():
            link.check()

    # --- greeting

    async def hello(self, node: str) -> peer_pb2.HelloReply:
        """Greets `node`; raises what it refuses us for, `TlsError` or `AvailabilityError` when it cannot be asked."""
        me, (epoch, ring_hash) = self._identity, self._ring_of()
        request = peer_pb2.HelloRequest(
            cluster_id=me.cluster.id,
            node_id=me.node_id,
            incarnation=me.incarnation,
            protocol=PROTOCOL,
            ring_epoch=epoch,
            ring_hash=ring_hash,
            settings=me.settings,
            advertise=me.advertise,
            zone=me.zone,
            expects=node,
            catalog_revision=self._revision(),
        )
        if node in self._heard:  # what it remembers is replaced by this, so we ask first
            request.actor, request.lease = me.actor, me.lease
        remembered = self._remembered(node)
        if remembered is not None:
            request.remembered_actor, request.remembered_lease = remembered
        try:
            reply: peer_pb2.HelloReply = await self._call(
                node, peer_pb2_grpc.PeerStub(self._channels[node]).Hello(request, timeout=HELLO_TIMEOUT_S)
            )
        except DeadlineExceeded:
            raise
        except AvailabilityError as error:
            fault = await self._explain(node)
            if fault is not None:
                raise fault from error
            raise
        if reply.HasField("error"):
            raise decode_error(reply.error)
        if reply.advertise:
            self._advertised[node] = reply.advertise
        self._heard.add(node)
        self._on_lived(node, reply.now_ms, reply.lived_ms)
        self._on_revision(node, reply.catalog_revision)
        self._on_remembered(reply.remembered_actor, reply.remembered_lease)
        if self._links[node].is_up:
            self._on_up(node)  # to whom we say hello we seem to have been away
        return reply

    async def hello_all(self) -> dict[str, peer_pb2.HelloReply | KvError]:
        """Greets every peer side by side; what each said."""

        async def ask(node: str) -> peer_pb2.HelloReply | KvError:
            try:
                return await self.hello(node)
            except KvError as error:
                return error

        nodes = sorted(self._links)
        return dict(zip(nodes, await asyncio.gather(*map(ask, nodes)), strict=True))

    async def incarnation_of(self, node: str) -> int | None:
        """Which process answers at the configured address of `node`; None if none does."""
        try:
            return (await self.hello(node)).incarnation
        except KvError:
            return None

    # --- one stream

    async def _keep_open(self, node: str) -> None:
        link = self._links[node]
        while True:
            pause_s = REDIAL_S
            try:
                if node not in self._heard:
                    await self.hello(node)
                    await self._noted()
                said = await self.hello(node)
                self._far[node] = FarClock()  # a machine that was started anew begins to count anew
                await self._run_stream(node, link, said)
            except AvailabilityError:
                pass
            except TlsError as error:  # to those who wait for an answer the peer is just not there
                if self._faults.get(node) != error.message:
                    self._faults[node] = error.message
                    log.error("peer_refused", peer=node, reason=error.message)
            except KvError as error:
                if link.refused is None or link.refused.message != error.message:
                    log.error("peer_refused", peer=node, reason=error.message)
                link.refused = error
                pause_s = REFUSED_REDIAL_S
            if self._closing:
                return  # a cancellation that meets the stream's own end is told as that end: grpc.aio swallows it
            greeted = await self._is_greeted_within(node, pause_s)
            version = self._security.version()
            if greeted or version != self._versions[node]:
                # A channel that failed waits longer and longer before it connects again, a second in the end; and it keeps the
                # certificates it was made with.
                self._versions[node] = version
                await self._channels[node].close(None)
                self._channels[node] = self._open_channel(self._addresses[node])

    async def _is_greeted_within(self, node: str, pause_s: float) -> bool:
        greeted = self._greeted_by[node]
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await greeted.wait()
        is_greeted = greeted.is_set()
        greeted.clear()
        return is_greeted

    async def _run_stream(self, node: str, link: PeerLink, said: peer_pb2.HelloReply) -> None:
        frames, why_not = None, self._frames.why_not_now(node)
        if not why_not:
            frames, why_not = await self._frames.open(node, said)
        stream: Stream = frames or GrpcStream(peer_pb2_grpc.PeerStub(self._channels[node]).Exchange())
        reason = "closed the connection"
        link.up(stream)
        link.over = stream.over
        self._faults.pop(node, None)
        self._opened.set()
        self._on_up(node)
        log.info("peer_up", peer=node, over=stream.over, **({"reason": why_not} if why_not else {}))
        better: list[FrameStream] = []
        seeking = None
        if why_not and self._frames.address_of(node, said):
            seeking = asyncio.get_running_loop().create_task(
                self._seek_frames(node, link, said, stream, better), name=f"frames@{node}"
            )
        try:
            reason = await stream.read(link.receive)
            if better:
                log.info("peer_frames", peer=node)
                reason = await better[0].read(link.receive)
        except ValueError as error:
            reason = f"sent a reply that does not add up ({error})"
        finally:
            if seeking is not None:
                seeking.cancel()
            for one in (stream, *better):
                one.close()
            link.down(reason)
            log.info("peer_down", peer=node, reason=reason)
            self._on_down(node)

    async def _seek_frames(
        self, node: str, link: PeerLink, said: peer_pb2.HelloReply, stream: Stream, better: list[FrameStream]
    ) -> None:
        """Tries again and again to have frames for the life of a link that is up without them, and puts them in the place of its
        `stream`, into `better`: what kept them from being had may have been a moment."""
        pause_s = FRAMES_SOON_S
        while not better:
            await asyncio.sleep(pause_s)
            pause_s = FRAMES_SOUGHT_S
            frames, _ = await self._frames.open(node, said)
            if frames is None:
                continue
            try:
                if await link.replace(frames, frames.over, REPLACE_TIMEOUT_S):
                    better.append(frames)
            finally:
                if not better:
                    frames.close()
        stream.close()

    async def _call(self, node: str, call: Any) -> Any:
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise DeadlineExceeded(f"{node} did not answer in time", may_have_applied=True, subject=node) from error
            raise AvailabilityError(f"{node} is unreachable: {error.details()}", may_have_applied=True, subject=node) from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # The channel was closed under it, for a new one: whoever asks goes on, and is not to be ended by that.
            raise AvailabilityError(f"the connection to {node} was closed", may_have_applied=True, subject=node) from None

    async def _explain(self, node: str) -> TlsError | None:
        """What keeps TLS from connecting to a peer; not asked at each attempt, and not while the link is up."""
        now_s = asyncio.get_running_loop().time()
        if self._links[node].is_up or now_s - self._explained_s[node] < EXPLAIN_EVERY_S:
            return None
        self._explained_s[node] = now_s
        return await self._security.explain(self._addresses[node])
