"""Carries out operations on a store and writes down what happened, with everything that checkers of causality need.

Speaks to a namespace of `kvclient.AsyncClient`, whether its nodes are real or simulated. One `Performer` is one process; those that
share a client share a `ClientPast`, because the client itself puts what it was acknowledged into the contexts of later writes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from kvchaos.causality import dots_of
from kvchaos.history import Recorder
from kvchaos.operations import Operation, encode_counter, encode_set, encode_value, merge_counters, merge_sets, name_of
from kvproto.columns import Receipt
from kvproto.errors import KvError


class Found(Protocol):
    """What a read found: `kvclient.Entry` is one."""

    @property
    def values(self) -> Sequence[bytes]:
        """Every sibling's value."""

    context: bytes
    receipt: Receipt


class Done(Protocol):
    """What a write became: `kvclient.PutResult` is one."""

    @property
    def version(self) -> str:
        """The dot, in hex."""

    context: bytes
    receipt: Receipt


class Store(Protocol):
    """The part of the client that is used: a namespace of `kvclient.AsyncClient` is one."""

    def get(self, key: str, *, level: str | None, r: int, timeout_s: float) -> Awaitable[Found]:
        """Reads a key."""

    def put(
        self,
        key: str,
        value: bytes,
        *,
        ttl_s: float | None = None,
        context: bytes | None,
        level: str | None,
        w: int,
        timeout_s: float,
    ) -> Awaitable[Done]:
        """Writes a key."""

    def touch(self, key: str, ttl_s: float, *, level: str | None, w: int, timeout_s: float) -> Awaitable[Done]:
        """Gives a key another time to live."""

    def delete(self, key: str, *, context: bytes | None, level: str | None, w: int, timeout_s: float) -> Awaitable[Done]:
        """Deletes a key."""


ClientPast = defaultdict[str, list[str]]
"""Key to the writes that one client was acknowledged."""


class Performer:
    """One process of a workload; `numbers` is how many there are, so that a new process number is nobody else's. `final`: what it
    reads is read at rest."""

    def __init__(
        self,
        store: Store,
        recorder: Recorder,
        process: int,
        *,
        numbers: int,
        past: ClientPast,
        timeout_ms: int,
        final: bool = False,
    ) -> None:
        self._store = store
        self._recorder = recorder
        self._writer = f"p{process}"
        self._process = process
        self._numbers = numbers
        self._past = past
        self._timeout_ms = timeout_ms
        self._final: dict[str, Any] = {"final": True} if final else {}
        self._read: dict[str, Found] = {}
        self._own: dict[str, tuple[str, bytes]] = {}  # key -> the last acknowledged write and its context
        self._counted: defaultdict[str, int] = defaultdict(int)

    @property
    def process(self) -> int:
        """Its number in the history: another one after a call of unknown outcome."""
        return self._process

    async def perform(self, operation: Operation) -> None:
        """Carries out one operation. Errors of the store are recorded and never raised."""
        if operation.f in ("get", "add", "increment"):
            found = await self._get(operation)
            if operation.f != "get" and found is not None:
                await self._modify(operation, found)
            return
        if operation.f == "touch":
            await self._touch(operation)
            return
        context, told = self._context(operation)
        if operation.f == "put":
            value, ttl_ms = encode_value(operation.name), operation.ttl_ms
            ttl: dict[str, Any] = {"ttl_s": ttl_ms / 1000} if ttl_ms else {}
            if ttl_ms:
                told = {**told, "ttl_ms": ttl_ms}
            await self._write(
                "write", operation, operation.name, told, lambda **how: self._store.put(operation.key, value, **ttl, **how), context
            )
        else:
            await self._write("delete", operation, None, told, lambda **how: self._store.delete(operation.key, **how), context)

    async def _get(self, operation: Operation) -> Found | None:
        recorder, key, process = self._recorder, operation.key, self._process
        recorder.note(process, "invoke", "read", key=key, level=operation.level, timeout_ms=self._timeout_ms, **self._final)
        level, number = _level(operation.level)
        try:
            found = await self._store.get(key, level=level, r=number, timeout_s=self._timeout_ms / 1000)
        except KvError as error:
            recorder.note(process, "fail", "read", key=key, error=f"{type(error).__name__}: {error.message}")
            return None
        names = [name_of(value) for value in found.values]
        facts = {"siblings": names, "context": found.context.hex(), **_achieved(found.receipt)}
        recorder.note(process, "ok", "read", key=key, value=_shown(found.values), node=found.receipt.coordinator, **facts)
        self._read[key] = found
        return found

    async def _touch(self, operation: Operation) -> None:
        recorder, key, process = self._recorder, operation.key, self._process
        ttl_ms = operation.ttl_ms
        recorder.note(process, "invoke", "touch", key=key, level=operation.level, timeout_ms=self._timeout_ms, ttl_ms=ttl_ms)
        level, number = _level(operation.level)
        try:
            done = await self._store.touch(key, ttl_ms / 1000, level=level, w=number, timeout_s=self._timeout_ms / 1000)
        except KvError as error:
            said = f"{type(error).__name__}: {error.message}"
            recorder.note(process, "info" if error.may_have_applied else "fail", "touch", key=key, error=said)
            if error.may_have_applied:
                self._process += self._numbers
            return
        recorder.note(process, "ok", "touch", key=key, node=done.receipt.coordinator, **_achieved(done.receipt))

    async def _modify(self, operation: Operation, found: Found) -> None:
        """The second half of read-modify-write: what was read, merged, and one more."""
        told = {"knew": sorted(map(name_of, found.values))}
        shown: list[Any]
        if operation.f == "add":
            elements = {*merge_sets(found.values), operation.name}
            value, shown = encode_set(operation.name, elements), sorted(elements)
        else:
            totals = merge_counters(found.values)
            # What was read may be older than what this process did since: it goes on from its own last attempt.
            total = totals[self._writer] = max(totals.get(self._writer, 0), self._counted[operation.key]) + 1
            self._counted[operation.key] = total
            value, shown = encode_counter(operation.name, totals), [self._writer, total]
        key, context = operation.key, found.context or b""
        await self._write(operation.f, operation, shown, told, lambda **how: self._store.put(key, value, **how), context)

    def _context(self, operation: Operation) -> tuple[bytes | None, dict[str, Any]]:
        """The token to send, and what the history says of it."""
        key = operation.key
        if operation.context == "none":
            return None, {"overwrites": True}
        if operation.context == "read" and key in self._read:
            found = self._read[key]
            return found.context, {"knew": sorted(map(name_of, found.values))}
        if operation.context == "own" and key in self._own:
            name, token = self._own[key]
            # A token with single dots names writes that a coordinator may not find: it goes on without them.
            return token, {"meant" if dots_of(token.hex()) else "knew": [name]}
        return b"", {}

    async def _write(
        self,
        f: str,
        operation: Operation,
        value: Any,
        told: dict[str, Any],
        send: Callable[..., Awaitable[Done]],
        context: bytes | None,
    ) -> None:
        recorder, key, name, process = self._recorder, operation.key, operation.name, self._process
        recorder.note(
            process, "invoke", f, key=key, value=value, write=name, level=operation.level, timeout_ms=self._timeout_ms, **told
        )
        level, number = _level(operation.level)
        try:
            done = await send(context=context, level=level, w=number, timeout_s=self._timeout_ms / 1000)
        except KvError as error:
            unknown = error.may_have_applied
            said = f"{type(error).__name__}: {error.message}"
            recorder.note(process, "info" if unknown else "fail", f, key=key, value=value, error=said, **self._meant(operation))
            if unknown:
                self._process += self._numbers
            return
        facts = {"version": done.version, "context": done.context.hex(), **_achieved(done.receipt), **self._meant(operation)}
        recorder.note(process, "ok", f, key=key, value=value, node=done.receipt.coordinator, **facts)
        self._past[key].append(name)
        self._own[key] = (name, done.context)

    def _meant(self, operation: Operation) -> dict[str, Any]:
        """Without a context the client adds what it was acknowledged by the time it sent the write, which was before now."""
        past = self._past[operation.key]
        return {"meant": list(past)} if operation.context == "none" and operation.f in ("put", "delete") and past else {}


def _level(level: str) -> tuple[str | None, int]:
    if level.isdigit():
        return None, int(level)
    return (None if level == "preset" else level), 0


def _achieved(receipt: Receipt) -> dict[str, Any]:
    told: dict[str, Any] = {"needed": receipt.needed, "acknowledged": list(receipt.acknowledged), "epoch": receipt.ring_epoch}
    told.update({name: True for name in ("degraded", "hinted") if getattr(receipt, name)})
    return told


def _shown(values: Sequence[bytes]) -> Any:
    """What the read is worth: a set's elements, a counter's totals, else the ids of the siblings."""
    if any(b" " in value for value in values):
        return merge_counters(values) if any(b"=" in value for value in values) else sorted(merge_sets(values))
    names = [name_of(value) for value in values]
    return None if not names else names[0] if len(names) == 1 else names
