"""The load: callers that write unique values to keys of their own, by single puts and by put_many, and time each acknowledgement.

One caller per key and one write of a key at a time, so each put supersedes those before it and kvchaos' checker can judge what is
found later. An attempt is *unknown* until the client has heard otherwise, also when its caller is cancelled.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Collection, Iterator
from contextlib import suppress

from kvchaos.checkers.lost_writes import Fate, Write
from kvclient import AsyncClient
from kvclient.errors import BatchError
from kvclient.values import PutResult
from kvproto.errors import KvError
from tests.durability.verdict import Ack

SINGLES = 12
BULKS = 3
BULK_KEYS = 20
KEYS_EACH = 60
VALUE_BYTES = 900
LARGES = 1
LARGE_VALUE_BYTES = 70_000  # beside the database
CALL_TIMEOUT_S = 3.0
READ_KEYS = 100


class Load:
    """Callers that write until cancelled. `writes` is everything they tried, `acks` what they were acknowledged."""

    def __init__(self, client: AsyncClient, rng: random.Random) -> None:
        self.acks: list[Ack] = []
        self._client = client
        self._rng = rng
        self._attempts: dict[bytes, Write] = {}
        self._chains: dict[str, list[bytes]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._progress = asyncio.Event()

    @property
    def writes(self) -> list[Write]:
        """Every attempt with what is known of its outcome."""
        return list(self._attempts.values())

    def start(self) -> None:
        """Lets the callers go."""
        singles = [self._put(f"single/{number}") for number in range(SINGLES)]
        larges = [self._put(f"large/{number}", LARGE_VALUE_BYTES) for number in range(LARGES)]
        bulks = [self._put_many(f"bulk/{number}") for number in range(BULKS)]
        callers = [*singles, *larges, *bulks]
        self._tasks = [asyncio.create_task(caller, name=f"caller-{number}") for number, caller in enumerate(callers)]

    async def acknowledged(self, count: int, *, timeout_s: float) -> None:
        """Returns once `count` writes have been acknowledged altogether. Raises `TimeoutError`, or what a caller died of."""
        async with asyncio.timeout(timeout_s):
            while len(self.acks) < count:
                self._progress.clear()
                await self._progress.wait()
                for task in self._tasks:
                    if task.done():
                        task.result()

    async def cancel(self) -> None:
        """Ends the callers where they are; what they were waiting for stays unknown."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task

    async def read_all(self, client: AsyncClient, *, timeout_s: float, refused_is_lost: bool = False) -> dict[str, list[bytes]]:
        """Every key that was written to, with the values it holds, at the default level. Raises if one cannot be read, unless that
        counts as holding nothing."""
        found: dict[str, list[bytes]] = {}
        keys = sorted({write.key for write in self._attempts.values()})
        for at in range(0, len(keys), READ_KEYS):
            try:
                entries = await client.get_many(keys[at : at + READ_KEYS], timeout_s=timeout_s)
            except BatchError as error:
                if not refused_is_lost:
                    raise
                entries = error.results
            found |= {key: entry.values for key, entry in entries.items()}
        return found

    async def _put(self, prefix: str, value_bytes: int = VALUE_BYTES) -> None:
        for keys in self._rounds(prefix, 1):
            items = self._begin(keys, value_bytes)
            ((key, value),) = items.items()
            try:
                result = await self._client.put(key, value, level="quorum", timeout_s=CALL_TIMEOUT_S)
            except KvError as error:
                self._failed(key, value, error)
            else:
                self._acknowledged(items, {key: result})

    async def _put_many(self, prefix: str) -> None:
        for keys in self._rounds(prefix, BULK_KEYS):
            items = self._begin(keys)
            try:
                results = await self._client.put_many(items, level="quorum", timeout_s=CALL_TIMEOUT_S)
            except BatchError as error:
                self._acknowledged(items, error.results)
                for key, one in error.errors.items():
                    self._failed(key, items[key], one)
            except KvError as error:
                for key, value in items.items():
                    self._failed(key, value, error)
            else:
                self._acknowledged(items, results)

    def _rounds(self, prefix: str, count: int) -> Iterator[list[str]]:
        """Keys to write to, `count` at a time, without end."""
        while True:
            yield [f"{prefix}/{number}" for number in self._rng.sample(range(KEYS_EACH), count)]

    def _begin(self, keys: Collection[str], value_bytes: int = VALUE_BYTES) -> dict[str, bytes]:
        items: dict[str, bytes] = {}
        for key in keys:
            chain = self._chains.setdefault(key, [])
            value = b"%08d." % len(self._attempts) + self._rng.randbytes(value_bytes)
            self._attempts[value] = Write(key, value, Fate.UNKNOWN, frozenset(chain))
            chain.append(value)
            items[key] = value
        return items

    def _acknowledged(self, items: dict[str, bytes], results: dict[str, PutResult]) -> None:
        at_ns = time.monotonic_ns()
        for key, result in results.items():
            self.acks.append(Ack(key, items[key], at_ns, result.receipt.acknowledged))
            self._settle(items[key], Fate.ACKNOWLEDGED)
        self._progress.set()

    def _failed(self, key: str, value: bytes, error: KvError) -> None:
        if not error.may_have_applied:
            self._chains[key].remove(value)
            self._settle(value, Fate.REFUSED)

    def _settle(self, value: bytes, fate: Fate) -> None:
        attempt = self._attempts[value]
        self._attempts[value] = Write(attempt.key, value, fate, attempt.knew)
