"""kvstore's client as a Python program uses it (contract.md, section 3): a `workload.Target` at W = R = 2 of 3."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from kvclient import AsyncClient

MANY_TIMEOUT_S = 30.0
REGISTERS = "registers"
"""The linearizable namespace of the nodes."""


class KvClient:
    """One AsyncClient over the nodes at `addresses` (host:port). Made by `open`, inside a running event loop."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._strict: dict[str, Any] = {"sloppy": False} if "sloppy" in inspect.signature(client.put).parameters else {}

    @classmethod
    async def open(cls, addresses: Sequence[str]) -> KvClient:
        """Connects. Raises KvError."""
        return cls(await AsyncClient(",".join(addresses)).__aenter__())

    async def put(self, key: bytes, value: bytes) -> None:
        """One put. Its level is explicit, so it is met or refused, never degraded. Raises KvError."""
        await self._client.put(key, value, level="quorum")

    async def get(self, key: bytes) -> bytes:
        """One get at level quorum. Raises KeyError if there is no such key, KvError."""
        entry = await self._client.get(key, level="quorum")
        if entry.value is None:
            raise KeyError(key)
        return entry.value

    async def put_many(self, items: dict[bytes, bytes]) -> None:
        """One put_many at level quorum, with the patience of `kv load`. Raises BatchError if any item failed."""
        await self._client.put_many(items, level="quorum", timeout_s=MANY_TIMEOUT_S)

    async def get_many(self, keys: list[bytes]) -> list[bytes]:
        """One get_many at level quorum. Raises KeyError if one is missing, BatchError if one could not be read."""
        entries = await self._client.get_many(keys, level="quorum")
        values = [entries[key].value for key in keys]
        if None in values:
            raise KeyError(keys[values.index(None)])
        return [value for value in values if value is not None]

    async def put_strict(self, key: bytes, value: bytes, *, timeout_s: float) -> None:
        """A put that no stand-in may answer, with a deadline. Raises KvError."""
        await self._client.put(key, value, level="quorum", timeout_s=timeout_s, **self._strict)

    async def close(self) -> None:
        """Closes the client."""
        await self._client.__aexit__(None, None, None)


class RegisterClient:
    """The same over the linearizable namespace: puts are decided by consensus, gets are linearizable."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._space = client.namespace(REGISTERS)

    @classmethod
    async def open(cls, addresses: Sequence[str]) -> RegisterClient:
        """Connects. Raises KvError."""
        return cls(await AsyncClient(",".join(addresses)).__aenter__())

    async def put(self, key: bytes, value: bytes) -> None:
        """One put. Raises KvError."""
        await self._space.put(key, value)

    async def get(self, key: bytes) -> bytes:
        """One linearizable get. Raises KeyError if there is no such key, KvError."""
        entry = await self._space.get(key, level="linearizable")
        if entry.value is None:
            raise KeyError(key)
        return entry.value

    async def put_many(self, items: dict[bytes, bytes]) -> None:
        """One put_many, with the patience of `kv load`. Raises BatchError if any item failed."""
        await self._space.put_many(items, timeout_s=MANY_TIMEOUT_S)

    async def get_many(self, keys: list[bytes]) -> list[bytes]:
        """One get_many. Raises KeyError if one is missing, BatchError if one could not be read."""
        entries = await self._space.get_many(keys, level="linearizable")
        values = [entries[key].value for key in keys]
        if None in values:
            raise KeyError(keys[values.index(None)])
        return [value for value in values if value is not None]

    async def put_strict(self, key: bytes, value: bytes, *, timeout_s: float) -> None:
        """A put with a deadline. Raises KvError."""
        await self._space.put(key, value, timeout_s=timeout_s)

    async def close(self) -> None:
        """Closes the client."""
        await self._client.__aexit__(None, None, None)
