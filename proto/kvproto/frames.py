"""Frames: whole messages in order over a bare TCP connection, four bytes of length before each. Knows no message.

An exchange of messages costs half the processor time of one over a gRPC stream (docs/adr/0029-batches-travel-as-frames.md). What
gRPC does besides is done here: a connection whose other side has said nothing for `SILENCE_S` is lost, so each side says
something at least every `BEAT_S`, an empty frame if it has nothing to say; whoever writes waits while the other does not read;
and the size of a frame is bounded before any of it is kept. Plain text: who is on the other side is known as far as it says so
(api/frame_server.py).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Protocol, cast

HEADER_BYTES = 4
GREETING_BYTES_MAX = 4096
"""Of any frame until the other side is known; whatever else speaks first on such a port, TLS or HTTP, claims to send more."""
LARGE_BYTES = 64 * 1024
"""A frame of so many bytes is neither joined with its header nor cut out of what came with it: each copy of a large one is memory
that the system has to find first, and that takes eight times as long as the copying."""
UNREAD_BYTES_MAX = 256 * 1024
"""What the other side has not taken yet, before a writer waits."""
BEAT_S = 0.75
LINGER_S = 1.0
"""What was written to a connection that is closed may take so long to leave."""
SILENCE_S = 2.0
"""With `BEAT_S` a black hole is noticed after two to three seconds, as gRPC's keepalive notices it (kvproto/options.py)."""


class Connection(Protocol):
    """An open connection. Its owner sets `take` and `lost` before anything else happens; both are called from the event loop."""

    take: Callable[[bytes], None]
    """Given each frame, to parse: a large one is a view of bytes, which protobuf reads as well. Must not raise."""
    lost: Callable[[str], None]
    """Told once why the connection has ended, unless its owner ended it."""
    frame_bytes_max: int
    """A longer frame ends the connection; as small as a greeting at first."""

    @property
    def peer(self) -> str:
        """Who is on the other side, as far as its address tells; in the form of gRPC's, but never equal to one of those."""

    async def write(self, frame: bytes, tail: Sequence[bytes] = ()) -> None:
        """Sends a frame, which is `frame` and the pieces of `tail`; returns when the next one may follow. Not while another call of
        it is under way; nothing is sent once the connection is over."""

    def pause(self) -> None:
        """Takes no further frame, until `resume`."""

    def resume(self) -> None:
        """Takes frames again."""

    def close(self) -> None:
        """Ends it behind what was written. Idempotent."""


Accept = Callable[[Connection], None]


class Listener(Protocol):
    """Where connections are taken."""

    port: int

    def close(self) -> None:
        """Takes no more; those that were taken go on."""


class FrameNet(Protocol):
    """How connections are made: over TCP, or in the simulated world."""

    async def listen(self, host: str, port: int, accept: Accept) -> Listener:
        """Hands connections to `accept`; port 0 is a free one. Raises `OSError`."""

    async def dial(self, address: str) -> Connection:
        """A connection to host:port. Raises `OSError`; waits for as long as nobody answers."""


class TcpConnection(asyncio.Protocol):
    """See `Connection`."""

    def __init__(self, opened: Accept) -> None:
        self.take: Callable[[bytes], None] = _ignore
        self.lost: Callable[[str], None] = _ignore
        self.frame_bytes_max = GREETING_BYTES_MAX
        self._opened = opened
        self._peer = "frames"
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._chunks: list[bytes] = []
        self._held_bytes = 0
        self._needed_bytes = HEADER_BYTES
        self._is_paused = False
        self._room: asyncio.Future[None] | None = None
        self._is_full = False
        self._reason = "closed the connection"
        self._beat_timer: asyncio.TimerHandle | None = None
        self._due_s = self._heard_s = self._loop.time()
        self._has_heard = self._has_spoken = True

    # --- the owner's side

    @property
    def peer(self) -> str:
        """See `Connection.peer`."""
        return self._peer

    async def write(self, frame: bytes, tail: Sequence[bytes] = ()) -> None:
        """See `Connection.write`."""
        transport = self._transport
        if transport is None:
            return
        self._has_spoken = True
        if tail:
            size_bytes = len(frame) + sum(map(len, tail))
            transport.writelines((size_bytes.to_bytes(HEADER_BYTES, "big"), frame, *tail))
        elif len(frame) < LARGE_BYTES:
            transport.write(b"".join((len(frame).to_bytes(HEADER_BYTES, "big"), frame)))
        else:
            transport.writelines((len(frame).to_bytes(HEADER_BYTES, "big"), frame))
        if self._is_full:
            self._room = self._loop.create_future()
            await self._room

    def pause(self) -> None:
        """See `Connection.pause`."""
        if self._transport is not None and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """See `Connection.resume`."""
        if self._transport is not None and self._is_paused:
            self._is_paused = False
            self._has_heard = True  # it was us who did not listen
            self._transport.resume_reading()
            self._take_all(b"")

    def close(self) -> None:
        """See `Connection.close`."""
        self.take = self.lost = _ignore
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.close()
            self._loop.call_later(LINGER_S, transport.abort)

    # --- asyncio's

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = transport = cast(asyncio.Transport, transport)  # uvloop's derive from nothing
        transport.set_write_buffer_limits(high=UNREAD_BYTES_MAX)
        host, port, *_ = transport.get_extra_info("peername") or ("", 0)
        self._peer = f"frames:{host}:{port}"
        self._schedule_beat()
        self._opened(self)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._has_heard = True
        if self._chunks:
            self._chunks.append(data)
            self._held_bytes += len(data)
            if self._held_bytes >= self._needed_bytes:
                self._take_all(b"")
        else:
            self._take_all(data)

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self._is_full = True

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._is_full = False
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._transport = None
        if self._beat_timer is not None:
            self._beat_timer.cancel()
        self._wake()
        lost, self.take, self.lost = self.lost, _ignore, _ignore
        lost(self._reason if exc is None else str(exc) or type(exc).__name__)

    # --- frames

    def _take_all(self, data: bytes) -> None:
        """Hands over every whole frame of what is held and `data`; keeps the rest."""
        if self._chunks:
            data = b"".join((*self._chunks, data))
            self._chunks = []
        at, end = 0, len(data)
        needed_bytes = HEADER_BYTES
        while end - at >= HEADER_BYTES and not self._is_paused:
            size_bytes = int.from_bytes(data[at : at + HEADER_BYTES], "big")
            if size_bytes > self.frame_bytes_max:
                self._break(f"announced a frame of {size_bytes} bytes")
                return
            stop = at + HEADER_BYTES + size_bytes
            if stop > end:
                needed_bytes += size_bytes
                break
            if size_bytes >= LARGE_BYTES:
                self.take(cast(bytes, memoryview(data)[at + HEADER_BYTES : stop]))
            elif size_bytes:
                self.take(data[at + HEADER_BYTES : stop])
            at = stop
        if at < end:
            self._chunks = [data[at:]]
            self._held_bytes, self._needed_bytes = end - at, needed_bytes

    # --- keepalive

    def _schedule_beat(self) -> None:
        self._due_s = self._loop.time() + BEAT_S
        self._beat_timer = self._loop.call_later(BEAT_S, self._beat)

    def _beat(self) -> None:
        transport, now_s = self._transport, self._loop.time()
        if transport is None:
            return
        # Who was stopped himself, or kept busy, has not read what lies in the socket.
        if self._has_heard or self._is_paused or now_s - self._due_s > BEAT_S:
            self._heard_s = now_s
        elif now_s - self._heard_s >= SILENCE_S:
            self._break(f"has said nothing for {now_s - self._heard_s:.1f} s")
            return
        self._has_heard = False
        if not self._has_spoken and not self._is_full:
            transport.write(bytes(HEADER_BYTES))
        self._has_spoken = False
        self._schedule_beat()

    def _break(self, reason: str) -> None:
        self._reason = reason
        self._chunks = []
        if self._transport is not None:
            self._transport.abort()

    def _wake(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)


class TcpListener:
    """See `Listener`."""

    def __init__(self, server: asyncio.Server) -> None:
        self._server = server
        self.port: int = server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """See `Listener.close`."""
        self._server.close()


class TcpFrames:
    """See `FrameNet`."""

    async def listen(self, host: str, port: int, accept: Accept) -> TcpListener:
        """See `FrameNet.listen`. Of a name that stands for several addresses the first is listened on: a free port is one port."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return TcpListener(await loop.create_server(lambda: TcpConnection(accept), str(found[0][4][0]), port))

    async def dial(self, address: str) -> TcpConnection:
        """See `FrameNet.dial`."""
        host, _, port = address.rpartition(":")
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: TcpConnection(_ignore), host.strip("[]"), int(port))
        return connection


def _ignore(_: object) -> None:
    """Nobody is interested."""
