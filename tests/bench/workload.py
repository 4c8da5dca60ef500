"""What both sides are asked to do: the same keys, values and order of operations, and the contract a side's client fulfils.

100,000 keys, values of 100 random bytes (LevelDB compresses its tables, so repeated bytes would flatter it), uniformly chosen keys
in an order that a seed fixes, so that both sides get the very same operations within a round.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Protocol

from kvclient.bench.loop import Operation

KEYS = 100_000
VALUE_BYTES = 100
MANY_KEYS = 1_000
LARGE_VALUE_BYTES = 1_000_000
LOAD_IN_FLIGHT = 4


class Target(Protocol):
    """One side's client, as a Python program would use it. Every call raises if the store did not do it."""

    async def put(self, key: bytes, value: bytes) -> None:
        """Durable on two of three replicas (a majority of the members) when it returns."""

    async def get(self, key: bytes) -> bytes:
        """The value; raises KeyError if there is none, so that misses cannot pass for fast reads."""

    async def put_many(self, items: dict[bytes, bytes]) -> None:
        """All items, by the fastest means the side's client offers to one caller."""

    async def put_strict(self, key: bytes, value: bytes, *, timeout_s: float) -> None:
        """Like `put`, but only home replicas count: waits for them until `timeout_s`."""

    async def close(self) -> None:
        """Closes the connections."""


class Workload:
    """Keys, values and the orders in which they are used."""

    def __init__(self, *, keys: int = KEYS) -> None:
        source = random.Random("kvstore-bench")
        self.keys = [b"bench/%08d" % i for i in range(keys)]
        self._values = [source.randbytes(VALUE_BYTES) for _ in range(1_024)]
        self.large_value = source.randbytes(LARGE_VALUE_BYTES)

    def value(self, i: int) -> bytes:
        """The value of the i-th put."""
        return self._values[i % len(self._values)]

    def order(self, seed: str, keys: Sequence[bytes] = ()) -> list[bytes]:
        """200,000 keys chosen uniformly from `keys`, by default from all; the same for the same seed in every process."""
        return random.Random(seed).choices(keys or self.keys, k=200_000)

    def operation(self, kind: str, target: Target, *, seed: str, keys: Sequence[bytes] = ()) -> Operation:
        """`kind` is put, get, mix (alternating, over `keys`, by default all) or many (one call puts MANY_KEYS distinct keys).

        The operation raises if it was not answered, or answered wrongly.
        """
        order = self.order(seed, keys)

        async def put(i: int) -> None:
            await target.put(order[i % len(order)], self.value(i))

        async def get(i: int) -> None:
            value = await target.get(order[i % len(order)])
            assert len(value) == VALUE_BYTES, f"read {len(value)} bytes where {VALUE_BYTES} were written"

        async def mix(i: int) -> None:
            await (get(i) if i % 2 else put(i))

        async def many(i: int) -> None:
            await target.put_many(self.chunk(i))

        return {"put": put, "get": get, "mix": mix, "many": many}[kind]

    def chunk(self, i: int) -> dict[bytes, bytes]:
        """The i-th run of MANY_KEYS neighbouring keys with their values; wraps around."""
        first = i * MANY_KEYS % len(self.keys)
        return {key: self.value(i + at) for at, key in enumerate(self.keys[first : first + MANY_KEYS])}

    async def load(self, target: Target) -> None:
        """Puts every key once, a few `put_many` calls in flight. Raises what a call raises."""
        chunks = iter(range(0, len(self.keys), MANY_KEYS))

        async def loader() -> None:
            for first in chunks:
                await target.put_many(self.chunk(first // MANY_KEYS))

        async with asyncio.TaskGroup() as group:
            for _ in range(LOAD_IN_FLIGHT):
                group.create_task(loader())
