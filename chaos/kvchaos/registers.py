"""Registers: what a store must offer for workloads of reads, writes, compare-and-set and deletes, and the workload itself.

Its history is for checkers/linearizability: values are unique, a condition that does not hold is a `fail` that says what was found,
and a key is given up for another after a few outcomes that are unknown, or a few hundred operations, so that it can be judged.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from kvchaos.history import Recorder
from kvproto.errors import KvError

UNKNOWN_A_KEY_MAX = 8
OPERATIONS_A_KEY_MAX = 300
PAUSE_AFTER_ERROR_S = 0.02
WEIGHTS = {"read": 8, "write": 4, "cas": 6, "put_if_absent": 1, "delete": 1}


@dataclass(frozen=True, slots=True)
class Item:
    """What a read found: a value or None, its context, and the place of its value in the key's order of commits, if it is told."""

    value: bytes | None
    context: bytes = b""
    order: int | None = None

    @property
    def values(self) -> Sequence[bytes]:
        """As a store of siblings would say it."""
        return [] if self.value is None else [self.value]


@dataclass(frozen=True, slots=True)
class Stored:
    """What a write became."""

    version: str = ""
    order: int | None = None


@dataclass(frozen=True, slots=True)
class Swap:
    """What a compare-and-set came to; `found` is what was there instead of `old`, None where that is not told."""

    applied: bool
    found: Item | None = None
    order: int | None = None


class Register(Protocol):
    """A store of single values. Whatever fails raises `KvError`, with `may_have_applied` unless it certainly was not applied."""

    @property
    def node(self) -> str:
        """Who is asked, for the history."""

    def get(self, key: str, *, timeout_s: float) -> Awaitable[Item]:
        """Reads a key."""

    def put(self, key: str, value: bytes, *, timeout_s: float) -> Awaitable[Stored]:
        """Writes a key."""

    def delete(self, key: str, *, timeout_s: float) -> Awaitable[Stored]:
        """Deletes a key."""

    def compare_and_set(self, key: str, old: bytes | None, new: bytes, *, timeout_s: float) -> Awaitable[Swap]:
        """Writes `new` if the key holds `old` (None: nothing)."""


class RegisterWorkload:
    """One process for each of `stores`, on `keys` registers at a time, until `stop`; written to `recorder`.

    `acknowledged` counts operations that were answered, by their `f`.
    """

    def __init__(
        self,
        stores: Sequence[Register],
        recorder: Recorder,
        *,
        rng: random.Random,
        keys: int = 3,
        timeout_s: float = 1.0,
        pace_s: float = 0.005,
    ) -> None:
        self.recorder = recorder
        self.acknowledged: Counter[str] = Counter()
        self._stores = list(stores)
        self._timeout_s = timeout_s
        self._pace_s = pace_s
        self._processes = list(range(len(self._stores)))  # a new number after a call of unknown outcome
        self._rngs = [random.Random(rng.getrandbits(64)) for _ in self._stores]
        self._generations = [0] * keys
        self._operations: Counter[str] = Counter()
        self._unknown: Counter[str] = Counter()
        self._seen: dict[str, str | None] = {}
        self._serial = 0
        self._stopping = False
        self._progress = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Lets the processes go."""
        self._stopping = False
        self._tasks = [asyncio.create_task(self._run(at), name=f"register-{at}") for at in range(len(self._stores))]

    async def stop(self) -> None:
        """Lets each process finish what it has begun; raises what one died of."""
        self._stopping = True
        await asyncio.gather(*self._tasks)
        self._tasks = []

    async def abort(self) -> None:
        """Ends the processes where they stand, when the run has failed anyway; nothing when they are stopped."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def acknowledge_more(self, count: int, *, timeout_s: float) -> None:
        """Returns once `count` more operations were answered; raises `TimeoutError`, or what a process died of."""
        target = self.acknowledged.total() + count
        async with asyncio.timeout(timeout_s), self._progress:
            await self._progress.wait_for(lambda: self.acknowledged.total() >= target or any(task.done() for task in self._tasks))
        for task in self._tasks:
            if task.done():
                task.result()

    async def _run(self, at: int) -> None:
        rng, store = self._rngs[at], self._stores[at]
        try:
            while not self._stopping:
                await self._operate(at, rng, store)
                async with self._progress:
                    self._progress.notify_all()
                await asyncio.sleep(self._pace_s)
        finally:
            async with self._progress:
                self._progress.notify_all()

    async def _operate(self, at: int, rng: random.Random, store: Register) -> None:
        key, fresh = self._key(rng), self._fresh(at)
        f = rng.choices(list(WEIGHTS), weights=list(WEIGHTS.values()))[0]
        timeout_s = self._timeout_s
        if f == "read":
            await self._call(at, f, key, None, lambda: store.get(key, timeout_s=timeout_s))
        elif f == "write":
            await self._call(at, f, key, fresh, lambda: store.put(key, fresh.encode(), timeout_s=timeout_s))
        elif f == "delete":
            await self._call(at, f, key, None, lambda: store.delete(key, timeout_s=timeout_s))
        else:
            old = None if f == "put_if_absent" else self._seen.get(key)
            value: Any = fresh if f == "put_if_absent" else [old, fresh]
            held = None if old is None else old.encode()
            await self._call(at, f, key, value, lambda: store.compare_and_set(key, held, fresh.encode(), timeout_s=timeout_s))

    async def _call(self, at: int, f: str, key: str, value: Any, send: Callable[[], Awaitable[Item | Stored | Swap]]) -> None:
        recorder, process, store = self.recorder, self._processes[at], self._stores[at]
        self._operations[key] += 1
        recorder.note(process, "invoke", f, key=key, value=value, node=store.node)
        try:
            done = await send()
        except KvError as error:
            unknown = f != "read" and error.may_have_applied
            recorder.note(process, "info" if unknown else "fail", f, key=key, value=value, node=store.node, error=error.message)
            if unknown:
                self._unknown[key] += 1
                self._processes[at] += len(self._processes)
            await asyncio.sleep(PAUSE_AFTER_ERROR_S)  # nobody there: do not spin
            return
        self.acknowledged[f] += 1
        facts: dict[str, Any] = {}
        if isinstance(done, Swap) and not done.applied:
            facts = {"mismatch": True} if done.found is None else {"found": _text(done.found)}
            recorder.note(process, "fail", f, key=key, value=value, node=store.node, **facts)
            self._seen[key] = facts.get("found")
            return
        if done.order is not None:
            facts["order"] = done.order
        if isinstance(done, Item):
            value = _text(done)
        recorder.note(process, "ok", f, key=key, value=value, node=store.node, **facts)
        self._seen[key] = value[1] if f == "cas" else value

    def _key(self, rng: random.Random) -> str:
        number = rng.randrange(len(self._generations))
        key = f"r{number}.{self._generations[number]}"
        if self._unknown[key] >= UNKNOWN_A_KEY_MAX or self._operations[key] >= OPERATIONS_A_KEY_MAX:
            self._generations[number] += 1
            key = f"r{number}.{self._generations[number]}"
        return key

    def _fresh(self, at: int) -> str:
        self._serial += 1
        return f"v{at}.{self._serial}"


def _text(item: Item) -> str | None:
    return None if item.value is None else item.value.decode(errors="replace")
