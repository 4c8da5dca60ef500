"""Frames over TCP and in the simulated world: what each end sees of the other, and of its end, is the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from kvproto.frames import GREETING_BYTES_MAX, LARGE_BYTES, Connection, FrameNet, Listener, TcpFrames
from kvproto.outbox import Outbox
from kvproto.v1 import key_value_pb2
from kvstore.simulation.connection import NetworkSettings
from kvstore.simulation.events import EventLog
from kvstore.simulation.frames import SimFrames
from kvstore.simulation.loop import SimLoop
from kvstore.simulation.network import Network
from kvstore.simulation.process import Process


class Pair:
    """A listener and who dials it; what each end was given, and how it was told of the end."""

    def __init__(self, here: FrameNet, there: FrameNet) -> None:
        self._here, self._there = here, there
        self.listener: Listener
        self.accepted: list[Connection] = []
        self.taken: list[bytes] = []
        self.lost: list[str] = []

    def accept(self, connection: Connection) -> None:
        connection.take, connection.lost = self.taken.append, self.lost.append
        self.accepted.append(connection)

    async def listen(self) -> None:
        self.listener = await self._there.listen("127.0.0.1", 0, self.accept)

    async def dial(self) -> Connection:
        return await self._here.dial(f"127.0.0.1:{self.listener.port}")

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.001)


Test = Callable[[Pair], Coroutine[Any, Any, None]]


async def play(pair: Pair, test: Test) -> None:
    await pair.listen()
    try:
        await test(pair)
    finally:
        pair.listener.close()
        for connection in pair.accepted:
            connection.close()
        await asyncio.sleep(0)


def with_tcp(test: Test) -> None:
    async def run() -> None:
        await play(Pair(TcpFrames(), TcpFrames()), test)

    asyncio.run(run())


def with_uvloop(test: Test) -> None:
    async def run() -> None:
        await play(Pair(TcpFrames(), TcpFrames()), test)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def in_simulation(test: Test) -> None:
    loop = SimLoop(1)  # type: ignore[abstract]  # what is missing raises NotImplementedError
    network = Network(loop, loop.rng, EventLog(), NetworkSettings())
    pair = Pair(SimFrames(network, loop.main, "here:1"), SimFrames(network, Process(loop, "there"), "there:1"))

    async def main() -> None:
        await play(pair, test)
        await asyncio.sleep(1)

    loop.run(main())
    assert network.open_connections() == []


@pytest.fixture(params=[with_tcp, with_uvloop, in_simulation], ids=["tcp", "uvloop", "simulated"])
def run(request: pytest.FixtureRequest) -> Callable[[Test], None]:
    return request.param  # type: ignore[no-any-return]


Run = Callable[[Test], None]


def test_large_frames_arrive_whole_and_in_their_place_among_small_ones(run: Run) -> None:
    """Of sizes at which they are sent and handed over in another way, behind and before such as come with them."""

    async def test(pair: Pair) -> None:
        near = await pair.dial()
        sent = []
        for number, size in enumerate((LARGE_BYTES - 1, 1, LARGE_BYTES, 10, LARGE_BYTES + 1, 1_000_000, 100, 3_000_000, 5)):
            reply = key_value_pb2.FramesHello(node_id="x" * size, incarnation=number)
            sent.append(reply.SerializeToString())
        outbox: Outbox[bytes] = Outbox(near.write)
        await near.write(b"first")
        await pair.until(lambda: pair.taken)
        pair.accepted[0].frame_bytes_max = 1 << 22
        for frame in sent:
            outbox.send(frame)
        await pair.until(lambda: len(pair.taken) == 1 + len(sent))
        assert [key_value_pb2.FramesHello.FromString(frame).SerializeToString() for frame in pair.taken[1:]] == sent
        assert pair.taken[1:] == sent
        near.close()
        await pair.until(lambda: pair.lost)

    run(test)


def test_frames_arrive_in_order_both_ways(run: Run) -> None:
    async def test(pair: Pair) -> None:
        near = await pair.dial()
        heard: list[bytes] = []
        near.take = heard.append
        near.frame_bytes_max = 1 << 20
        outbox: Outbox[bytes] = Outbox(near.write)
        sent = [b"%d" % number * (1 + number % 7) for number in range(100)]
        outbox.send(sent[0])
        await pair.until(lambda: pair.taken)
        far = pair.accepted[0]
        far.frame_bytes_max = 1 << 20
        for frame in sent[1:]:
            outbox.send(frame)
        await far.write(b"welcome")
        await far.write(b"and more")
        await pair.until(lambda: len(pair.taken) == len(sent) and len(heard) == 2)
        assert pair.taken == sent and heard == [b"welcome", b"and more"]
        near.close()
        await pair.until(lambda: pair.lost)

    run(test)


def test_who_pauses_is_given_the_rest_when_he_goes_on(run: Run) -> None:
    async def test(pair: Pair) -> None:
        near = await pair.dial()
        await near.write(b"0")
        await pair.until(lambda: pair.taken)
        far = pair.accepted[0]
        far.pause()
        for number in range(1, 6):
            await near.write(b"%d" % number)
        await asyncio.sleep(0.05)  # for what must not happen
        assert pair.taken == [b"0"]
        far.resume()
        await pair.until(lambda: len(pair.taken) == 6)
        assert pair.taken == [b"%d" % number for number in range(6)]
        near.close()

    run(test)


def test_an_end_is_told_once_and_not_to_who_made_it(run: Run) -> None:
    async def test(pair: Pair) -> None:
        near = await pair.dial()
        mine: list[str] = []
        near.lost = mine.append
        await near.write(b"hello")
        await pair.until(lambda: pair.taken)
        near.close()
        near.close()
        await pair.until(lambda: pair.lost)
        await pair.accepted[0].write(b"to nobody")
        pair.accepted[0].close()
        await asyncio.sleep(0.05)  # for what must not happen
        assert len(pair.lost) == 1 and not mine

    run(test)


def test_the_listeners_end_reaches_who_dialled(run: Run) -> None:
    async def test(pair: Pair) -> None:
        near = await pair.dial()
        mine: list[str] = []
        near.lost = mine.append
        await pair.until(lambda: pair.accepted)
        pair.accepted[0].close()
        await pair.until(lambda: mine)
        near.close()

    run(test)


def test_nobody_there_is_an_oserror(run: Run) -> None:
    async def test(pair: Pair) -> None:
        pair.listener.close()
        with pytest.raises(OSError, match=r"(?i)connect"):
            await pair.dial()

    run(test)


def test_only_a_greeting_is_taken_of_a_stranger(run: Run) -> None:
    async def test(pair: Pair) -> None:
        near = await pair.dial()
        await pair.until(lambda: pair.accepted)
        assert near.frame_bytes_max == pair.accepted[0].frame_bytes_max == GREETING_BYTES_MAX
        near.close()

    run(test)
