"""A `grpc.aio.Channel` of the simulated world: what the generated stubs and their callers use of it, and gRPC's error model.

One connection, dialled with the first call and again when a call finds none. While dialling calls wait; after a failure they fail
at once until the back-off is over. The stubs' own serializers make and read the bytes that cross.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator
from random import Random
from typing import Any

from kvstore.simulation.network import MS, End, Network
from kvstore.simulation.process import Handle, Process
from kvstore.simulation.status import EOF, Code, rpc_error

CONNECT_TIMEOUT_MS = 500  # grpc.min_reconnect_backoff_ms
BACKOFF_MS = 100  # grpc.initial_reconnect_backoff_ms
BACKOFF_MS_MAX = 1000


class SimChannel:
    """One process's channel to an address."""

    def __init__(self, network: Network, process: Process, address: str, rng: Random) -> None:
        self.process = process
        self._network = network
        self._address = address
        self._rng = rng
        self._end: End | None = None
        self._is_up = False
        self._dial_timer: Handle | None = None
        self._retry_ns = 0
        self._backoff_ms = float(BACKOFF_MS)
        self._reason = ""
        self._waiting: list[_Call] = []
        self._calls: dict[int, _Call] = {}
        self._draining: list[tuple[End, dict[int, _Call]]] = []
        self._next_id = 1
        self._is_closed = False

    # --- what stubs call

    def unary_unary(self, method: str, request_serializer: Any = None, response_deserializer: Any = None, **_: Any) -> Any:
        """See grpc.aio.Channel."""

        def call(request: Any, *, timeout: float | None = None, **_: Any) -> UnaryCall:
            return UnaryCall(self, method, request_serializer(request), response_deserializer, timeout)

        return call

    def unary_stream(self, method: str, request_serializer: Any = None, response_deserializer: Any = None, **_: Any) -> Any:
        """See grpc.aio.Channel."""

        def call(request: Any, *, timeout: float | None = None, **_: Any) -> StreamCall:
            return StreamCall(self, method, request_serializer, response_deserializer, timeout, request=request_serializer(request))

        return call

    def stream_stream(self, method: str, request_serializer: Any = None, response_deserializer: Any = None, **_: Any) -> Any:
        """See grpc.aio.Channel; calls are written and read, not iterated."""

        def call(*, timeout: float | None = None, **_: Any) -> StreamCall:
            return StreamCall(self, method, request_serializer, response_deserializer, timeout)

        return call

    async def close(self, grace: float | None = None) -> None:
        """Cancels every call and lets go of the connection."""
        self._is_closed = True
        calls = [*self._waiting, *self._calls.values(), *(call for _, calls in self._draining for call in calls.values())]
        for call in calls:
            call.cancel()
        if self._dial_timer is not None:
            self._dial_timer.cancel()
        for end in (self._end, *(end for end, _ in self._draining)):
            if end is not None:
                end.close()
        self._end = None

    # --- calls

    def begin(self, call: _Call) -> None:
        """Takes a new call: onto the connection, into the queue of those that wait for one, or to its failure."""
        loop = self.process.loop
        if self._is_closed:
            self.process.post(call.finish, Code.CANCELLED, "Channel closed!")
        elif self._is_up:
            self._attach(call)
        elif self._end is not None:
            self._waiting.append(call)
        elif loop.now_ns < self._retry_ns:
            self.process.post(call.finish, Code.UNAVAILABLE, self._reason)
        else:
            self._waiting.append(call)
            self._dial()

    def withdraw(self, call: _Call) -> None:
        """`call` has ended on this side."""
        if call.id:
            for calls in (self._calls, *(calls for _, calls in self._draining)):
                if calls.get(call.id) is call:
                    del calls[call.id]
        elif call in self._waiting:
            self._waiting.remove(call)

    def _attach(self, call: _Call) -> None:
        assert self._end is not None
        call.id, self._next_id = self._next_id, self._next_id + 1
        self._calls[call.id] = call
        call.attached(self._end)

    # --- the connection

    def _dial(self) -> None:
        loop = self.process.loop
        timeout_ms = max(self._backoff_ms, CONNECT_TIMEOUT_MS)
        self._dial_timer = self.process.post_at(loop.now_ns + int(timeout_ms * MS), self._dial_timed_out)
        self._end = self._network.connect(self.process, self._address, self._opened, self._dial_failed)

    def _opened(self, end: End) -> None:
        assert self._dial_timer is not None and end is self._end
        self._dial_timer.cancel()
        self._is_up = True
        self._backoff_ms = BACKOFF_MS
        end.receive = lambda frame: self._receive(end, frame)
        end.lost = lambda reason: self._lost(end, reason)
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            self._attach(call)

    def _dial_timed_out(self) -> None:
        if self._end is not None:
            self._end.close()
        self._dial_failed("connection attempt timed out before receiving SETTINGS frame")

    def _dial_failed(self, reason: str) -> None:
        if self._dial_timer is not None:
            self._dial_timer.cancel()
        self._end = None
        jitter = 0.8 + 0.4 * self._rng.random()
        self._retry_ns = self.process.loop.now_ns + int(self._backoff_ms * jitter * MS)
        self._backoff_ms = min(BACKOFF_MS_MAX, self._backoff_ms * 1.6)
        self._reason = f"failed to connect to all addresses; last error: {self._address}: {reason}"
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call.finish(Code.UNAVAILABLE, self._reason)

    def _lost(self, end: End, reason: str) -> None:
        if end is self._end:
            self._end = None
            self._is_up = False
            calls, self._calls = self._calls, {}
        else:
            calls = next((calls for other, calls in self._draining if other is end), {})
            self._draining = [row for row in self._draining if row[0] is not end]
        for call in list(calls.values()):
            call.finish(Code.UNAVAILABLE, reason)

    def _receive(self, end: End, frame: tuple[Any, ...]) -> None:
        kind, call_id = frame[0], frame[1]
        if kind == "goaway":
            if end is self._end:  # what is under way goes on, what is new needs another connection
                self._draining.append((end, self._calls))
                self._end, self._is_up, self._calls = None, False, {}
            return
        calls = self._calls if end is self._end else next((calls for other, calls in self._draining if other is end), {})
        call = calls.get(call_id)
        if call is None:
            return
        if kind in {"message", "reply"}:
            call.take(frame[2])
        else:
            call.finish(frame[2], frame[3])


class _Call:
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


class UnaryCall(_Call):
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


class StreamCall(_Call):
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
