"""Where peers bring their batches as frames: greets whoever connects, and hands what they ask to the exchange.

Whoever connects says first who he is and whom he means; only who has asked this very process over gRPC can know its incarnation.
A connection that does not say so in time, or sends what is no message, is closed, and of more than `connections_max` the newest:
peers then find the way over gRPC. Plain text, so only where there is no [tls].
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress
from typing import Any

from google.protobuf.message import DecodeError

from kvproto.errors import UserError
from kvproto.options import HANDSHAKE_TIMEOUT_MS, MESSAGE_BYTES_MAX
from kvproto.outbox import Outbox
from kvproto.v1 import peer_pb2
from kvstore.api.exchange import Exchange
from kvstore.config import AUTO, OFF, NodeConfig
from kvstore.config.addresses import split_address
from kvstore.core.transit import Transit
from kvstore.transport.frames import Connection, FrameNet, Listener
from kvstore.transport.hello import Identity

STRANGERS = 8


def connections_max(config: NodeConfig) -> int:
    """How many connections may be open: a peer has one, for a moment two when it dials anew, and whoever has not said who he is
    must leave them room."""
    return 2 * len(config.peers) + STRANGERS


def takes_frames(config: NodeConfig) -> bool:
    """Whether a node with this file takes frames, and dials those of others."""
    return bool(config.peers) and config.tls is None and config.frames != OFF


class FrameServer:
    """Listens at the address of `config`; `port` is 0 until `start`."""

    def __init__(self, net: FrameNet, config: NodeConfig, me: Identity, exchange: Exchange) -> None:
        self._net = net
        self._config = config
        self._me = me
        self._exchange = exchange
        self._listener: Listener | None = None
        self._guests: dict[_Guest, None] = {}
        self._is_stopped = False
        self.port = 0

    async def start(self) -> None:
        """Takes connections. Raises `UserError` where that cannot be had."""
        config = self._config
        at = split_address(config.listen)[0], 0
        if config.frames != AUTO:
            at = split_address(config.frames)
        try:
            self._listener = await self._net.listen(*at, self._accept)
        except OSError as error:
            where, why = f"{at[0]}:{at[1]}", error.strerror or error
            said = f"cannot take frames at {where} ({why}): it is in use, or not an address of this machine"
            raise UserError(said, subject="frames") from error
        self.port = self._listener.port
        if self._is_stopped:
            self._listener.close()

    def stop(self) -> None:
        """Takes no more connections and ends those there are. Idempotent."""
        self._is_stopped = True
        if self._listener is not None:
            self._listener.close()
        for guest in list(self._guests):
            guest.leave()

    def _accept(self, connection: Connection) -> None:
        if len(self._guests) >= connections_max(self._config):
            connection.close()
            return
        self._guests[_Guest(connection, self._me, self._config.peers, self._exchange, self._guests)] = None


class _Guest:
    """One connection that was taken."""

    def __init__(
        self, connection: Connection, me: Identity, peers: Collection[str], exchange: Exchange, guests: dict[_Guest, None]
    ) -> None:
        self._connection = connection
        self._me = me
        self._peers = peers
        self._exchange = exchange
        self._guests = guests
        self._outbox: Outbox[Any] = Outbox(self._write, on_written=self._written)
        self._transit = Transit()
        self._is_held_up = False
        self._patience = asyncio.get_running_loop().call_later(HANDSHAKE_TIMEOUT_MS / 1000, self.leave)
        connection.take, connection.lost = self._greet, self._lost

    def leave(self) -> None:
        """Ends the connection. Idempotent."""
        self._guests.pop(self, None)
        self._patience.cancel()
        self._outbox.abort()
        self._connection.close()

    def _lost(self, reason: str) -> None:
        del reason  # the other side dials anew, and says why in its log
        self.leave()

    def _greet(self, frame: bytes) -> None:
        hello, me = peer_pb2.FramesHello(), self._me
        with suppress(DecodeError):
            hello.ParseFromString(frame)
        if (hello.expects, hello.incarnation) != (me.node_id, me.incarnation) or hello.node_id not in self._peers:
            self.leave()
            return
        self._patience.cancel()
        self._connection.frame_bytes_max = MESSAGE_BYTES_MAX
        self._connection.take = self._take
        self._outbox.send(peer_pb2.FramesHello(node_id=me.node_id, expects=hello.node_id, incarnation=me.incarnation))

    def _take(self, frame: bytes) -> None:
        try:
            request = peer_pb2.PeerRequest.FromString(frame)
        except DecodeError:  # whatever follows would be guesswork
            self.leave()
            return
        self._exchange.take(request, self._transit, self._outbox)
        if not self._outbox.has_room:  # a peer that does not read its replies is not read itself
            self._is_held_up = True
            self._connection.pause()

    async def _write(self, message: Any) -> None:
        await self._connection.write(message.SerializeToString())

    def _written(self, size_bytes: int) -> None:
        del size_bytes
        if self._is_held_up and self._outbox.has_room:
            self._is_held_up = False
            self._connection.resume()
