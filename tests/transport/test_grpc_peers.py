"""The dialling of peers over gRPC, where what gRPC does cannot be had at will: over a stand-in for the channel."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from kvproto.errors import AvailabilityError
from kvproto.v1 import peer_pb2
from kvstore.config import ClusterConfig
from kvstore.core.merkle.questions import Roots
from kvstore.transport.grpc_peers import GrpcPeers
from kvstore.transport.hello import Identity
from kvstore.transport.security import PlainText
from tests.support.clocks import ManualClock


class EndingStream:
    """A stream that breaks in the very moment in which its first reader is cancelled: he hears of the break alone."""

    def __init__(self, cancelled: list[object]) -> None:
        self._cancelled = cancelled

    async def read(self) -> Any:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self._cancelled.append(self)
            if len(self._cancelled) > 1:
                raise
            raise grpc.aio.AioRpcError(
                grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "Stream removed", ""
            ) from None

    async def write(self, message: Any) -> None:
        """Nothing is sent."""

    def cancel(self) -> None:
        """It has ended."""


class Channel:
    """Greets, and opens such streams."""

    def __init__(self) -> None:
        self.cancelled: list[object] = []

    def unary_unary(self, method: str, **how: Any) -> Callable[..., Awaitable[Any]]:
        async def hello(request: Any, **how: Any) -> peer_pb2.HelloReply:
            return peer_pb2.HelloReply(node_id="n2", advertise="127.0.0.1:99")

        return hello

    def stream_stream(self, method: str, **how: Any) -> Callable[[], EndingStream]:
        return lambda: EndingStream(self.cancelled)

    async def close(self, grace: None) -> None:
        """Nothing is open."""


async def test_bug_a_node_whose_link_broke_in_the_moment_of_its_stop_dialled_for_ever() -> None:
    """grpc.aio tells a cancelled reader of the break and swallows the cancellation; the stop waited for a task that went on."""
    identity, channel = Identity("n1", 1, ClusterConfig(id="test"), "127.0.0.1:1", ""), Channel()
    advertised: dict[str, str] = {}
    peers = GrpcPeers(
        identity,
        {"n2": "127.0.0.1:2"},
        clock=ManualClock(),
        ring_of=lambda: (1, 1),
        channel=lambda at: channel,
        security=PlainText(),
        advertised=advertised,
    )
    peers.start()
    await peers.wait_open(["n2"], 5.0)
    assert peers.reachable("n2") and advertised == {"n2": "127.0.0.1:99"}
    async with asyncio.timeout(5):
        await peers.close()
    assert len(channel.cancelled) == 1 and not peers.reachable("n2")


class CutShort:
    """A channel whose calls are cancelled when it is closed, as gRPC's are."""

    def __init__(self) -> None:
        self._calls: list[asyncio.Future[Any]] = []

    def unary_unary(self, method: str, **how: Any) -> Callable[..., Awaitable[Any]]:
        def call(request: Any, **how: Any) -> Awaitable[Any]:
            self._calls.append(asyncio.get_running_loop().create_future())
            return self._calls[-1]

        return call

    def stream_stream(self, method: str, **how: Any) -> Callable[[], EndingStream]:
        return lambda: EndingStream([])

    async def close(self, grace: None) -> None:
        """Whoever waits hears that it was cancelled."""
        for call in self._calls:
            call.cancel()


async def test_bug_a_call_cut_short_by_dialling_its_peer_anew_ended_the_comparing_of_replicas_for_good() -> None:
    """1. A question of anti-entropy is on its way. 2. Its peer is dialled anew, which closes the channel. 3. gRPC has the call
    cancelled: that is no cancelling of the task that made it."""
    channel = CutShort()
    peers = GrpcPeers(
        Identity("n1", 1, ClusterConfig(), "127.0.0.1:98", ""),
        {"n2": "127.0.0.1:99"},
        clock=ManualClock(),
        ring_of=lambda: (1, 1),
        channel=lambda address: channel,
        security=PlainText(),
    )
    asking = asyncio.create_task(peers.compare("n2", Roots([b"\x00" * 6]), 10.0))
    await asyncio.sleep(0)
    await channel.close(None)
    with pytest.raises(AvailabilityError, match="the connection to n2 was closed"):
        await asking
    asking = asyncio.create_task(peers.compare("n2", Roots([b"\x00" * 6]), 10.0))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
