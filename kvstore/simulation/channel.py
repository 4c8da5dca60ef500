"""A `grpc.aio.Channel` of the simulated world: what the generated stubs and their callers use of it, and gRPC's error model.

One connection, dialled with the first call and again when a call finds none. While dialling calls wait; after a failure they fail
at once until the back-off is over. The stubs' own serializers make and read the bytes that cross.
"""

from __future__ import annotations

from random import Random
from typing import Any

from kvstore.simulation.calls import SimCall, StreamCall, UnaryCall
from kvstore.simulation.connection import MS, End
from kvstore.simulation.network import Network
from kvstore.simulation.process import Handle, Process
from kvstore.simulation.status import Code

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
        self._waiting: list[SimCall] = []
        self._calls: dict[int, SimCall] = {}
        self._draining: list[tuple[End, dict[int, SimCall]]] = []
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

    def begin(self, call: SimCall) -> None:
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

    def withdraw(self, call: SimCall) -> None:
        """`call` has ended on this side."""
        if call.id:
            for calls in (self._calls, *(calls for _, calls in self._draining)):
                if calls.get(call.id) is call:
                    del calls[call.id]
        elif call in self._waiting:
            self._waiting.remove(call)

    def _attach(self, call: SimCall) -> None:
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
