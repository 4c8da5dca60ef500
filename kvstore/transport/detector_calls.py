"""How failure detectors reach each other: a unary call a message, on a connection of its own to each peer.

Of its own, because one that is shared with records would carry a ping behind megabytes of them, and a node that is only busy would
look dead. What the peer answers at once comes back with the reply. Nothing is sent again and nobody is told what was lost, as with
the datagrams that SWIM was made for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import grpc.aio

from kvproto.v1 import peer_pb2, peer_pb2_grpc
from kvstore.core.membership.messages import Gossip, Message
from kvstore.transport.detector_codec import decode_detector, encode_detector
from kvstore.transport.security import Security

CALLS_MAX = 8
"""To one peer at a time; what is more is lost, as if on its way."""


class DetectorCalls:
    """Sends for node `me`. `channel` opens a `grpc.aio.Channel` to an address; `heard` is told what peers answer."""

    def __init__(
        self,
        me: str,
        cluster_id: str,
        addresses: Mapping[str, str],
        *,
        channel: Callable[[str], Any],
        security: Security,
        timeout_s: float,
    ) -> None:
        self._me = me
        self._cluster_id = cluster_id
        self._addresses = dict(addresses)
        self._open_channel = channel
        self._security = security
        self._timeout_s = timeout_s
        self._channels: dict[str, Any] = {}
        self._methods: dict[str, Any] = {}
        self._versions: dict[str, int] = {}
        self._calls: dict[str, set[asyncio.Task[None]]] = {node: set() for node in addresses}
        self._number = 0
        self.heard: Callable[[str, Message], None] = lambda node, message: None
        self.revision: Callable[[], int] = lambda: 0
        """Of the namespaces that this node goes by: goes with every message."""
        self.on_revision: Callable[[str, int], None] = lambda node, revision: None
        self.sent = 0
        self.lost = 0

    def send(self, node: str, message: Message) -> None:
        """Sends `message` to `node`; whether it arrives is not told."""
        self._begin(node, self._call(node, message))

    def measure(self, node: str, took: Callable[[float], None]) -> None:
        """Calls `took` with the seconds, by the loop's clock, that an empty message to `node` and back takes; never if it is
        lost."""

        async def call() -> None:
            loop = asyncio.get_running_loop()
            started_s = loop.time()
            if await self._call(node, Gossip(())):
                took(loop.time() - started_s)

        self._begin(node, call())

    async def close(self) -> None:
        """Ends every call and connection."""
        calls = [call for node in sorted(self._calls) for call in self._calls[node]]
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        for node in sorted(self._channels):
            await self._channels[node].close(None)

    @property
    def in_flight_count(self) -> int:
        """Calls without an answer."""
        return sum(map(len, self._calls.values()))

    def _begin(self, node: str, work: Any) -> None:
        calls = self._calls[node]
        if len(calls) >= CALLS_MAX:
            work.close()
            self.lost += 1
            return
        self._number += 1
        task = asyncio.get_running_loop().create_task(work, name=f"gossip@{self._me}>{node}/{self._number}")
        calls.add(task)
        task.add_done_callback(calls.discard)

    async def _call(self, node: str, message: Message) -> bool:
        """Whether it was answered."""
        self.sent += 1
        request = encode_detector(self._cluster_id, self._me, message, self.revision())
        gossip = await self._gossip(node)
        try:
            reply: peer_pb2.DetectorReply = await gossip(request, timeout=self._timeout_s)
        except grpc.aio.AioRpcError:
            self.lost += 1
            return False
        self._hear(node, reply.messages)
        return not reply.HasField("error")

    def _hear(self, node: str, messages: Iterable[peer_pb2.DetectorMessage]) -> None:
        for wire in messages:
            message = decode_detector(wire)
            if message is not None and wire.sender == node and wire.cluster_id == self._cluster_id:
                self.on_revision(node, wire.catalog_revision)
                self.heard(node, message)

    async def _gossip(self, node: str) -> Any:
        """The method over the connection to `node`, which is made once. One that was made with other certificates than are in use
        now is replaced, but only between calls: what stands goes on."""
        version = self._security.version()
        channel = self._channels.get(node)
        if channel is None or (version != self._versions[node] and len(self._calls[node]) <= 1):
            self._versions[node] = version
            self._channels[node] = self._open_channel(self._addresses[node])
            self._methods[node] = peer_pb2_grpc.PeerStub(self._channels[node]).Gossip
            if channel is not None:
                await channel.close(None)
        return self._methods[node]
