"""Workloads: what clients do while faults happen, recorded as a history so that checkers can judge it.

`UniqueWrites` never writes the same value twice. Its writers do two things in turn, both with a causal past that the checker can
follow: a chain of puts without context on a key of their own, and read-modify-write on a key that all share.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Mapping, Sequence
from typing import NamedTuple, Protocol

from kvchaos.checkers.lost_writes import Fate, Write, writes_in
from kvchaos.history import Recorder
from kvproto.errors import KvError

PAUSE_AFTER_ERROR_S = 0.02


class Held(Protocol):
    """What a read found: `kvclient.Entry` is one."""

    @property
    def values(self) -> Sequence[bytes]:
        """Every sibling's value."""

    @property
    def context(self) -> bytes:
        """The causal context that covers them."""


class KeyValue(Protocol):
    """The part of the client that workloads use: a namespace of `kvclient.AsyncClient` is one."""

    def get(self, key: str, *, timeout_s: float) -> Awaitable[Held]:
        """Reads a key."""

    def put(self, key: str, value: bytes, *, context: bytes | None = None, timeout_s: float) -> Awaitable[object]:
        """Writes a key; raises `KvError`."""


class _Seen(NamedTuple):
    values: Sequence[bytes]
    context: bytes
    receipt: object


class Padded:
    """A store whose values take `value_bytes`: whoever writes and reads sees the name in front and not the zeros behind it."""

    def __init__(self, store: KeyValue, value_bytes: int) -> None:
        self._store = store
        self._value_bytes = value_bytes

    async def get(self, key: str, *, timeout_s: float) -> Held:
        """See `KeyValue.get`."""
        held = await self._store.get(key, timeout_s=timeout_s)
        return _Seen([value.rstrip(b"\0") for value in held.values], held.context, getattr(held, "receipt", None))

    async def put(self, key: str, value: bytes, *, context: bytes | None = None, timeout_s: float) -> object:
        """See `KeyValue.put`."""
        return await self._store.put(key, value.ljust(self._value_bytes, b"\0"), context=context, timeout_s=timeout_s)


class UniqueWrites:
    """`writers` coroutines that write until `stop`. What they do is written to `recorder`, by default one on the loop's clock."""

    def __init__(
        self,
        store: KeyValue,
        *,
        writers: int,
        own_keys: int,
        shared_keys: int,
        rng: random.Random,
        timeout_s: float = 3.0,
        recorder: Recorder | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.recorder = recorder or Recorder(lambda: int(loop.time() * 1e9))
        self.acknowledged = 0
        self._store = store
        self._own_keys = own_keys
        self._shared_keys = shared_keys
        self._timeout_s = timeout_s
        self._stopping = False
        self._progress = asyncio.Condition()
        # A chain's past must survive from one round to the next, so that a later put is known to replace an earlier one.
        self._chains: dict[str, list[bytes]] = {}
        self._serials = [0] * writers
        self._processes = list(range(writers))  # a new number after a call of unknown outcome
        self._rngs = [random.Random(rng.getrandbits(64)) for _ in range(writers)]
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def writes(self) -> list[Write]:
        """Everything they tried and what became of it."""
        return writes_in(self.recorder.history.events)

    def start(self) -> None:
        """Lets the writers go."""
        self._stopping = False
        self._tasks = [asyncio.create_task(self._write(number), name=f"writer-{number}") for number in range(len(self._rngs))]

    async def stop(self) -> None:
        """Lets each writer finish what it has begun; raises what a writer died of."""
        self._stopping = True
        await asyncio.gather(*self._tasks)
        self._tasks = []

    async def abort(self) -> None:
        """Ends the writers where they stand, when the run has failed anyway; nothing when they are stopped."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def acknowledge_more(self, count: int, *, timeout_s: float) -> None:
        """Returns once `count` more writes have been acknowledged; raises `TimeoutError`, or what a writer died of."""
        target = self.acknowledged + count
        async with asyncio.timeout(timeout_s), self._progress:
            await self._progress.wait_for(lambda: self.acknowledged >= target or self._failed())
        for task in self._tasks:
            if task.done():
                task.result()

    async def read_all(self, *, timeout_s: float) -> Mapping[str, Sequence[bytes]]:
        """Every key that was written to, with the values it holds now. A read that says of itself that it may have missed something
        (`degraded`) is made again until it does not, or the time is over."""
        keys = sorted({event.key for event in self.recorder.history.events if event.key is not None and "write" in event.facts})
        until_s = asyncio.get_running_loop().time() + timeout_s
        entries = await asyncio.gather(*(self._read_whole(key, timeout_s, until_s) for key in keys))
        return {key: entry.values for key, entry in zip(keys, entries, strict=True)}

    async def _read_whole(self, key: str, timeout_s: float, until_s: float) -> Held:
        loop = asyncio.get_running_loop()
        while True:
            entry = await self._store.get(key, timeout_s=timeout_s)
            if not getattr(getattr(entry, "receipt", None), "degraded", False) or loop.time() >= until_s:
                return entry
            await asyncio.sleep(PAUSE_AFTER_ERROR_S)

    def _failed(self) -> bool:
        return any(task.done() for task in self._tasks)

    async def _write(self, number: int) -> None:
        rng = self._rngs[number]
        try:
            while not self._stopping:
                if rng.random() < 0.5:
                    fate = await self._extend_chain(f"own/{number}/{rng.randrange(self._own_keys)}", number)
                else:
                    fate = await self._modify(f"shared/{rng.randrange(self._shared_keys)}", number)
                # Nobody there: do not spin. A store that answers at once: let the others have their turn.
                await asyncio.sleep(0 if fate is Fate.ACKNOWLEDGED else PAUSE_AFTER_ERROR_S)
        finally:
            async with self._progress:
                self._progress.notify_all()

    async def _extend_chain(self, key: str, number: int) -> Fate:
        """A put without context overwrites what the coordinator holds and what this client was acknowledged: the chain so far."""
        chain = self._chains.setdefault(key, [])
        fate = await self._put(key, number, frozenset(chain), context=None)
        if fate is Fate.ACKNOWLEDGED:
            chain.clear()  # whoever knows this one knows what it knew
        if fate is not Fate.REFUSED:
            chain.append(f"w{number}.{self._serials[number]}".encode())
        return fate

    async def _modify(self, key: str, number: int) -> Fate:
        """A put with the context of a read replaces exactly what was read; what others write meanwhile becomes a sibling."""
        process = self._processes[number]
        self.recorder.note(process, "invoke", "read", key=key)
        try:
            entry = await self._store.get(key, timeout_s=self._timeout_s)
        except KvError as error:
            self.recorder.note(process, "fail", "read", key=key, error=error.message)
            return Fate.REFUSED
        siblings = [value.decode() for value in entry.values]
        self.recorder.note(process, "ok", "read", key=key, value=single(siblings), siblings=siblings, context=entry.context.hex())
        return await self._put(key, number, frozenset(entry.values), context=entry.context)

    async def _put(self, key: str, number: int, knew: frozenset[bytes], *, context: bytes | None) -> Fate:
        value = self._next_value(number)
        process, name = self._processes[number], value.decode()
        self.recorder.note(
            process, "invoke", "write", key=key, value=name, write=name, knew=sorted(known.decode() for known in knew)
        )
        try:
            done = await self._store.put(key, value, context=context, timeout_s=self._timeout_s)
        except KvError as error:
            fate = Fate.UNKNOWN if error.may_have_applied else Fate.REFUSED
            self.recorder.note(process, fate.value, "write", key=key, value=name, error=error.message)
            if fate is Fate.UNKNOWN:
                self._processes[number] += len(self._processes)
            return fate
        receipt = getattr(done, "receipt", None)
        holders = [] if receipt is None else list(receipt.acknowledged)
        version = getattr(done, "version", "")
        self.recorder.note(process, "ok", "write", key=key, value=name, version=version, acknowledged=holders)
        self.acknowledged += 1
        async with self._progress:
            self._progress.notify_all()
        return Fate.ACKNOWLEDGED

    def _next_value(self, number: int) -> bytes:
        self._serials[number] += 1
        return f"w{number}.{self._serials[number]}".encode()


def single(siblings: Sequence[str]) -> str | list[str] | None:
    """What a history's `value` says of a read: nothing, one, or several."""
    return None if not siblings else siblings[0] if len(siblings) == 1 else list(siblings)
