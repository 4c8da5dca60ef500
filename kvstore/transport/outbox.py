"""What waits to be written to one stream, in order, for the one task that may write it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

MessageT = TypeVar("MessageT")


class Outbox(Generic[MessageT]):
    """A queue for one writer. `count_max` is not enforced here: whoever feeds it from a peer waits for `room` first, so that a
    peer that never reads its replies stops being read itself (backpressure, not memory)."""

    __slots__ = ("_closed", "_loop", "_messages", "_reader", "_room", "count_max")

    def __init__(self, *, count_max: int = 256) -> None:
        self._loop = asyncio.get_running_loop()
        self._messages: deque[MessageT] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._closed = False
        self.count_max = count_max

    def __len__(self) -> int:
        return len(self._messages)

    def send(self, message: MessageT) -> None:
        """Queues `message`; after `close` it is dropped, nobody would read it."""
        if self._closed:
            return
        self._messages.append(message)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def next(self) -> MessageT | None:
        """The next message; None once closed and empty."""
        while not self._messages:
            if self._closed:
                return None
            self._reader = self._loop.create_future()
            await self._reader
        message = self._messages.popleft()
        if self._room is not None and len(self._messages) < self.count_max and not self._room.done():
            self._room.set_result(None)
        return message

    async def room(self) -> None:
        """Waits until fewer than `count_max` messages are queued, or it is closed."""
        while len(self._messages) >= self.count_max and not self._closed:
            self._room = self._loop.create_future()
            await self._room

    def close(self) -> None:
        """What is queued still goes out."""
        self._closed = True
        for waiter in (self._reader, self._room):
            if waiter is not None and not waiter.done():
                waiter.set_result(None)
