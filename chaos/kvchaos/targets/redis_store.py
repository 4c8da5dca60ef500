"""The primary of a replicated Redis as a store of workloads; whoever fails over re-points it.

A reply that says no is a refusal; any other failure leaves a write's outcome unknown. redis-py tries three times by default: here
an operation of the history is one request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from kvchaos.registers import Item, Stored, Swap
from kvchaos.targets.doors import split
from kvproto.errors import AvailabilityError, ConditionFailed

COMPARE_AND_SET = """
local held = redis.call('GET', KEYS[1])
if (ARGV[1] == 'absent' and held == false) or (ARGV[1] == 'present' and held == ARGV[2]) then
  redis.call('SET', KEYS[1], ARGV[3])
  return {1, false}
end
return {0, held}
"""


class RedisStore:
    """Implements `kvchaos.registers.Register`, and `kvchaos.workloads.KeyValue`, whose contexts are the values that were read.
    Calls go to `node` of `addresses` until it is re-pointed; one at a time."""

    def __init__(self, addresses: Mapping[str, str], node: str) -> None:
        self.node = node
        self._addresses = dict(addresses)
        self._client: Redis | None = None
        self._lock = asyncio.Lock()

    async def repoint(self, node: str) -> None:
        """Goes on at another server, once what is under way has ended."""
        async with self._lock:
            await self._disconnect()
            self.node = node

    async def get(self, key: str, *, timeout_s: float) -> Item:
        """GET."""
        value = await self._call(timeout_s, "GET", key, writes=False)
        return Item(value, b"" if value is None else value)

    async def put(self, key: str, value: bytes, *, context: bytes | None = None, timeout_s: float) -> Stored:
        """SET; with a context only over what it was read with. Raises `ConditionFailed` where that was replaced since."""
        if context is None:
            await self._call(timeout_s, "SET", key, value, writes=True)
        elif not (await self.compare_and_set(key, context or None, value, timeout_s=timeout_s)).applied:
            raise ConditionFailed(f"{key} was written since")
        return Stored()

    async def delete(self, key: str, *, timeout_s: float) -> Stored:
        """DEL."""
        await self._call(timeout_s, "DEL", key, writes=True)
        return Stored()

    async def compare_and_set(self, key: str, old: bytes | None, new: bytes, *, timeout_s: float) -> Swap:
        """Writes `new` where `old` is, in a script, which nothing interrupts; else tells what is."""
        condition = ("absent", b"") if old is None else ("present", old)
        applied, held = await self._call(timeout_s, "EVAL", COMPARE_AND_SET, 1, key, *condition, new, writes=True)
        return Swap(applied=True) if applied else Swap(applied=False, found=Item(held, held or b""))

    async def close(self) -> None:
        """Closes the connection."""
        await self._disconnect()

    async def _call(self, timeout_s: float, *command: Any, writes: bool) -> Any:
        async with self._lock:
            if self._client is None:
                host, port = split(self._addresses[self.node])
                self._client = Redis(host=host, port=port, single_connection_client=True, retry=Retry(NoBackoff(), 0))
            try:
                async with asyncio.timeout(timeout_s):
                    execute: Callable[..., Awaitable[Any]] = self._client.execute_command
                    return await execute(*command)
            except ResponseError as error:
                raise AvailabilityError(str(error)) from error  # READONLY, LOADING, …: it says no
            except (RedisError, OSError, TimeoutError) as error:
                await self._disconnect()  # an answer that comes late must not be taken for the next one's
                raise AvailabilityError(f"{type(error).__name__}: {error}", may_have_applied=writes) from error

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()
