"""What both sides are asked to do: the same keys, values and order of operations, and the contract a side's client fulfils.

100,000 keys, values of 100 random bytes (LevelDB compresses its tables, so repeated bytes would flatter it), uniformly chosen keys
in an order that a seed fixes, so that both sides get the very same operations within a round.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from typing import Protocol

from kvclient.bench.loop import Operation

KEYS = 100_000
VALUE_BYTES = 100
MANY_KEYS = 1_000
LARGE_VALUE_BYTES = 1_000_000
LOAD_IN_FLIGHT = 4


def numbered_key(number: int) -> bytes:
    """A key of the space that `Workload.fill` fills."""
    return b"bench/filled/%012d" % number


class Target(Protocol):
    """One side's client, as a Python program would use it. Every call raises if the store did not do it."""

    async def put(self, key: bytes, value: bytes) -> None:
        """Durable on two of three replicas (a majority of the members) when it returns."""

    async def get(self, key: bytes) -> bytes:
        """The value; raises KeyError if there is none, so that misses cannot pass for fast reads."""

    async def put_many(self, items: dict[bytes, bytes]) -> None:
        """All items, by the fastest means the side's client offers to one caller."""

    async def get_many(self, keys: list[bytes]) -> list[bytes]:
        """Their values, by the fastest means the side's client offers to one caller. Raises KeyError if one is missing."""

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
        """`kind` is put, get, mix (alternating, over `keys`, by default all), many (one call puts MANY_KEYS distinct keys) or
        many-gets (one call reads so many).

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

        async def many_gets(i: int) -> None:
            values = await target.get_many(list(self.chunk(i)))
            assert len(values) == MANY_KEYS and len(values[-1]) == VALUE_BYTES, "values are missing or of another length"

        return {"put": put, "get": get, "mix": mix, "many": many, "many-gets": many_gets}[kind]

    def chunk(self, i: int) -> dict[bytes, bytes]:
        """The i-th run of MANY_KEYS neighbouring keys with their values; wraps around."""
        first = i * MANY_KEYS % len(self.keys)
        return {key: self.value(i + at) for at, key in enumerate(self.keys[first : first + MANY_KEYS])}

    async def load(self, target: Target) -> None:
        """Puts every key once, a few `put_many` calls in flight. Raises what a call raises."""
        await self._put_chunks(target, (self.chunk(first // MANY_KEYS) for first in range(0, len(self.keys), MANY_KEYS)))

    async def fill(self, target: Target, *, first: int, keys: int) -> None:
        """Puts `keys` keys of another key space, from number `first` on, as `load` does."""
        starts = range(first, first + keys, MANY_KEYS)
        chunks = (
            {numbered_key(at): self.value(at) for at in range(start, min(start + MANY_KEYS, first + keys))} for start in starts
        )
        await self._put_chunks(target, chunks)

    @staticmethod
    async def _put_chunks(target: Target, chunks: Iterator[dict[bytes, bytes]]) -> None:
        async def loader() -> None:
            for chunk in chunks:
                await target.put_many(chunk)

        async with asyncio.TaskGroup() as group:
            for _ in range(LOAD_IN_FLIGHT):
                group.create_task(loader())
