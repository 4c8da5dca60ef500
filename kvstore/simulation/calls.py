"""The client's side of simulated calls, as grpc.aio gives them to its users: one request and one response, or streams.

A call belongs to a channel (channel.py), which finds it a connection; it ends once, with a status.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator
from typing import TYPE_CHECKING, Any

from kvstore.simulation.connection import End
from kvstore.simulation.process import Handle
from kvstore.simulation.status import EOF, Code, rpc_error

if TYPE_CHECKING:
    from kvstore.simulation.channel import SimChannel


class SimCall:
    """What both kinds of calls share: identity, deadline, and how they end, once."""

    def __init__(self, channel: SimChannel, method: str, deserializer: Callable[[bytes], Any], timeout: float | None) -> None:
        self.id = 0
        self.method = method
        self.timeout_ns = 0 if timeout is None else max(1, int(timeout * 1e9))
        self.end: End | None = None
        self.status: tuple[Any, str] | None = None
        self.is_cancelled_here = False
        self._channel = channel
        self._deserializer = deserializer
        self._deadline: Handle | None = None
        if self.timeout_ns:
            process = channel.process
            self._deadline = process.post_at(process.loop.now_ns + self.timeout_ns, self._expire)

    def attached(self, end: End) -> None:
        """The call has a connection to go over."""
        raise NotImplementedError

    def take(self, raw: bytes) -> None:
        """A message came."""
        raise NotImplementedError

    def ended(self) -> None:
        """The call is over: wakes whoever waits."""
        raise NotImplementedError

    def finish(self, code: Any, details: str) -> None:
        """Ends the call; the first end counts."""
        if self.status is None:
            self.status = (code, details)
            if self._deadline is not None:
                self._deadline.cancel()
            self._channel.withdraw(self)
            self.ended()

    def cancel(self) -> bool:
        """See grpc.aio.Call: the other side is told."""
        if self.status is not None:
            return False
        self.is_cancelled_here = True
        if self.end is not None:
            self.end.send(("cancel", self.id))
        self.finish(Code.CANCELLED, "Locally cancelled by application!")
        return True

    def cancelled(self) -> bool:
        """See grpc.aio.Call."""
        return self.status is not None and self.status[0] is Code.CANCELLED

    def done(self) -> bool:
        """See grpc.aio.Call."""
        return self.status is not None

    def _expire(self) -> None:
        if self.status is None:
            if self.end is not None:
                self.end.send(("cancel", self.id))
            self.finish(Code.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def _raise_for_status(self) -> None:
        assert self.status is not None
        if self.is_cancelled_here:
            raise asyncio.CancelledError
        if self.status[0] is not Code.OK:
            raise rpc_error(*self.status)


class UnaryCall(SimCall):
    """One request, one response; begins when it is made."""

    def __init__(self, channel: SimChannel, method: str, request: bytes, deserializer: Any, timeout: float | None) -> None:
        super().__init__(channel, method, deserializer, timeout)
        self._request = request
        self._response: bytes | None = None
        self._over: asyncio.Future[None] = channel.process.loop.create_future()
        channel.begin(self)

    def attached(self, end: End) -> None:
        """Sends the request."""
        self.end = end
        end.send(("unary", self.id, self.method, self._request, self.timeout_ns))

    def take(self, raw: bytes) -> None:
        """The response; the status follows it."""
        self._response = raw

    def ended(self) -> None:
        """Wakes the one who awaits the call."""
        if not self._over.done():
            self._over.set_result(None)

    def __await__(self) -> Generator[Any, None, Any]:
        try:
            yield from self._over
        except asyncio.CancelledError:
            self.cancel()
            raise
        self._raise_for_status()
        assert self._response is not None
        return self._deserializer(self._response)


class StreamCall(SimCall):
    """Messages both ways, or from the server only when there is one `request`."""

    def __init__(
        self,
        channel: SimChannel,
        method: str,
        serializer: Any,
        deserializer: Any,
        timeout: float | None,
        *,
        request: bytes | None = None,
    ) -> None:
        super().__init__(channel, method, deserializer, timeout)
        self._serializer = serializer
        self._request = request
        self._messages: deque[bytes] = deque()
        self._loop = channel.process.loop
        self._reader: asyncio.Future[None] | None = None
        self._waiters: list[asyncio.Future[None]] = []  # for the connection, room, or the end
        channel.begin(self)

    def attached(self, end: End) -> None:
        """Opens the stream."""
        self.end = end
        end.send(("stream", self.id, self.method, self._request, self.timeout_ns))
        self._wake()

    def take(self, raw: bytes) -> None:
        """A message came."""
        self._messages.append(raw)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def ended(self) -> None:
        """Wakes everybody."""
        self._wake()
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def read(self) -> Any:
        """See grpc.aio.StreamStreamCall."""
        while not self._messages:
            if self.status is not None:
                self._raise_for_status()
                return EOF
            self._reader = self._loop.create_future()
            try:
                await self._reader
            except asyncio.CancelledError:
                self.cancel()
                raise
        return self._deserializer(self._messages.popleft())

    async def write(self, message: Any) -> None:
        """See grpc.aio.StreamStreamCall; returns when the message is on its way."""
        if self.done():
            raise asyncio.InvalidStateError("RPC already finished.")
        while self.end is None:
            await self._wait()
            if self.done():
                self._raise_for_status()
        raw = self._serializer(message)
        try:
            await self.end.write(self.id, raw)
        except asyncio.CancelledError:
            self.cancel()
            raise

    async def done_writing(self) -> None:
        """See grpc.aio.StreamStreamCall."""
        if self.status is None and self.end is not None:
            self.end.send(("half", self.id))

    async def code(self) -> Any:
        """See grpc.aio.Call."""
        while self.status is None:
            await self._wait()
        return self.status[0]

    async def details(self) -> str:
        """See grpc.aio.Call."""
        while self.status is None:
            await self._wait()
        return self.status[1]

    async def _messages_in_order(self) -> AsyncIterator[Any]:
        while (message := await self.read()) is not EOF:
            yield message

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._messages_in_order()

    async def _wait(self) -> None:
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
