"""A stream of frames to a peer: nothing that comes over it is lost, whenever somebody begins to read it."""

from __future__ import annotations

import asyncio

import pytest

from kvproto.v1 import peer_pb2
from kvstore.transport.peer_streams import FrameStream
from tests.support.connections import Unread
from tests.support.waiting import turns


async def test_bug_a_reply_that_came_before_anybody_read_the_stream_was_taken_for_a_greeting_and_dropped() -> None:
    """1. A stream takes the place of another one, and a batch leaves over it at once. 2. Its reply is quicker than the end of the
    old stream, whose reader comes over then. Without it the batch kept the link's only place for good."""
    connection, heard = Unread(), list[int]()
    stream = FrameStream(connection)
    stream.send(peer_pb2.PeerRequest(batch_id=1))
    connection.deliver(peer_pb2.PeerReply(batch_id=1, last=True).SerializeToString())
    reading = asyncio.create_task(stream.read(lambda reply: heard.append(reply.batch_id)))
    await turns()
    connection.deliver(peer_pb2.PeerReply(batch_id=2, last=True).SerializeToString())
    assert heard == [1, 2]
    connection.lost("gone")
    assert await reading == "is unreachable (gone)"


async def test_what_does_not_add_up_ends_the_stream() -> None:
    connection = Unread()
    stream = FrameStream(connection)
    reading = asyncio.create_task(stream.read(lambda reply: None))
    await turns()
    connection.deliver(b"\xff\xff\xff")
    with pytest.raises(ValueError, match="parsing"):
        await reading
    assert connection.is_closed


async def test_a_stream_that_ends_before_it_is_read_says_so_when_it_is() -> None:
    connection = Unread()
    stream = FrameStream(connection)
    connection.lost("gone")
    assert await stream.read(lambda reply: None) == "is unreachable (gone)"
