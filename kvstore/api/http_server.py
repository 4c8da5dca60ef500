"""Serves an ASGI application at one address, in the node's own event loop: uvicorn without its signal handlers, and bounded.

The port is taken when the server is made, before a node serves anything. A client holds a connection for as long as it sends and
reads: one that does not finish a request, or does not take its answer, is cut off, and so is one too many.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from kvproto.errors import UserError
from kvstore.config.addresses import split_address

CONNECTIONS_MAX = 64
REQUEST_BYTES_MAX = 16 * 1024
"""A request line and its headers. Bodies are not read."""
REQUEST_S_MAX = 5.0
"""From the first byte of a request, or the connection, to the end of its headers."""
UNREAD_S_MAX = 10.0
"""How long an answer may wait for its client to read."""
DATE_S = 1.0
"""How old the date of an answer may be."""
IDLE_S_MAX = 75.0
"""Between two requests: longer than what Prometheus leaves between two scrapes."""
STOP_GRACE_S = 1
BACKLOG = 128


class HttpServer:
    """`application` at `address`. Raises `UserError` when the port cannot be had."""

    def __init__(self, address: str, application: Any) -> None:
        host, port = split_address(address)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family, backlog=BACKLOG)
        except OSError as error:
            raise UserError(f"cannot serve http on {address}: {error.strerror or error}", subject=address) from error
        self._server = _Server(
            uvicorn.Config(
                application,
                interface="asgi3",
                http=BoundedProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="critical",  # what strangers do wrong is no news, and defects are logged by the application
                access_log=False,
                server_header=False,
                proxy_headers=False,
                h11_max_incomplete_event_size=REQUEST_BYTES_MAX,
                timeout_keep_alive=int(IDLE_S_MAX),
                timeout_graceful_shutdown=STOP_GRACE_S,
                backlog=BACKLOG,
            )
        )
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Accepts connections from here on."""
        self._serving = asyncio.get_running_loop().create_task(self._server.serve(sockets=[self._socket]), name="http")
        await self._server.listening.wait()

    async def stop(self) -> None:
        """Answers what is under way, closes everything. Idempotent, and also for one that was never started."""
        if self._serving is None:
            self._socket.close()
            return
        self._server.should_exit = True
        self._server.ending.set()
        await self._serving


class _Server(uvicorn.Server):
    """Signals are the process's own business."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self.ending = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        await super().startup(sockets)
        self.listening.set()

    async def main_loop(self) -> None:
        """uvicorn's looks ten times a second whether it should end; who ends this one says so."""
        while not self.should_exit:
            await self.on_tick(0)
            with suppress(TimeoutError):
                async with asyncio.timeout(DATE_S):
                    await self.ending.wait()


class BoundedProtocol(H11Protocol):
    """One connection. uvicorn bounds headers and idle connections, not how slowly a request comes or an answer is read."""

    _request_due: asyncio.TimerHandle | None = None
    _reading_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there."""
        if len(self.connections) >= CONNECTIONS_MAX:
            self.transport = transport
            transport.abort()
            return
        super().connection_made(transport)
        self._expect_request()

    def handle_events(self) -> None:
        """Some of a request is there, or all of it; it may have come with the one before."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._forget(self._request_due)
            self._request_due = None
        elif self._request_due is None and self._is_idle() and self._is_amid_request():
            self._expect_request()

    def pause_writing(self) -> None:
        """The client reads more slowly than we answer."""
        super().pause_writing()
        if self._reading_due is None:
            self._reading_due = self.loop.call_later(UNREAD_S_MAX, self.transport.abort)

    def resume_writing(self) -> None:
        """It has caught up."""
        super().resume_writing()
        self._forget(self._reading_due)
        self._reading_due = None

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._forget(self._request_due)
        super().connection_lost(exc)
        self._forget(self._reading_due)

    def _is_idle(self) -> bool:
        cycle: Any = self.cycle  # None before the first request, whatever its type says
        return cycle is None or bool(cycle.response_complete)

    def _is_amid_request(self) -> bool:
        """Whether there is the beginning of one, or a body that nobody reads goes on behind its answer."""
        return bool(self.conn.trailing_data[0]) or self.conn.their_state is h11.SEND_BODY

    def _expect_request(self) -> None:
        self._request_due = self.loop.call_later(REQUEST_S_MAX, self.transport.abort)

    @staticmethod
    def _forget(timer: asyncio.TimerHandle | None) -> None:
        if timer is not None:
            timer.cancel()
