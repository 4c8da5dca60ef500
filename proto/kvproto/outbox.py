"""What is to be written to one stream, in order, one message at a time, the first of them at once.

A task that waits for messages would start to write in the next turn of the event loop, and on the way of a single operation through
the store there are six such turns. So a message that finds the stream idle is written within `send`: the coroutine that writes it
is taken to its first wait here, and goes on when what it waits for is done, as a task would. It must not ask for the current task.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Generic, TypeVar

MessageT = TypeVar("MessageT")

Writing = Coroutine[Any, Any, object]


class Outbox(Generic[MessageT]):
    """Writes what it is given with `write`, a coroutine function that is never called while another call of it is under way.

    `count_max` and `bytes_max` are not enforced here: whoever feeds it from a peer waits for `room` first, so that a peer that
    never reads its replies stops being read itself (backpressure, not memory). What `write` raises ends it: nothing more is
    written, and `written` raises it. `on_written` is told the size of each message that was written.
    """

    __slots__ = (
        "_closed",
        "_failure",
        "_loop",
        "_messages",
        "_on_written",
        "_waiting",
        "_write",
        "_writing",
        "_writing_bytes",
        "_written",
        "bytes_max",
        "count_max",
        "held_bytes",
    )

    def __init__(
        self,
        write: Callable[[MessageT], Writing],
        *,
        count_max: int = 256,
        bytes_max: int = 8 * 1024 * 1024,
        on_written: Callable[[int], None] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._write = write
        self._messages: deque[tuple[MessageT, int]] = deque()
        self._on_written = on_written
        self._writing_bytes = 0
        self._writing: Writing | None = None
        self._waiting: list[asyncio.Future[None]] = []  # for room
        self._written: asyncio.Future[None] | None = None
        self._failure: BaseException | None = None
        self._closed = False
        self.count_max = count_max
        self.bytes_max = bytes_max
        self.held_bytes = 0

    def __len__(self) -> int:
        """How many messages wait behind the one being written."""
        return len(self._messages)

    def send(self, message: MessageT, size_bytes: int = 0) -> None:
        """Writes `message`, which holds about `size_bytes`, after those before it; once closed it is dropped, nobody would read
        it."""
        if self._closed:
            return
        self._messages.append((message, size_bytes))
        self.held_bytes += size_bytes
        if self._writing is None:
            self._go_on()

    async def written(self) -> None:
        """Returns once closed and everything is written; raises what a write raised."""
        if not self._is_done():
            self._written = self._loop.create_future()
            await self._written
        if self._failure is not None:
            raise self._failure

    async def room(self) -> None:
        """Waits until fewer than `count_max` messages wait and fewer than `bytes_max` are not written, or it is closed."""
        while not self.has_room and not self._closed:
            waiter = self._loop.create_future()
            self._waiting.append(waiter)
            await waiter

    def close(self) -> None:
        """Takes no more. What waits is still written."""
        self._closed = True
        self._wake_all()
        self._tell()

    def abort(self) -> None:
        """Takes no more and gives up what waits: the stream has ended."""
        self._messages.clear()
        self.held_bytes = 0
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.close()
        self.close()

    def _go_on(self) -> None:
        """Writes what waits for as long as that takes no waiting."""
        while self._messages and self._writing is None:
            message, self._writing_bytes = self._messages.popleft()
            self._writing = self._write(message)
            self._step(self._writing)
        if self.has_room:
            self._wake_all()
        self._tell()

    def _step(self, writing: Writing) -> None:
        """Takes the coroutine to its next wait, as asyncio.Task does."""
        try:
            awaited = writing.send(None)
        except StopIteration:
            self._writing = None
            self.held_bytes -= self._writing_bytes
            if self._on_written is not None:
                self._on_written(self._writing_bytes)
        except BaseException as error:  # noqa: BLE001 - it is told to whoever waits for the end
            self._failure = error
            self.abort()
        else:
            if awaited is None:  # a bare yield, as of asyncio.sleep(0)
                self._loop.call_soon(self._resume, writing, None)
            else:
                awaited._asyncio_future_blocking = False  # noqa: SLF001 - the protocol between a future and who drives a coroutine
                awaited.add_done_callback(partial(self._resume, writing))

    def _resume(self, writing: Writing, awaited: asyncio.Future[Any] | None) -> None:
        if self._writing is writing:
            self._step(writing)
            self._go_on()
        elif awaited is not None and not awaited.cancelled():
            awaited.exception()  # given up meanwhile: nobody else will look at it, and asyncio would complain

    @property
    def has_room(self) -> bool:
        """Whether fewer than `count_max` messages wait and fewer than `bytes_max` are not written."""
        return len(self._messages) < self.count_max and self.held_bytes < self.bytes_max

    def _wake_all(self) -> None:
        """Every batch of a stream may wait, and whoever reads the stream."""
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            _wake(waiter)

    def _is_done(self) -> bool:
        return self._failure is not None or (self._closed and self._writing is None and not self._messages)

    def _tell(self) -> None:
        if self._is_done():
            _wake(self._written)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
