"""Frames in the simulated world: the contract of kvstore/transport/frames.py over the connections of its network.

What TCP's keepalive beats would notice is the network's to notice (network.py), at the same times.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from kvproto.frames import GREETING_BYTES_MAX, Accept
from kvstore.simulation.connection import End, ignore
from kvstore.simulation.network import Network
from kvstore.simulation.process import Process

PORT_AHEAD = 1
"""Of a free port, as seen from the port of gRPC: a simulated machine has one address and these two ports."""
METHOD = "/kvproto.v1.Peer/Exchange"
"""What a log calls the messages: they are the same."""


class SimConnection:
    """See `Connection`."""

    def __init__(self, end: End) -> None:
        self.take: Callable[[bytes], None] = ignore
        self.lost: Callable[[str], None] = ignore
        self.frame_bytes_max = GREETING_BYTES_MAX
        self._end = end
        self._is_paused = False
        self._held: list[bytes] = []
        self._has_greeted = False
        end.receive, end.lost = self._receive, self._lost

    @property
    def peer(self) -> str:
        """See `Connection.peer`."""
        return f"frames:{self._end.link.target}:{self._end.number}"

    async def write(self, frame: bytes, tail: Sequence[bytes] = ()) -> None:
        """See `Connection.write`."""
        frame = b"".join([frame, *tail])
        if self._has_greeted:
            await self._end.write(0, frame)
        else:
            self._has_greeted = True
            self._end.send(("greeting", 0, frame))

    def pause(self) -> None:
        """See `Connection.pause`."""
        self._is_paused = True

    def resume(self) -> None:
        """See `Connection.resume`."""
        self._is_paused = False
        while self._held and not self._is_paused:
            self.take(self._held.pop(0))

    def close(self) -> None:
        """See `Connection.close`."""
        self.take = self.lost = ignore
        self._held = []
        self._end.close()

    def _receive(self, frame: Any) -> None:
        if frame is None:  # accepted
            return
        assert len(frame[2]) <= self.frame_bytes_max, "a node sends no frame that another does not take"
        if self._is_paused:
            self._held.append(frame[2])
        else:
            self.take(frame[2])

    def _lost(self, reason: str) -> None:
        lost, self.take, self.lost = self.lost, ignore, ignore
        lost(reason)


class SimListener:
    """See `Listener`."""

    def __init__(self, network: Network, address: str) -> None:
        self.port = int(address.rpartition(":")[2])
        self._network = network
        self._address = address

    def close(self) -> None:
        """See `Listener.close`."""
        self._network.unlisten(self._address)


class SimFrames:
    """One process's `FrameNet`. `address`: where its machine serves gRPC."""

    def __init__(self, network: Network, process: Process, address: str) -> None:
        self._network = network
        self._process = process
        self._address = address

    async def listen(self, host: str, port: int, accept: Accept) -> SimListener:
        """See `FrameNet.listen`."""
        port = port or int(self._address.rpartition(":")[2]) + PORT_AHEAD
        address = f"{host}:{port}"
        self._network.hosts[address] = self._process.name
        try:
            self._network.listen(self._process, address, lambda end: accept(SimConnection(end)))
        except RuntimeError as error:
            raise OSError(str(error)) from error
        return SimListener(self._network, address)

    async def dial(self, address: str) -> SimConnection:
        """See `FrameNet.dial`."""
        host, _, port = address.rpartition(":")
        made: asyncio.Future[SimConnection] = asyncio.get_running_loop().create_future()

        def opened(end: End) -> None:
            connection = SimConnection(end)
            if made.done():
                connection.close()
            else:
                made.set_result(connection)

        def refused(reason: str) -> None:
            if not made.done():
                made.set_exception(ConnectionRefusedError(reason))

        end = self._network.connect(self._process, f"{host.strip('[]')}:{port}", opened, refused)
        self._network.name_calls(end, METHOD)
        try:
            return await made
        except BaseException:
            end.close()
            raise
