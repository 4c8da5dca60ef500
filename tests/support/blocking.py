"""The blocking client behind the asyncio client's interface, so that one suite can hold both to the same behaviour."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from kvclient import AsyncClient, Client, Entry
from kvclient.blocking import Admin, Namespace


class Awaited:
    """Each method of a `Namespace` or `Client`, run on another thread and awaited."""

    def __init__(self, inner: Namespace | Admin) -> None:
        self._inner: Any = inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return _awaited(found) if callable(found) else found

    @property
    def admin(self) -> Any:
        assert isinstance(self._inner, Client)
        return Awaited(self._inner.admin)

    def namespace(self, name: str, **options: Any) -> Any:
        if isinstance(self._inner, Admin):
            return _awaited(self._inner.namespace)(name, **options)
        assert isinstance(self._inner, Client)
        return Awaited(self._inner.namespace(name, **options))

    def with_options(self, **options: Any) -> Awaited:
        assert isinstance(self._inner, Namespace)
        return Awaited(self._inner.with_options(**options))

    async def scan(self, *args: Any, **options: Any) -> AsyncIterator[Entry]:
        assert isinstance(self._inner, Namespace)
        entries = self._inner.scan(*args, **options)
        while True:
            entry = await asyncio.to_thread(next, entries, None)
            if entry is None:
                return
            yield entry

    async def __aenter__(self) -> Awaited:
        assert isinstance(self._inner, Client)
        await asyncio.to_thread(self._inner.connect)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert isinstance(self._inner, Client)
        await asyncio.to_thread(self._inner.close)


def _awaited(method: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def call(*args: Any, **options: Any) -> Any:
        return await asyncio.to_thread(method, *args, **options)

    return call


AnyClient = AsyncClient | Awaited
