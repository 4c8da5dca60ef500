"""What waits for one stream: written in order and one at a time, the first at once, and no more than its reader allows."""

from __future__ import annotations

import asyncio
import gc

import pytest

from kvproto.outbox import Outbox
from tests.support.waiting import turns


class Stream:
    """Takes a message when its turn is let go on; records what was begun and what was written."""

    def __init__(self, *, waits: bool = True) -> None:
        self.begun: list[int] = []
        self.written: list[int] = []
        self.gates: list[asyncio.Future[None]] = []
        self.waits = waits

    async def write(self, message: int) -> None:
        self.begun.append(message)
        if self.waits:
            self.gates.append(asyncio.get_running_loop().create_future())
            await self.gates[-1]
            await asyncio.sleep(0)
        self.written.append(message)

    async def let_go(self) -> None:
        self.gates[-1].set_result(None)
        await turns()


async def test_a_message_that_finds_the_stream_idle_is_written_within_the_call() -> None:
    stream = Stream(waits=False)
    outbox = Outbox(stream.write)
    outbox.send(1)
    outbox.send(2)
    assert stream.written == [1, 2] and len(outbox) == 0


async def test_messages_leave_in_order_and_one_at_a_time() -> None:
    stream = Stream()
    outbox = Outbox(stream.write)
    for message in range(3):
        outbox.send(message)
    assert stream.begun == [0] and len(outbox) == 2
    await stream.let_go()
    assert stream.written == [0] and stream.begun == [0, 1]
    await stream.let_go()
    await stream.let_go()
    assert stream.written == [0, 1, 2]


async def test_the_end_comes_after_the_last_message() -> None:
    stream = Stream()
    outbox = Outbox(stream.write)
    outbox.send(1)
    outbox.send(2)
    outbox.close()
    outbox.send(3)
    ended = asyncio.ensure_future(outbox.written())
    await turns()
    await stream.let_go()
    assert not ended.done()
    await stream.let_go()
    await ended
    assert stream.written == [1, 2]
    await outbox.written()  # said again to whoever asks later


async def test_the_end_of_an_idle_stream_is_told_at_once() -> None:
    outbox = Outbox(Stream().write)
    ended = asyncio.ensure_future(outbox.written())
    await turns()
    assert not ended.done()
    outbox.close()
    await ended


async def test_what_a_write_raises_is_the_end() -> None:
    async def broken(message: int) -> None:
        await asyncio.sleep(0)
        raise ConnectionResetError(message)

    outbox = Outbox(broken)
    outbox.send(1)
    outbox.send(2)
    with pytest.raises(ConnectionResetError):
        await outbox.written()
    outbox.send(3)
    assert len(outbox) == 0


async def test_giving_up_ends_the_write_under_way_and_drops_the_rest() -> None:
    stream = Stream()
    outbox = Outbox(stream.write)
    outbox.send(1)
    outbox.send(2)
    outbox.abort()
    await outbox.written()
    await stream.let_go()
    assert stream.begun == [1] and stream.written == []


async def test_bug_what_a_write_that_was_given_up_failed_with_was_never_looked_at() -> None:
    """asyncio says so on stderr when such a future is freed: every broken stream printed a traceback."""
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    stream = Stream()
    outbox = Outbox(stream.write)
    outbox.send(1)
    outbox.abort()
    stream.gates.pop().set_exception(ConnectionResetError())
    await turns()
    gc.collect()
    assert complaints == []


async def test_whoever_feeds_it_waits_for_room() -> None:
    stream = Stream()
    outbox = Outbox(stream.write, count_max=2)
    for message in range(4):
        outbox.send(message)
    feeder = asyncio.ensure_future(outbox.room())
    await turns()
    await stream.let_go()
    assert not feeder.done() and len(outbox) == 2
    await stream.let_go()
    await feeder
    await outbox.room()  # there is room: at once


async def test_the_end_is_room_too() -> None:
    outbox = Outbox(Stream().write, count_max=1)
    outbox.send(1)
    outbox.send(2)
    feeder = asyncio.ensure_future(outbox.room())
    await turns()
    outbox.close()
    await feeder


async def test_there_is_no_room_while_more_bytes_are_unwritten_than_may_be() -> None:
    stream = Stream()
    written: list[int] = []
    outbox = Outbox(stream.write, bytes_max=10, on_written=written.append)
    outbox.send(1, 6)
    outbox.send(2, 6)
    assert outbox.held_bytes == 12
    room = asyncio.ensure_future(outbox.room())
    await turns()
    assert not room.done()
    await stream.let_go()
    await room
    assert written == [6] and outbox.held_bytes == 6
    outbox.abort()
    assert outbox.held_bytes == 0 and written == [6], "what is given up was not written"


async def test_bug_of_two_who_waited_for_room_only_the_later_was_woken() -> None:
    """1. Two batches of one stream read large values, and the answers before are not written yet. 2. Both wait for room, and the
    second takes the first one's place. 3. There is room again, the first is not told, and its keys are refused when their deadline
    passes."""
    stream = Stream()
    outbox = Outbox(stream.write, bytes_max=10)
    outbox.send(1, 20)
    waiting = [asyncio.create_task(outbox.room()) for _ in range(3)]
    await turns()
    waiting[1].cancel()
    await stream.let_go()
    assert [task.done() for task in waiting] == [True, True, True]
    assert [task.cancelled() for task in waiting] == [False, True, False]
