"""The way from any thread to one event loop, in a thread of its own, and back: what makes the blocking client (ADR 4).

A call costs two switches between threads and little else: the coroutine is begun on the loop's thread and driven from there to its
end, without a task, and the answer releases a lock on which the caller waits. Calls of several threads meet in the loop, so their
operations travel in one batch.

A thread does not survive a fork, and neither do gRPC's connections: in the child every call raises `ForkedClient`.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from kvclient.errors import ClientClosed, ForkedClient, KvError

T = TypeVar("T")


class _Call(Generic[T]):
    """One call on its way. `done` is locked until `result` or `error` is there."""

    __slots__ = ("_awaited", "_bridge", "_work", "done", "error", "result")

    def __init__(self, bridge: Bridge, work: Coroutine[Any, Any, T]) -> None:
        self._bridge = bridge
        self._work = work
        self._awaited: asyncio.Future[Any] | None = None
        self.result: T | None = None
        self.error: BaseException | None = None
        self.done = threading.Lock()
        self.done.acquire()

    def begin(self, as_task: bool) -> None:
        """On the loop's thread: takes the coroutine to its first wait. `as_task`: it may ask for the current task."""
        if self._bridge.ended:
            self.fail(ClientClosed("the client was closed"))
        elif as_task:
            self._awaited = task = self._bridge.loop.create_task(self._work)
            task.add_done_callback(self._settle)
        else:
            self._step()

    def abandon(self) -> None:
        """On the loop's thread: nobody waits any more."""
        if self._awaited is not None:
            self._awaited.cancel()

    def fail(self, error: BaseException) -> None:
        """Ends the call; nothing of it runs any more."""
        self._work.close()
        self._end(error)

    def _step(self) -> None:
        """As asyncio.Task does; whatever the coroutine waits for must be a future of this loop."""
        try:
            awaited = self._work.send(None)
        except StopIteration as stop:
            self.result = stop.value
            self._end(None)
        except BaseException as error:  # noqa: BLE001 - it is raised where the answer is waited for
            self._end(error)
        else:
            awaited._asyncio_future_blocking = False  # noqa: SLF001 - the protocol between a future and who drives a coroutine
            self._awaited = awaited
            awaited.add_done_callback(self._go_on)

    def _go_on(self, _: asyncio.Future[Any]) -> None:
        self._step()

    def _settle(self, task: asyncio.Future[T]) -> None:
        if task.cancelled():
            self._end(ClientClosed("the client was closed during the call", may_have_applied=True))
        elif (error := task.exception()) is not None:
            self._end(error)
        else:
            self.result = task.result()
            self._end(None)

    def _end(self, error: BaseException | None) -> None:
        self._bridge.calls.discard(self)
        if self.done.locked():
            self.error = error
            self.done.release()


class Bridge:
    """A thread with an event loop."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.calls: set[_Call[Any]] = set()
        self.ended = False
        self._pid = os.getpid()
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="kvclient", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raises `ForkedClient` or `ClientClosed` when nothing can be called any more."""
        if self._pid != os.getpid():
            raise ForkedClient("the process was forked after this client was opened: open one after the fork")
        if self._closed:
            raise ClientClosed("the client was closed")

    def call(self, work: Coroutine[Any, Any, T], *, as_task: bool = True) -> T:
        """Runs `work` on the loop and waits. Raises what it raises, and `ClientClosed` when the client is closed meanwhile.

        `as_task` False is for coroutines that wait for nothing but futures: no timeouts, no sleeping, no tasks.
        """
        try:
            self.check()
        except KvError:
            work.close()
            raise
        call = _Call(self, work)
        self.calls.add(call)  # before the loop hears of it: whoever ends the loop looks here
        try:
            self.loop.call_soon_threadsafe(call.begin, as_task)
        except RuntimeError:  # it ended between our look and our call
            call.fail(ClientClosed("the client was closed"))
        try:
            call.done.acquire()
        except BaseException:  # interrupted
            self.loop.call_soon_threadsafe(call.abandon)
            raise
        if call.error is not None:
            raise call.error
        return call.result  # type: ignore[return-value]

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs `last()`, then stops the loop and ends the thread. Idempotent; after a fork there is nothing to stop."""
        if self._pid != os.getpid():
            return
        with self._lock:
            if self._closed:
                return
            try:
                self.call(last())
            finally:
                self._closed = True
                self.loop.call_soon_threadsafe(self.loop.stop)
                self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            self.ended = True
            self.loop.run_until_complete(self._end())
        finally:
            self.loop.close()
            self._fail_calls()

    async def _end(self) -> None:
        """Ends what is still under way."""
        tasks = asyncio.all_tasks(self.loop) - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._fail_calls()
        await self.loop.shutdown_asyncgens()

    def _fail_calls(self) -> None:
        """Nobody is left waiting, not even for what came too late for the loop to see."""
        for call in list(self.calls):
            call.fail(ClientClosed("the client was closed during the call", may_have_applied=True))
