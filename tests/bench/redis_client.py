"""Redis through redis-py's asyncio client: a connection for each operation under way, as it is quickest, kept for the next one.

With `wait`, a write is SET and WAIT 1 in one round trip: it is on the primary and on one replica when it returns, which is what a
quorum of three means. A server with `appendfsync always`
syncs its log before it sends what it has to say, so WAIT's answer comes after the sync of both.
"""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio import Redis

PIPELINE_COMMANDS = 64
WAIT_TIMEOUT_MS = 5_000


class TooFewReplicas(Exception):
    """WAIT came back without a replica: the write is not where it has to be."""


class RedisClient:
    """A `workload.Target` over the server at `address` (host:port). Made inside a running event loop."""

    def __init__(self, address: str, *, wait: bool) -> None:
        self._host, _, self._port = address.rpartition(":")
        self._wait = wait
        self._idle: list[Redis] = []
        self._all: list[Redis] = []

    async def put(self, key: bytes, value: bytes) -> None:
        """SET, and WAIT 1 with it. Raises RedisError, `TooFewReplicas`."""
        await self.put_strict(key, value, timeout_s=WAIT_TIMEOUT_MS / 1_000)

    async def put_strict(self, key: bytes, value: bytes, *, timeout_s: float) -> None:
        """The same with a deadline for the replica."""
        connection = self._take()
        if self._wait:
            pipeline = connection.pipeline(transaction=False)
            pipeline.execute_command("SET", key, value)
            pipeline.execute_command("WAIT", 1, int(timeout_s * 1_000))
            _, replicas = await pipeline.execute()
            _check(replicas)
        else:
            await connection.set(key, value)
        self._idle.append(connection)

    async def get(self, key: bytes) -> bytes:
        """GET. Raises KeyError if there is no such key, RedisError."""
        connection = self._take()
        value = await connection.get(key)
        self._idle.append(connection)
        if value is None:
            raise KeyError(key)
        assert isinstance(value, bytes), "replies are not decoded"
        return value

    async def put_many(self, items: dict[bytes, bytes]) -> None:
        """Pipelines of 64 SETs, each with one WAIT 1 at its end, all under way together."""
        pairs = list(items.items())
        await asyncio.gather(
            *(self._put_pipeline(pairs[at : at + PIPELINE_COMMANDS]) for at in range(0, len(pairs), PIPELINE_COMMANDS))
        )

    async def get_many(self, keys: list[bytes]) -> list[bytes]:
        """Pipelines of 64 GETs, all under way together. Raises KeyError if one is missing."""
        parts = await asyncio.gather(
            *(self._get_pipeline(keys[at : at + PIPELINE_COMMANDS]) for at in range(0, len(keys), PIPELINE_COMMANDS))
        )
        return [value for part in parts for value in part]

    async def close(self) -> None:
        """Closes every connection."""
        await asyncio.gather(*(connection.aclose() for connection in self._all))

    def _take(self) -> Redis:
        if self._idle:
            return self._idle.pop()
        connection = Redis(host=self._host, port=int(self._port), single_connection_client=True)
        self._all.append(connection)
        return connection

    async def _put_pipeline(self, pairs: list[tuple[bytes, bytes]]) -> None:
        connection = self._take()
        pipeline = connection.pipeline(transaction=False)
        for key, value in pairs:
            pipeline.execute_command("SET", key, value)
        if self._wait:
            pipeline.execute_command("WAIT", 1, WAIT_TIMEOUT_MS)
        replies: list[Any] = await pipeline.execute()
        if self._wait:
            _check(replies[-1])
        self._idle.append(connection)

    async def _get_pipeline(self, keys: list[bytes]) -> list[bytes]:
        connection = self._take()
        pipeline = connection.pipeline(transaction=False)
        for key in keys:
            pipeline.execute_command("GET", key)
        values: list[bytes | None] = await pipeline.execute()
        self._idle.append(connection)
        return [value if value is not None else _missing(key) for key, value in zip(keys, values, strict=True)]


def _check(replicas: int) -> None:
    if replicas < 1:
        raise TooFewReplicas("no replica has the write")


def _missing(key: bytes) -> bytes:
    raise KeyError(key)
