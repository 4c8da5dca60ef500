"""Where peers and clients bring their batches as frames: greets whoever connects, and hands over what they ask.

Whoever connects says first who he is and whom he means; only who has asked this very process over gRPC can know its incarnation.
A connection that does not say so in time, or sends what is no message, is closed, and of more than may be open the newest: that
one finds the way over gRPC. Plain text, so only where there is no [tls].

A client's connection is to KeyValue what a stream over gRPC is: the same service answers it, by the same bounds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import Any

from google.protobuf.message import DecodeError

from kvproto.errors import UserError
from kvproto.frames import Connection, FrameNet, Listener
from kvproto.greeting import decode_hello
from kvproto.large_messages import write_frame
from kvproto.options import HANDSHAKE_TIMEOUT_MS, MESSAGE_BYTES_MAX
from kvproto.outbox import Outbox
from kvproto.v1 import key_value_pb2, peer_pb2
from kvstore.api.exchange import Exchange
from kvstore.api.key_value import KeyValueService
from kvstore.config import AUTO, OFF, NodeConfig
from kvstore.config.addresses import split_address
from kvstore.core.transit import Transit
from kvstore.transport.hello import Identity

STRANGERS = 8
AHEAD_MAX = 1
"""So many requests of a client are taken before they are asked for."""


def connections_max(config: NodeConfig) -> int:
    """How many connections of peers may be open, and of those who have not said who they are: a peer has one, for a moment two when
    it dials anew, and strangers must leave them room."""
    return 2 * len(config.peers) + STRANGERS


def takes_frames(config: NodeConfig) -> bool:
    """Whether a node with this file takes frames, and dials those of others."""
    return config.tls is None and config.frames != OFF


class FrameServer:
    """Listens at the address of `config`; `port` is 0 until `start`. Of clients it has `clients_max`."""

    def __init__(
        self,
        net: FrameNet,
        config: NodeConfig,
        me: Identity,
        exchange: Exchange,
        key_value: KeyValueService,
        *,
        clients_max: int,
    ) -> None:
        self.me = me
        self.exchange = exchange
        self.key_value = key_value
        self.guests: dict[_Guest, None] = {}
        self.port = 0
        self._net = net
        self._config = config
        self._clients_max = clients_max
        self._listener: Listener | None = None
        self._is_stopped = False

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
        for guest in list(self.guests):
            guest.leave()

    def admits(self, node_id: str) -> bool:
        """Whether somebody who says so of himself may stay."""
        return node_id in self._config.peers if node_id else self._clients() < self._clients_max

    def _accept(self, connection: Connection) -> None:
        if len(self.guests) - self._clients() >= connections_max(self._config):
            connection.close()
            return
        self.guests[_Guest(self, connection)] = None

    def _clients(self) -> int:
        return sum([guest.is_client for guest in self.guests])


class _Guest:
    """One connection that was taken, until it is known whose it is."""

    def __init__(self, server: FrameServer, connection: Connection) -> None:
        self.connection = connection
        self._server = server
        self._patience = asyncio.get_running_loop().call_later(HANDSHAKE_TIMEOUT_MS / 1000, self.leave)
        self._host: _PeerHost | _ClientHost | None = None
        connection.take, connection.lost = self._greet, self._lost

    @property
    def is_client(self) -> bool:
        """Whether it has said that it is no node."""
        return isinstance(self._host, _ClientHost)

    def leave(self) -> None:
        """Ends the connection. Idempotent."""
        self._server.guests.pop(self, None)
        self._patience.cancel()
        if self._host is not None:
            self._host.end()
        self.connection.close()

    def _lost(self, reason: str) -> None:
        del reason  # the other side dials anew, and says why in its log
        self.leave()

    def _greet(self, frame: bytes) -> None:
        hello, server = decode_hello(frame), self._server
        me = server.me
        if (hello.expects, hello.incarnation) != (me.node_id, me.incarnation) or not server.admits(hello.node_id):
            self.leave()
            return
        self._patience.cancel()
        self.connection.frame_bytes_max = MESSAGE_BYTES_MAX
        welcome = key_value_pb2.FramesHello(node_id=me.node_id, expects=hello.node_id, incarnation=me.incarnation)
        if hello.node_id:
            self._host = _PeerHost(self, server.exchange, welcome)
        else:
            self._host = _ClientHost(self, server.key_value, welcome)


class _PeerHost:
    """The exchange, to one peer."""

    def __init__(self, guest: _Guest, exchange: Exchange, welcome: key_value_pb2.FramesHello) -> None:
        self._guest = guest
        self._connection = guest.connection
        self._exchange = exchange
        self._outbox: Outbox[Any] = Outbox(partial(write_frame, guest.connection), on_written=self._written)
        self._transit = Transit()
        self._is_held_up = False
        self._connection.take = self._take
        self._outbox.send(welcome)

    def end(self) -> None:
        """Says nothing more."""
        self._outbox.abort()

    def _take(self, frame: bytes) -> None:
        try:
            request = peer_pb2.PeerRequest.FromString(frame)
        except DecodeError:  # whatever follows would be guesswork
            self._guest.leave()
            return
        self._exchange.take(request, self._transit, self._outbox)
        if not self._outbox.has_room:  # a peer that does not read its replies is not read itself
            self._is_held_up = True
            self._connection.pause()

    def _written(self, size_bytes: int) -> None:
        del size_bytes
        if self._is_held_up and self._outbox.has_room:
            self._is_held_up = False
            self._connection.resume()


class _ClientHost:
    """What the KeyValue service is shown instead of gRPC's context of a stream."""

    takes_large_messages = True

    def __init__(self, guest: _Guest, key_value: KeyValueService, welcome: key_value_pb2.FramesHello) -> None:
        self._guest = guest
        self._connection = guest.connection
        self._frames: deque[bytes] = deque()
        self._wanted: asyncio.Future[None] | None = None
        self.read_bytes = 0
        """What the request that was read last took on its way."""
        self._connection.take = self._take
        self._task = asyncio.get_running_loop().create_task(self._serve(key_value, welcome), name="frames-of-a-client")

    def end(self) -> None:
        """What is under way for it is given up, as gRPC does when a client is gone."""
        self._task.cancel()

    # --- what the service asks of a context

    def peer(self) -> str:
        """Whose connection it is."""
        return self._connection.peer

    async def read(self) -> Any:
        """The next request. Raises `DecodeError`."""
        if not self._frames:
            self._connection.resume()
        if not self._frames:  # nothing was held back either
            self._wanted = asyncio.get_running_loop().create_future()
            await self._wanted
        frame = self._frames.popleft()
        self.read_bytes = len(frame)
        return key_value_pb2.BatchRequest.FromString(frame)

    async def write(self, message: Any) -> None:
        """Sends a reply, which may be a `LargeMessage`."""
        await write_frame(self._connection, message)

    async def abort(self, code: Any, reason: str) -> None:
        """The connection ends with the service's return; the client learns the reason over gRPC, from the next answer there."""
        del code, reason

    async def _serve(self, key_value: KeyValueService, welcome: key_value_pb2.FramesHello) -> None:
        try:
            await self._connection.write(welcome.SerializeToString())
            await key_value.Exchange(None, self)
        finally:
            self._guest.leave()

    def _take(self, frame: bytes) -> None:
        self._frames.append(frame)
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)
        elif len(self._frames) > AHEAD_MAX:
            self._connection.pause()  # what is not asked for stays in the socket
