"""The Peer service: other nodes' greetings, stores, fetches and pages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from kvproto import PROTOCOL
from kvproto.codec import encode_error
from kvproto.errors import KvError, TooLarge, WrongCluster
from kvproto.large_messages import whole
from kvproto.outbox import Outbox
from kvproto.v1 import peer_pb2, peer_pb2_grpc
from kvstore.api.exchange import Exchange, Replies
from kvstore.api.malformed import refuse
from kvstore.cluster.view import RingHolder
from kvstore.core.catalog.encoding import CATALOG_BYTES_MAX
from kvstore.core.membership.messages import Message
from kvstore.core.transit import Transit
from kvstore.repair.answering import Answering
from kvstore.repair.reap_votes import ReapVotes
from kvstore.storage.replica import Replica
from kvstore.telemetry.node import Telemetry
from kvstore.transport.codec import decode_reap_question
from kvstore.transport.compare_codec import decode_question, encode_reply
from kvstore.transport.detector_codec import decode_detector, encode_detector
from kvstore.transport.hello import Doorkeeper, Greeting
from kvstore.transport.parts import PART_BYTES_MAX
from kvstore.transport.security import PlainText, Security

END: Any = vars(grpc.aio)["EOF"]  # the type stubs do not know it
SETTINGS_BYTES_MAX = 1024 * 1024
"""Of the cluster settings in a greeting, which are compared one by one on the event loop."""


async def _nothing_newer(_revision: int, _data: bytes) -> tuple[int, bytes]:
    return 0, b""


@dataclass(frozen=True, slots=True)
class CatalogDesk:
    """What is known here of the namespaces made at run time: the `revision` gone by, and who takes in what others know
    (cluster/catalog_spread.py)."""

    revision: Callable[[], int] = lambda: 0
    heard: Callable[[str, int], None] = lambda node, revision: None
    receive: Callable[[int, bytes], Awaitable[tuple[int, bytes]]] = _nothing_newer


class PeerService(peer_pb2_grpc.PeerServicer):
    """Decodes, hands to the replica, encodes. Every method is for nodes only, as far as certificates tell (`security`)."""

    def __init__(
        self,
        replica: Replica,
        ring: RingHolder,
        doorkeeper: Doorkeeper,
        *,
        exchange: Exchange,
        answering: Answering,
        telemetry: Telemetry,
        reap_votes: ReapVotes,
        ports: Callable[[], tuple[int, int]] = lambda: (0, 0),
        detector: Callable[[str, Message], list[Message]] = lambda sender, message: [],
        on_greeted: Callable[[str], None] = lambda node: None,
        on_owing: Callable[[str, Sequence[int]], None] = lambda node, partitions: None,
        on_remembered: Callable[[bytes, int], None] = lambda actor, lease: None,
        lived: Callable[[], tuple[int, int]] = lambda: (0, 0),
        catalog: CatalogDesk | None = None,
        security: Security | None = None,
    ) -> None:
        """`detector` takes what another node's failure detector says, and gives what it is answered at once; `on_greeted` is told
        who was admitted, `on_owing` of which partitions somebody has undelivered hints, `on_remembered` what it remembers of our
        leases: before it works with us, also where we cannot reach it. `ports` are those of gRPC and of frames (0: we take none),
        `lived` gives the wall time, and until when we are known to
        have been alive (repair/absence.py)."""
        self._lived = lived
        self._catalog = catalog or CatalogDesk()
        self._on_remembered = on_remembered
        self._detector = detector
        self._security = security or PlainText()
        self._logs = telemetry.logs
        self._replica = replica
        self.exchange = exchange
        self._ports = ports
        self._reap_votes = reap_votes
        self._answering = answering
        self._ring = ring
        self._doorkeeper = doorkeeper
        self._on_greeted = on_greeted
        self._on_owing = on_owing

    async def Hello(self, request: peer_pb2.HelloRequest, context: Any) -> peer_pb2.HelloReply:
        """Who we are, what we remember of the asker, and whether we work with it."""
        stranger = self._security.why_not_peer(context, request.node_id)
        if stranger is not None:  # is told nothing about us
            return peer_pb2.HelloReply(protocol=PROTOCOL, error=encode_error(stranger))
        if len(request.settings) > SETTINGS_BYTES_MAX:
            said = f"settings of {len(request.settings)} bytes, at most {SETTINGS_BYTES_MAX} are looked at"
            refused = TooLarge(said, limit=SETTINGS_BYTES_MAX, actual=len(request.settings), subject="settings")
            return peer_pb2.HelloReply(error=encode_error(refused))
        remembered = self._doorkeeper.leases.get(request.node_id)
        refusal = await self._doorkeeper.admit(
            Greeting(
                cluster_id=request.cluster_id,
                node_id=request.node_id,
                incarnation=request.incarnation,
                settings=request.settings,
                advertise=request.advertise,
                expects=request.expects,
                actor=request.actor,
                lease=request.lease,
                protocol=request.protocol,
            )
        )
        me, ring = self._doorkeeper.me, self._ring.view.ring
        reply = peer_pb2.HelloReply(
            node_id=me.node_id,
            incarnation=me.incarnation,
            protocol=1,
            ring_epoch=ring.epoch,
            ring_hash=ring.hash,
            zone=me.zone,
            advertise=me.advertise,
        )
        reply.listen_port, reply.frames_port = self._ports()
        if refusal is not None:
            self._logs.tell("warning", "peer_turned_away", peer=request.node_id, code=refusal.code.name, reason=refusal.message)
            reply.error.CopyFrom(encode_error(refusal))
        else:
            if remembered is not None:
                reply.remembered_actor, reply.remembered_lease = remembered
            reply.now_ms, reply.lived_ms = self._lived()
            reply.catalog_revision = self._catalog.revision()
            if request.node_id != me.node_id:
                self._on_remembered(request.remembered_actor, request.remembered_lease)
                self._on_greeted(request.node_id)
                self._catalog.heard(request.node_id, request.catalog_revision)
        return reply

    async def Exchange(self, request_iterator: Any, context: Any) -> None:
        """Batches, each answered in parts (exchange.py). A peer that does not read its replies is not read itself."""
        stranger = self._security.why_not_peer(context)
        if stranger is not None:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, stranger.message)
        outbox: Replies = Outbox(lambda reply: context.write(whole(reply)))
        malformed: list[DecodeError] = []
        reader = asyncio.get_running_loop().create_task(self._read(context, outbox, malformed), name="peer-reader")
        try:
            await outbox.written()
        finally:
            outbox.abort()
            reader.cancel()
        if malformed:
            await refuse(context)

    async def Page(self, request: peer_pb2.PageRequest, context: Any) -> peer_pb2.PageReply:
        """One page of what we hold."""
        refusal = self._security.why_not_peer(context) or self.exchange.why_stale(request.ring_epoch, request.ring_hash)
        if refusal is not None:
            return peer_pb2.PageReply(error=encode_error(refusal))
        try:
            page = await self._replica.page(
                request.namespace,
                request.start,
                request.end,
                max(1, request.count_max),
                min(max(1, request.bytes_max), PART_BYTES_MAX),
            )
        except KvError as error:
            return peer_pb2.PageReply(error=encode_error(error))
        return peer_pb2.PageReply(keys=page.keys, records=page.records, more=page.more, lost=page.lost, rebuilding=page.rebuilding)

    async def Compare(self, request: peer_pb2.CompareRequest, context: Any) -> peer_pb2.CompareReply:
        """One answer about what we hold, for a peer that looks for differences."""
        refusal = self._security.why_not_peer(context) or self.exchange.why_stale(request.ring_epoch, request.ring_hash)
        if refusal is not None:
            return peer_pb2.CompareReply(error=encode_error(refusal))
        try:
            return encode_reply(await self._answering.answer(decode_question(request), request.asker, urgent=request.urgent))
        except KvError as error:
            return peer_pb2.CompareReply(error=encode_error(error))

    async def Reap(self, request: peer_pb2.ReapRequest, context: Any) -> peer_pb2.ReapReply:
        """What we say to the end of tombstones."""
        refusal = (
            self._security.why_not_peer(context)
            or self.exchange.why_stale(request.ring_epoch, request.ring_hash)
            or self._replica.why_misplaced(request.store_keys)
        )
        if refusal is not None:
            return peer_pb2.ReapReply(error=encode_error(refusal))
        try:
            answer = await self._reap_votes.answer(decode_reap_question(request))
        except KvError as error:
            return peer_pb2.ReapReply(error=encode_error(error))
        return peer_pb2.ReapReply(against=answer.against, now_ms=answer.now_ms, stamp=answer.stamp)

    async def Owe(self, request: peer_pb2.OweRequest, context: Any) -> peer_pb2.OweReply:
        """What a peer has not handed over yet."""
        refusal = self._security.why_not_peer(context, request.node_id)
        if refusal is not None:
            return peer_pb2.OweReply(error=encode_error(refusal))
        count = self._ring.view.ring.partitions
        self._on_owing(request.node_id, [partition for partition in request.partitions if partition < count])
        return peer_pb2.OweReply()

    async def Gossip(self, request: peer_pb2.DetectorMessage, context: Any) -> peer_pb2.DetectorReply:
        """What the sender's failure detector says, and what ours answers at once."""
        me = self._doorkeeper.me
        refusal = self._security.why_not_peer(context, request.sender)
        if refusal is None and request.cluster_id != me.cluster.id:
            refusal = WrongCluster(f"node {me.node_id} belongs to another cluster", subject=me.cluster.id)
        if refusal is not None:
            return peer_pb2.DetectorReply(error=encode_error(refusal))
        self._catalog.heard(request.sender, request.catalog_revision)
        message = decode_detector(request)
        answers = [] if message is None else self._detector(request.sender, message)
        revision = self._catalog.revision()
        return peer_pb2.DetectorReply(messages=[encode_detector(me.cluster.id, me.node_id, answer, revision) for answer in answers])

    async def Catalog(self, request: peer_pb2.CatalogRequest, context: Any) -> peer_pb2.CatalogReply:
        """The namespaces that the sender goes by, for those that are newer here."""
        me = self._doorkeeper.me
        refusal = self._security.why_not_peer(context, request.sender)
        if refusal is None and request.cluster_id != me.cluster.id:
            refusal = WrongCluster(f"node {me.node_id} belongs to another cluster", subject=me.cluster.id)
        if refusal is None and len(request.catalog) > CATALOG_BYTES_MAX:
            said = f"a list of namespaces of {len(request.catalog)} bytes"
            refusal = TooLarge(said, limit=CATALOG_BYTES_MAX, actual=len(request.catalog), subject="catalog")
        try:
            if refusal is not None:
                raise refusal
            revision, newer = await self._catalog.receive(request.revision, request.catalog)
        except KvError as error:
            return peer_pb2.CatalogReply(error=encode_error(error))
        return peer_pb2.CatalogReply(revision=revision, catalog=newer)

    async def _read(self, context: Any, outbox: Replies, malformed: list[DecodeError]) -> None:
        transit = Transit()
        try:
            while (request := await context.read()) is not END:
                self.exchange.take(request, transit, outbox)
                await outbox.room()
        except DecodeError as error:  # whatever follows would be guesswork: the stream ends here
            malformed.append(error)
        finally:
            outbox.close()
