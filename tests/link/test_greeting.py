"""Who answers at a port is asked who he is: a port that was one node's may be another one's by now, or another life's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import pytest

from kvproto.frames import GREETING_BYTES_MAX, Accept, Connection, Listener, TcpFrames
from kvproto.greeting import address_of_frames, decode_hello, dial_frames
from kvproto.v1 import key_value_pb2
from tests.support.connections import Unread

Answer = Callable[[key_value_pb2.FramesHello], bytes]


def hello(node: str, incarnation: int) -> bytes:
    return key_value_pb2.FramesHello(node_id=node, expects="n1", incarnation=incarnation).SerializeToString()


@asynccontextmanager
async def somebody(answer: Answer) -> AsyncIterator[str]:
    """Listens, and answers a greeting so; yields the address."""
    connections: list[Connection] = []
    writing: list[asyncio.Task[None]] = []

    def take(connection: Connection, frame: bytes) -> None:
        async def write() -> None:
            await connection.write(answer(decode_hello(frame)))

        writing.append(asyncio.ensure_future(write()))

    def accept(connection: Connection) -> None:
        connections.append(connection)
        connection.take = partial(take, connection)

    listener = await TcpFrames().listen("127.0.0.1", 0, accept)
    try:
        yield f"127.0.0.1:{listener.port}"
    finally:
        listener.close()
        for connection in connections:
            connection.close()
        await asyncio.gather(*writing)


async def test_the_process_that_was_meant_is_worked_with() -> None:
    heard: list[key_value_pb2.FramesHello] = []

    def answer(said: key_value_pb2.FramesHello) -> bytes:
        heard.append(said)
        return hello("n2", 7)

    async with somebody(answer) as address:
        connection = await dial_frames(TcpFrames(), address, node="n2", incarnation=7, me="n1", timeout_s=5.0)
        assert connection.frame_bytes_max > GREETING_BYTES_MAX
        assert (heard[0].node_id, heard[0].expects, heard[0].incarnation) == ("n1", "n2", 7)
        connection.close()


@pytest.mark.parametrize(
    "answer",
    [lambda said: hello("n3", 7), lambda said: hello("n2", 8), lambda said: b"\xff\xff\xff", lambda said: hello("", 7)],
    ids=["another node", "another life", "no message", "nobody"],
)
async def test_whoever_else_answers_is_sent_nothing(answer: Answer) -> None:
    """What is stored there would count as stored at the node that was meant."""
    async with somebody(answer) as address:
        with pytest.raises(ConnectionError, match=f"answered at {address}"):
            await dial_frames(TcpFrames(), address, node="n2", incarnation=7, me="n1", timeout_s=5.0)


class Greeter(Unread):
    """Greets, and is gone before anybody has heard it."""

    async def write(self, frame: bytes, tail: Sequence[bytes] = ()) -> None:
        self.take(hello("n2", 7))
        self.lost("it was killed")


class GreeterNet:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def listen(self, host: str, port: int, accept: Accept) -> Listener:
        raise NotImplementedError

    async def dial(self, address: str) -> Connection:
        return self._connection


async def test_bug_a_connection_that_ended_right_behind_its_greeting_was_taken_for_one_that_is_open() -> None:
    """Nobody would have been told of its end any more: its stream would have stayed up, and carried nothing."""
    connection = Greeter()
    with pytest.raises(ConnectionError, match="it was killed"):
        await dial_frames(GreeterNet(connection), "there:1", node="n2", incarnation=7, timeout_s=5.0)
    assert connection.is_closed


async def test_one_who_says_nothing_is_waited_for_for_some_time() -> None:
    listener = await TcpFrames().listen("127.0.0.1", 0, lambda connection: None)
    with pytest.raises(TimeoutError):
        await dial_frames(TcpFrames(), f"127.0.0.1:{listener.port}", node="n2", incarnation=7, timeout_s=0.05)
    listener.close()


@pytest.mark.parametrize(
    ("dialled", "listen_port", "frames_port", "expected"),
    [
        ("10.0.0.2:7400", 7400, 9, "10.0.0.2:9"),
        ("[::1]:7400", 7400, 9, "[::1]:9"),
        ("10.0.0.2:7400", 7400, 0, ""),
        ("10.0.0.2:7401", 7400, 9, ""),
    ],
)
def test_only_a_node_at_its_own_port_is_dialled(dialled: str, listen_port: int, frames_port: int, expected: str) -> None:
    assert address_of_frames(dialled, listen_port, frames_port) == expected
