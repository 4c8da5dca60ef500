"""The two ways in which batches travel to a peer and their replies back: as frames, and as a gRPC stream where that cannot be.

Both carry the very same messages. Frames cost half as much, but they need a port of their own and are plain text; so what nodes say
to each other otherwise, and their first word, is gRPC, and what a peer says in it (`HelloReply`) tells whether it takes frames and
where. A node behind another port than its own, because of a proxy or address translation, is only dialled where we were told to
(`[peer_frames]`): nothing goes past what somebody has put in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from kvproto.frames import Connection, FrameNet
from kvproto.greeting import address_of_frames, dial_frames
from kvproto.large_messages import whole, write_frame
from kvproto.outbox import Outbox
from kvproto.v1 import peer_pb2
from kvstore.transport.codec import Request
from kvstore.transport.hello import Identity
from kvstore.transport.peers import FRAMES, GRPC

DIAL_TIMEOUT_S = 0.5
"""Whoever has answered a Hello and takes no frames within this time is worked with over gRPC, until he does."""
END: Any = vars(grpc.aio)["EOF"]  # the type stubs do not know it

Receive = Callable[[peer_pb2.PeerReply], None]
"""Takes a reply. Raises `ValueError` for one that does not add up: the stream ends."""


class Stream(Protocol):
    """An open stream to one peer (also: peer_link.PeerStream)."""

    over: str
    """`GRPC` or `FRAMES`."""

    def send(self, message: Request) -> None:
        """Queues a message."""

    async def read(self, receive: Receive) -> str:
        """Hands every reply to `receive` until the stream ends; why it did. Raises `ValueError` of `receive`."""

    def close(self) -> None:
        """Ends it, whatever is under way."""


class GrpcStream:
    """An `Exchange` call."""

    over = GRPC

    def __init__(self, call: Any) -> None:
        self._call = call
        # What a write raises needs no telling: the reader sees the same end, and says why.
        self._outbox: Outbox[Request] = Outbox(lambda message: call.write(whole(message)))
        self.send = self._outbox.send

    async def read(self, receive: Receive) -> str:
        """See `Stream.read`."""
        call = self._call
        try:
            while (message := await call.read()) is not END:
                receive(message)
        except grpc.aio.AioRpcError as error:
            return f"is unreachable ({error.code().name.lower()})"
        except asyncio.CancelledError:
            # grpc.aio says so too when it is the peer that cancelled the stream, which a stopping server does.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return "ended the stream"
        return "closed the connection"

    def close(self) -> None:
        """See `Stream.close`."""
        self._outbox.abort()
        self._call.cancel()


class FrameStream:
    """A connection that was greeted. What comes before somebody reads it stays where it is: a stream that takes the place of
    another is written to before the reader of that one has come over."""

    over = FRAMES

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._outbox: Outbox[Request] = Outbox(partial(write_frame, connection))
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        connection.lost = self._end
        connection.pause()
        self.send = self._outbox.send

    async def read(self, receive: Receive) -> str:
        """See `Stream.read`."""

        def take(frame: bytes) -> None:
            try:
                receive(peer_pb2.PeerReply.FromString(frame))
            except (DecodeError, ValueError) as error:
                self._connection.close()
                if not self._ended.done():
                    self._ended.set_exception(ValueError(str(error)))

        self._connection.take = take
        self._connection.resume()
        return await self._ended

    def close(self) -> None:
        """See `Stream.close`."""
        self._outbox.abort()
        self._connection.close()

    def _end(self, reason: str) -> None:
        if not self._ended.done():
            self._ended.set_result(f"is unreachable ({reason})")


class FrameDials:
    """Where each peer takes frames, and the way there. `net` None: nowhere; `elsewhere`: where we were told to dial them."""

    def __init__(self, me: Identity, addresses: Mapping[str, str], elsewhere: Mapping[str, str], net: FrameNet | None) -> None:
        self._me = me
        self._addresses = addresses
        self._elsewhere = elsewhere
        self._net = net
        self._failed: dict[str, str] = {}

    def why_not_now(self, node: str) -> str:
        """Why it is not worth waiting for frames of `node` when its link comes up: what was wrong the last time; "": it is."""
        return self._failed.get(node, "")

    def address_of(self, node: str, said: peer_pb2.HelloReply) -> str:
        """Where `node`, which has `said` so, is dialled for frames; "": it is not."""
        if self._net is None or not said.frames_port:
            return ""
        return self._elsewhere.get(node) or address_of_frames(self._addresses[node], said.listen_port, said.frames_port)

    async def open(self, node: str, said: peer_pb2.HelloReply) -> tuple[FrameStream | None, str]:
        """A stream of frames to the process that has `said` that, or None and why there is none."""
        address = self.address_of(node, said)
        if self._net is None or not address:
            return None, "it takes no frames here"
        me, incarnation = self._me.node_id, said.incarnation
        try:
            connection = await dial_frames(self._net, address, node=node, incarnation=incarnation, me=me, timeout_s=DIAL_TIMEOUT_S)
        except (OSError, TimeoutError) as error:
            self._failed[node] = f"no frames at {address}: {str(error) or 'nobody answered in time'}"
            return None, self._failed[node]
        self._failed.pop(node, None)
        return FrameStream(connection), ""
