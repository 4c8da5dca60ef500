"""The blocking client: the same methods as `AsyncClient`, for code without an event loop. Safe to use from several threads.

It runs an `AsyncClient` on a loop of its own in a background thread, so that operations of several threads travel in one batch
just as those of several tasks do. After a fork that thread does not exist: every call then raises `ForkedClient` instead of
waiting for ever.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from types import TracebackType
from typing import Any, Self, TypeVar

from kvclient.async_client import AsyncClient
from kvclient.errors import ClientClosed, ForkedClient
from kvclient.namespace import AsyncNamespace, Key, KeyT
from kvclient.values import Entry, PutResult
from kvproto.columns import ClusterInfo, Level, NodeStatus

T = TypeVar("T")

SCAN_CHUNK = 256
"""Entries that cross from the loop's thread at a time."""


class _Bridge:
    """A thread with an event loop, and the way to run something on it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._pid = os.getpid()
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="kvclient", daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs `work` on the loop and waits. Raises what it raises, `ForkedClient`, `ClientClosed`."""
        if self._pid != os.getpid():
            work.close()
            raise ForkedClient("the process was forked after this client was opened: open one after the fork")
        if self._closed:
            work.close()
            raise ClientClosed("the client was closed")
        waiting: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return waiting.result()
        except CancelledError as error:
            raise ClientClosed("the client was closed during the call", may_have_applied=True) from error
        except BaseException:
            waiting.cancel()  # interrupted: nobody is left to take the answer
            raise

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """Runs `last`, then stops the loop and ends the thread. Idempotent; after a fork there is nothing to stop."""
        with self._lock:
            if self._closed or self._pid != os.getpid():
                last.close()
                return
            try:
                self.call(last)
            finally:
                self._closed = True
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()


class Namespace:
    """`AsyncNamespace`, blocking: see there for what each method promises and raises."""

    def __init__(self, inner: AsyncNamespace, bridge: _Bridge) -> None:
        self.name = inner.name
        self._inner = inner
        self._bridge = bridge

    def get(
        self, key: Key, *, level: Level | str | None = None, r: int = 0, timeout_s: float | None = None, explain: bool = False
    ) -> Entry:
        """What `key` holds."""
        return self._bridge.call(self._inner.get(key, level=level, r=r, timeout_s=timeout_s, explain=explain))

    def put(
        self,
        key: Key,
        value: bytes,
        *,
        ttl_s: float | None = None,
        context: bytes | None = None,
        level: Level | str | None = None,
        w: int = 0,
        if_absent: bool = False,
        if_version: str | None = None,
        timeout_s: float | None = None,
        explain: bool = False,
    ) -> PutResult:
        """Stores `value`."""
        return self._bridge.call(
            self._inner.put(
                key,
                value,
                ttl_s=ttl_s,
                context=context,
                level=level,
                w=w,
                if_absent=if_absent,
                if_version=if_version,
                timeout_s=timeout_s,
                explain=explain,
            )
        )

    def delete(
        self,
        key: Key,
        *,
        context: bytes | None = None,
        level: Level | str | None = None,
        w: int = 0,
        timeout_s: float | None = None,
        explain: bool = False,
    ) -> PutResult:
        """Removes what `put` would have replaced."""
        return self._bridge.call(self._inner.delete(key, context=context, level=level, w=w, timeout_s=timeout_s, explain=explain))

    def get_many(
        self,
        keys: Iterable[KeyT],
        *,
        level: Level | str | None = None,
        r: int = 0,
        timeout_s: float | None = None,
        explain: bool = False,
    ) -> dict[KeyT, Entry]:
        """An `Entry` for each key, as given."""
        return self._bridge.call(self._inner.get_many(keys, level=level, r=r, timeout_s=timeout_s, explain=explain))

    def put_many(
        self,
        items: Mapping[KeyT, bytes],
        *,
        ttl_s: float | None = None,
        level: Level | str | None = None,
        w: int = 0,
        timeout_s: float | None = None,
        explain: bool = False,
    ) -> dict[KeyT, PutResult]:
        """Stores every item."""
        return self._bridge.call(self._inner.put_many(items, ttl_s=ttl_s, level=level, w=w, timeout_s=timeout_s, explain=explain))

    def delete_many(
        self,
        keys: Iterable[KeyT],
        *,
        level: Level | str | None = None,
        w: int = 0,
        timeout_s: float | None = None,
        explain: bool = False,
    ) -> dict[KeyT, PutResult]:
        """Removes every key."""
        return self._bridge.call(self._inner.delete_many(keys, level=level, w=w, timeout_s=timeout_s, explain=explain))

    def scan(
        self,
        prefix: Key = b"",
        *,
        start: Key = b"",
        end: Key = b"",
        after: Key = b"",
        limit: int = 0,
        level: Level | str | None = None,
        r: int = 0,
        timeout_s: float | None = None,
    ) -> Iterator[Entry]:
        """The entries in key order."""
        entries = self._inner.scan(prefix, start=start, end=end, after=after, limit=limit, level=level, r=r, timeout_s=timeout_s)

        async def chunk() -> list[Entry]:
            taken: list[Entry] = []
            async for entry in entries:
                taken.append(entry)
                if len(taken) >= SCAN_CHUNK:
                    break
            return taken

        while taken := self._bridge.call(chunk()):
            yield from taken

    def __repr__(self) -> str:
        return f"<Namespace {self.name!r}>"


class Admin:
    """`AsyncAdmin`, blocking."""

    def __init__(self, client: AsyncClient, bridge: _Bridge) -> None:
        self._inner = client.admin
        self._bridge = bridge

    def describe(self, *, timeout_s: float | None = None) -> ClusterInfo:
        """The ring, limits and namespaces, asked for now."""
        return self._bridge.call(self._inner.describe(timeout_s=timeout_s))

    def status(self, *, timeout_s: float | None = None) -> list[NodeStatus]:
        """A row a member."""
        return self._bridge.call(self._inner.status(timeout_s=timeout_s))

    def create_namespace(self, name: str, *, preset: str = "pa-ec") -> None:
        """Namespaces are configured: always raises `WrongMode`, saying what to write where."""
        self._bridge.call(self._inner.create_namespace(name, preset=preset))


class Client(Namespace):
    """A blocking client of a cluster, and by itself its default namespace. `with Client(…) as client`, or call `close`.

    Takes what `AsyncClient` takes.
    """

    def __init__(self, target: str = "", **options: Any) -> None:
        self._client = AsyncClient(target, **options)
        super().__init__(self._client, _Bridge())
        self.admin = Admin(self._client, self._bridge)

    def namespace(self, name: str) -> Namespace:
        """The namespace `name`; no I/O."""
        return Namespace(self._client.namespace(name), self._bridge)

    def connect(self) -> None:
        """Finds a node and learns the ring; every operation does so by itself."""
        self._bridge.call(self._connect())

    def close(self) -> None:
        """Ends operations under way with `ClientClosed`, lets go of every node and ends the thread. Idempotent."""
        self._bridge.close(self._client.close())

    async def _connect(self) -> None:
        await self._client.connect()

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client {self._client.target!r}>"
