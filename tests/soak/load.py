"""What the soak's clients do: puts, gets, deletes and many keys at once, each worker on keys of its own, so that it knows at any
time what each must hold. A read that shows anything older than what was acknowledged is a broken promise at once, not only at the
end.
"""

from __future__ import annotations

import asyncio
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from kvproto.errors import KvError

KEYS_OF_A_WORKER = 200
MANY = 20
DELETED = -1
PAUSE_AFTER_ERROR_S = 0.02


@dataclass(slots=True)
class Held:
    """What a key may hold: the newest write that was acknowledged (its serial, with which its value begins), or one of those of
    unknown outcome since."""

    serial: int = DELETED
    unknown: set[int] = field(default_factory=set)

    def acknowledged(self, serial: int) -> None:
        self.serial = serial
        self.unknown.clear()

    def explains(self, values: Sequence[bytes]) -> bool:
        """Whether a read may show `values`: siblings are right only if a write of unknown outcome is among them."""
        may_be = {self.serial, *self.unknown}
        if not values:
            return DELETED in may_be
        return {int(value.partition(b":")[0]) for value in values} <= may_be and (len(values) == 1 or bool(self.unknown))


class Load:
    """`workers` operations in flight until `stop`. Latencies are of operations that ended well, in µs, with when they ended."""

    def __init__(self, store: Any, *, workers: int, rng: Random) -> None:
        self.operations = 0
        self.errors: Counter[str] = Counter()
        self.broken: list[str] = []
        self.ended_s = array("d")
        self.latencies_us = array("d")
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._keys: dict[str, Held] = {}
        self._serial = 0
        self._stopping = False
        rngs = [Random(rng.getrandbits(64)) for _ in range(workers)]
        self._tasks = [asyncio.create_task(self._work(at, own), name=f"worker-{at}") for at, own in enumerate(rngs)]

    async def stop(self) -> None:
        """Lets each worker finish what it has begun; raises what one died of."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def verify(self) -> int:
        """Reads every key; adds to `broken` what none of its writes explains. How many keys there are."""
        keys = list(self._keys)
        for first in range(0, len(keys), 1000):
            found = await self._store.get_many(keys[first : first + 1000], timeout_s=30)
            for key, entry in found.items():
                self._judge(key, entry.values)
        return len(keys)

    def percentile_ms(self, share: float, from_s: float, to_s: float) -> float:
        """Of the latencies of what ended between `from_s` and `to_s` of the loop's clock."""
        inside = sorted(self.latencies_us[bisect_left(self.ended_s, from_s) : bisect_left(self.ended_s, to_s)])
        return inside[min(len(inside) - 1, int(share * len(inside)))] / 1000 if inside else 0.0

    async def _work(self, worker: int, rng: Random) -> None:
        keys = [f"{worker}/{at}" for at in range(KEYS_OF_A_WORKER)]
        self._keys.update({key: Held() for key in keys})
        while not self._stopping:
            begun_s = self._loop.time()
            try:
                await self._one(keys, rng)
            except KvError as error:
                self.errors[f"{type(error).__name__}: {error.message}"[:200]] += 1
                await asyncio.sleep(PAUSE_AFTER_ERROR_S)
                continue
            now_s = self._loop.time()
            self.operations += 1
            self.ended_s.append(now_s)
            self.latencies_us.append((now_s - begun_s) * 1e6)

    async def _one(self, keys: list[str], rng: Random) -> None:
        drawn = rng.random()
        if drawn < 0.45:
            key = rng.choice(keys)
            self._judge(key, (await self._store.get(key)).values)
        elif drawn < 0.90:
            await self._put([rng.choice(keys)], rng)
        elif drawn < 0.95:
            await self._delete(rng.choice(keys))
        elif drawn < 0.975:
            for key, entry in (await self._store.get_many(rng.sample(keys, MANY))).items():
                self._judge(key, entry.values)
        else:
            await self._put(rng.sample(keys, MANY), rng)

    async def _put(self, keys: list[str], rng: Random) -> None:
        serials = {key: self._next() for key in keys}
        values = {key: b"%d:" % serial + bytes(rng.randrange(20, 500)) for key, serial in serials.items()}
        self._begin(serials)
        if len(keys) == 1:
            await self._store.put(keys[0], values[keys[0]])
        else:
            await self._store.put_many(values)
        for key, serial in serials.items():
            self._keys[key].acknowledged(serial)

    async def _delete(self, key: str) -> None:
        self._begin({key: DELETED})
        await self._store.delete(key)
        self._keys[key].acknowledged(DELETED)

    def _begin(self, serials: dict[str, int]) -> None:
        """Until it is acknowledged a write is of unknown outcome, and stays so if it fails: then nothing is claimed of it."""
        for key, serial in serials.items():
            self._keys[key].unknown.add(serial)

    def _judge(self, key: str, values: Sequence[bytes]) -> None:
        held = self._keys[key]
        if not held.explains(values):
            shown = [value.partition(b":")[0].decode() for value in values]
            self.broken.append(f"{key} shows {shown}; acknowledged {held.serial}, unknown {sorted(held.unknown)}")

    def _next(self) -> int:
        self._serial += 1
        return self._serial
