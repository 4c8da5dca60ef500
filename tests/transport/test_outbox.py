"""What waits for one writer: in order, and no more of it than the reader of the stream allows."""

from __future__ import annotations

import asyncio

from kvstore.transport.outbox import Outbox
from tests.support.waiting import turns


async def test_messages_leave_in_order_and_the_end_comes_after_the_last() -> None:
    outbox: Outbox[int] = Outbox()
    for at in range(3):
        outbox.send(at)
    outbox.close()
    outbox.send(99)
    assert [await outbox.next() for _ in range(5)] == [0, 1, 2, None, None]


async def test_a_waiting_writer_is_woken_by_a_message_and_by_the_end() -> None:
    outbox: Outbox[int] = Outbox()
    writer = asyncio.ensure_future(outbox.next())
    await turns()
    assert not writer.done()
    outbox.send(1)
    assert await writer == 1
    writer = asyncio.ensure_future(outbox.next())
    await turns()
    outbox.close()
    assert await writer is None


async def test_whoever_feeds_it_waits_for_room() -> None:
    outbox: Outbox[int] = Outbox(count_max=2)
    for at in range(3):
        outbox.send(at)
    feeder = asyncio.ensure_future(outbox.room())
    await turns()
    await outbox.next()
    await turns()
    assert not feeder.done() and len(outbox) == 2
    await outbox.next()
    await feeder
    await outbox.room()  # there is room: at once


async def test_the_end_is_room_too() -> None:
    outbox: Outbox[int] = Outbox(count_max=1)
    outbox.send(1)
    feeder = asyncio.ensure_future(outbox.room())
    await turns()
    outbox.close()
    await feeder
