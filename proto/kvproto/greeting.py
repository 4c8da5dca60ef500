"""How a connection that carries frames begins: both sides name themselves, and the process that was meant.

The node has said over gRPC at which port it takes frames, and its incarnation. A node that is dialled at another port than it
listens at is behind a proxy or a translated address, and nothing goes past those: its frames are only dialled where somebody was
told to.
"""

from __future__ import annotations

import asyncio

from google.protobuf.message import DecodeError

from kvproto.frames import Connection, FrameNet
from kvproto.options import MESSAGE_BYTES_MAX
from kvproto.v1 import key_value_pb2


def address_of_frames(dialled: str, listen_port: int, frames_port: int) -> str:
    """Where a node takes frames that was dialled at `dialled` and says that it listens at `listen_port`; "": nowhere in reach."""
    host, _, port = dialled.rpartition(":")
    return f"{host}:{frames_port}" if frames_port and port == str(listen_port) else ""


async def dial_frames(net: FrameNet, address: str, *, node: str, incarnation: int, me: str = "", timeout_s: float) -> Connection:
    """A connection to the process of `node` that takes frames at `address`, greeted; `me` is the node that dials, "" a client.
    Raises `OSError` or `TimeoutError`."""
    connection: Connection | None = None
    ended = ""
    greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take(frame: bytes) -> None:
        hello = decode_hello(frame)
        if (hello.node_id, hello.incarnation) != (node, incarnation):
            lost(f"node {hello.node_id!r} answered at {address}")
        elif not greeted.done():
            greeted.set_result(None)

    def lost(reason: str) -> None:
        nonlocal ended
        ended = reason
        if not greeted.done():
            greeted.set_exception(ConnectionError(reason))

    try:
        async with asyncio.timeout(timeout_s):
            connection = await net.dial(address)
            connection.take, connection.lost = take, lost
            hello = key_value_pb2.FramesHello(node_id=me, expects=node, incarnation=incarnation)
            await connection.write(hello.SerializeToString())
            await greeted
        if ended:  # behind the greeting, and before whoever gets the connection could be told
            raise ConnectionError(ended)
    except BaseException:
        if connection is not None:
            connection.close()
        raise
    connection.frame_bytes_max = MESSAGE_BYTES_MAX
    return connection


def decode_hello(frame: bytes) -> key_value_pb2.FramesHello:
    """What `frame` says; nothing, if it is no greeting."""
    hello = key_value_pb2.FramesHello()
    try:
        hello.ParseFromString(frame)
    except DecodeError:
        hello.Clear()
    return hello
