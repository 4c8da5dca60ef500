"""What a shell keeps from one command to the next: an event loop in a thread of its own, and the clients that commands asked for.

The loop goes on while the shell waits at its prompt, so connections stay alive and completions can use them. Usually there is one
client; a command with another address, level or timeout gets one of its own, which is kept as well.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeVar

from kvclient.cli.connection import Client, enter
from kvclient.cli.options import DEFAULT_NAMESPACE, Options, Output
from kvproto.errors import KvError

T = TypeVar("T")

CONNECT_TIMEOUT_S = 1.0
SIGNAL_CHECK_S = 0.1
"""A signal only marks itself; the interpreter acts on it when this thread runs next. One that comes in the instant before the wait,
or to another thread, wakes nobody: a wait without an end would never hear of it."""


class Session:
    """A context manager: leaving it closes the clients and ends the thread. One command at a time; completions beside it."""

    _loop: asyncio.AbstractEventLoop
    _closing: asyncio.Event
    _stack: AsyncExitStack

    def __init__(self) -> None:
        self._clients: dict[Options, Client] = {}
        self._connecting = asyncio.Lock()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), name="kv-shell", daemon=True)
        self._is_alive = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        self._is_alive.wait()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        async with AsyncExitStack() as self._stack:
            self._is_alive.set()
            await self._closing.wait()

    def run(self, options: Options, work: Callable[[Client], Awaitable[T]], *, timeout_s: float | None = None) -> T:
        """Runs one command's work and waits for its end; after `timeout_s`, if given, `TimeoutError` is raised.

        Ctrl-C cancels the work, waits for its end and arrives as `KeyboardInterrupt`.
        """

        async def with_client() -> T:
            async with asyncio.timeout(timeout_s):
                return await work(await self._client(options))

        return self._call(with_client())

    def connect_soon(self, options: Options) -> None:
        """Begins to connect, so that the first command or completion need not. Where that fails, the first command will say so."""

        async def connect() -> None:
            with suppress(KvError, TimeoutError):
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await self._client(options)

        asyncio.run_coroutine_threadsafe(connect(), self._loop)

    async def _client(self, options: Options) -> Client:
        wanted = replace(options, namespace=DEFAULT_NAMESPACE, output=Output.HUMAN, explain=False)  # what a client is not made for
        async with self._connecting:
            if wanted not in self._clients:
                self._clients[wanted] = await enter(self._stack, options)
            return self._clients[wanted]

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        ended, tasks = _End(), list[asyncio.Task[T]]()

        def on_end(task: asyncio.Task[T]) -> None:
            if not task.cancelled():
                task.exception()  # looked at, also where Ctrl-C leaves nobody to tell
            ended.tell()

        def begin() -> None:
            tasks.append(self._loop.create_task(work))
            tasks[0].add_done_callback(on_end)

        def cancel() -> None:
            tasks[0].cancel()

        self._loop.call_soon_threadsafe(begin)
        try:
            ended.wait()
        except KeyboardInterrupt:
            self._loop.call_soon_threadsafe(cancel)
            ended.wait()
            raise
        return tasks[0].result()


class _End:
    """The end of one piece of work, for a wait that Ctrl-C may interrupt anywhere, and that then begins again. `threading.Event` is
    no such thing: interrupted between two steps of its condition it raises that a lock is not locked."""

    def __init__(self) -> None:
        self._is_over = False
        self._wake = threading.Lock()
        self._wake.acquire()

    def tell(self) -> None:
        """It is over."""
        self._is_over = True
        self._wake.release()

    def wait(self) -> None:
        """Returns when it is; the lock only wakes, so that nothing is lost with one that was taken and not looked at any more."""
        while not self._is_over:
            self._wake.acquire(timeout=SIGNAL_CHECK_S)
