"""A `grpc.aio.Server` of the simulated world: what the generated `add_…Servicer_to_server` and the services use of it.

Each connection is a session with calls of its own; a handler is a task, cancelled when its client cancels, its deadline passes or
the connection is lost, as grpc.aio does.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

from kvstore.simulation.connection import End
from kvstore.simulation.network import Network
from kvstore.simulation.process import Handle, Process
from kvstore.simulation.status import EOF, Code

Status = tuple[Any, str]
CANCEL_NS_MAX = 2_000_000


class SimServer:
    """One process's server, at one address or several."""

    def __init__(self, network: Network, process: Process, rng: Random) -> None:
        self.process = process
        self.methods: dict[str, Any] = {}
        self._network = network
        self.rng = rng
        self._addresses: list[str] = []
        self._sessions: dict[End, _Session] = {}
        self._is_started = False

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """See grpc.aio.Server."""
        self.methods.update({f"/{service}/{name}": handler for name, handler in handlers.items()})

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """See grpc.aio.Server; what is generated registers its methods as well."""

    def add_insecure_port(self, address: str) -> int:
        """See grpc.aio.Server: binds. Raises `RuntimeError` if the address is taken."""
        self._network.listen(self.process, address, self._accept)
        self._addresses.append(address)
        return int(address.rpartition(":")[2])

    async def start(self) -> None:
        """Accepts connections."""
        self._is_started = True

    async def stop(self, grace: float | None) -> None:
        """See grpc.aio.Server: nothing new, `grace` seconds for what is under way, then the rest is cancelled."""
        for address in self._addresses:
            self._network.unlisten(address)
        for session in list(self._sessions.values()):
            session.is_draining = True
            session.end.send(("goaway", 0))
        tasks = [task for session in self._sessions.values() for task in session.tasks()]
        if tasks and grace:
            await asyncio.wait(tasks, timeout=grace)
        # Seen from outside either may come first: the end of the call, or that of the connection.
        code = Code.UNAVAILABLE if self.rng.random() < 0.7 else Code.CANCELLED
        for session in list(self._sessions.values()):
            session.cancel_all((code, "Cancelling all calls"))
        left = [task for task in tasks if not task.done()]
        if left:
            await asyncio.wait(left)
        for session in list(self._sessions.values()):
            session.end.close("Socket closed")
        self._sessions.clear()

    def _accept(self, end: End) -> None:
        if not self._is_started:
            end.close("connection refused")
            return
        session = self._sessions[end] = _Session(self, end)
        end.receive = session.receive
        end.lost = lambda reason: self._lost(session)

    def _lost(self, session: _Session) -> None:
        self._sessions.pop(session.end, None)
        session.cancel_all(None)


class _Session:
    """One connection's calls."""

    def __init__(self, server: SimServer, end: End) -> None:
        self.server = server
        self.end = end
        self.is_draining = False
        self._calls: dict[int, ServerCall] = {}

    def tasks(self) -> list[asyncio.Task[None]]:
        """Every handler that runs."""
        return [call.task for call in self._calls.values()]

    def receive(self, frame: tuple[Any, ...]) -> None:
        """A frame from the client."""
        kind, call_id = frame[0], frame[1]
        if kind in {"unary", "stream"}:
            if self.is_draining:
                self.end.send(("status", call_id, Code.UNAVAILABLE, "Server is shutting down"))
                return
            handler = self.server.methods.get(frame[2])
            if handler is None:
                self.end.send(("status", call_id, Code.UNIMPLEMENTED, "Method not found!"))
                return
            self._calls[call_id] = ServerCall(self, call_id, frame[2], handler, frame[3], frame[4])
            return
        call = self._calls.get(call_id)
        if call is None:
            return
        if kind == "message":
            call.take(frame[2])
        elif kind == "half":
            call.half_close()
        else:
            call.cancel()

    def done(self, call: ServerCall, status: Status) -> None:
        """The handler of `call` has ended."""
        if self._calls.pop(call.id, None) is not None:
            self.end.send(("status", call.id, *status))

    def forget(self, call: ServerCall) -> None:
        """Nobody waits for `call` any more; it may not even have begun."""
        self._calls.pop(call.id, None)

    def cancel_all(self, status: Status | None) -> None:
        """Ends every call, with a status if the client can still be told."""
        calls, self._calls = self._calls, {}
        for call in calls.values():
            if status is not None:
                self.end.send(("status", call.id, *status))
            call.cancel()


class ServerCall:
    """One call, and the context its handler is given."""

    def __init__(self, session: _Session, call_id: int, method: str, handler: Any, request: bytes | None, timeout_ns: int) -> None:
        self.id = call_id
        self._session = session
        self._handler = handler
        self._messages: deque[bytes] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._has_ended = False
        self._when_done: list[Callable[[Any], None]] = []
        self._status: Status = (Code.OK, "")
        self._deadline: Handle | None = None
        process = session.server.process
        self._loop = process.loop
        self._is_streaming = request is None
        self._deadline_ns = self._loop.now_ns + timeout_ns if timeout_ns else None
        if self._deadline_ns is not None:
            self._deadline = process.post_at(self._deadline_ns, self.cancel)
        self.task = self._loop.create_task(self._run(request), name=f"{method} #{session.end.number}.{call_id}")

    # --- the context

    async def read(self) -> Any:
        """See grpc.aio.ServicerContext."""
        while not self._messages:
            if self._has_ended:
                return EOF
            self._reader = self._loop.create_future()
            await self._reader
        return self._handler.request_deserializer(self._messages.popleft())

    async def write(self, message: Any) -> None:
        """See grpc.aio.ServicerContext."""
        await self._session.end.write(self.id, self._handler.response_serializer(message))

    def peer(self) -> str:
        """See grpc.aio.ServicerContext: the connection's other end."""
        return f"sim:{self._session.end.number}"

    def time_remaining(self) -> float | None:
        """See grpc.aio.ServicerContext."""
        if self._deadline_ns is None:
            return None
        return (self._deadline_ns - self._loop.now_ns) / 1e9

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """See grpc.aio.ServicerContext."""
        self._when_done.append(callback)

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """See grpc.aio.ServicerContext: clients of this world send none."""
        return ()

    def set_code(self, code: Any) -> None:
        """See grpc.aio.ServicerContext."""
        self._status = (code, self._status[1])

    def set_details(self, details: str) -> None:
        """See grpc.aio.ServicerContext."""
        self._status = (self._status[0], details)

    async def abort(self, code: Any, details: str = "", trailing_metadata: Any = ()) -> None:
        """See grpc.aio.ServicerContext."""
        self._status = (code, details)
        raise _Aborted

    # --- from the client

    def take(self, raw: bytes) -> None:
        """A message came."""
        self._messages.append(raw)
        self._wake()

    def half_close(self) -> None:
        """No more messages will come."""
        self._has_ended = True
        self._wake()

    def cancel(self) -> None:
        """The client has given up, or is gone: so does the handler. It is told by a cancellation, or by the end of the messages
        first: with grpc.aio either comes first."""
        self._session.forget(self)
        if self._deadline is not None:
            self._deadline.cancel()
        server = self._session.server
        if self._is_streaming and server.rng.random() < 0.5:
            self.half_close()
            server.process.post_at(self._loop.now_ns + int(server.rng.random() * CANCEL_NS_MAX), self.task.cancel)
        else:
            self.task.cancel()

    # --- the handler

    async def _run(self, request: bytes | None) -> None:
        handler = self._handler
        try:
            if request is None:
                await handler.stream_stream(self, self)
            else:
                await self._answer(handler, handler.request_deserializer(request))
        except _Aborted:
            pass
        except asyncio.CancelledError:
            self._status = (Code.CANCELLED, "cancelled")
            raise
        except Exception as error:  # noqa: BLE001 - as grpc.aio does; and it is a defect
            self._status = (Code.UNKNOWN, f"Unexpected {type(error)}: {error}")
            self._loop.call_exception_handler({"message": "a handler failed", "exception": error})
        finally:
            if self._deadline is not None:
                self._deadline.cancel()
            self._session.done(self, self._status)
            for callback in self._when_done:
                callback(self)

    async def _answer(self, handler: Any, request: Any) -> None:
        if not handler.response_streaming:
            raw = handler.response_serializer(await handler.unary_unary(request, self))
            self._session.end.send(("reply", self.id, raw))
            return
        answer = handler.unary_stream(request, self)
        if inspect.isasyncgen(answer):
            async for message in answer:
                await self.write(message)
        else:
            await answer

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


class _Aborted(Exception):
    """The handler has said what its status is."""
