"""Carries out operations on counters and sets, of their own or in maps, and writes down what happened, for checkers/typed.py.

An operation's name says what it is about: `w7` counts by 1 to 3 or is about one of four elements, so that writers meet.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from kvchaos.history import Recorder
from kvchaos.operations import Operation
from kvproto.errors import KvError

VIEW = "view"
"""A read; `value` has the number under "n" and the elements in order under "s": a counter's, a set's, or a map's of both."""
ELEMENTS = 4


class Store(Protocol):
    """The part of the client that is used: a namespace of `kvclient.AsyncClient` is one."""

    def get(self, key: str, *, level: str | None, r: int, timeout_s: float) -> Awaitable[Any]:
        """Reads a key."""

    def increment(self, key: str, by: int, *, field: str | None, level: str | None, w: int, timeout_s: float) -> Awaitable[Any]:
        """Adds to a counter."""

    def add(self, key: str, *elements: str, field: str | None, level: str | None, w: int, timeout_s: float) -> Awaitable[Any]:
        """Adds to a set."""

    def remove(self, key: str, *elements: str, field: str | None, level: str | None, w: int, timeout_s: float) -> Awaitable[Any]:
        """Removes from a set."""


def amount_of(name: str) -> int:
    """By how much the increment `name` counts."""
    return 1 + int(name[1:]) % 3


def element_of(name: str) -> str:
    """Which element the addition or removal `name` is about."""
    return f"e{int(name[1:]) % ELEMENTS}"


class TypedPerformer:
    """One process of a workload on counters or sets; see `performer.Performer`."""

    def __init__(
        self,
        store: Store,
        recorder: Recorder,
        process: int,
        *,
        numbers: int,
        timeout_ms: int,
        in_map: bool = False,
        final: bool = False,
    ) -> None:
        self._in_map = in_map
        self._store = store
        self._recorder = recorder
        self._process = process
        self._numbers = numbers
        self._timeout_ms = timeout_ms
        self._final: dict[str, Any] = {"final": True} if final else {}

    async def perform(self, operation: Operation) -> None:
        """Carries out one operation: get, count, insert or take. Errors of the store are recorded and never raised."""
        key, name, store = operation.key, operation.name, self._store
        level: str | None = None if operation.level == "preset" else operation.level
        how: dict[str, Any] = {"level": level, "timeout_s": self._timeout_ms / 1000}
        if operation.f == "get":
            await self._call(VIEW, operation, None, lambda: store.get(key, r=0, **how))
        elif operation.f == "count":
            by = amount_of(name)
            await self._call("count", operation, by, lambda: store.increment(key, by, field=self._field("n"), w=0, **how))
        elif operation.f == "insert":
            element = element_of(name)
            await self._call("insert", operation, element, lambda: store.add(key, element, field=self._field("s"), w=0, **how))
        else:
            element = element_of(name)
            await self._call("take", operation, element, lambda: store.remove(key, element, field=self._field("s"), w=0, **how))

    def _field(self, name: str) -> str | None:
        return name if self._in_map else None

    async def _call(self, f: str, operation: Operation, value: Any, send: Callable[[], Awaitable[Any]]) -> None:
        recorder, process = self._recorder, self._process
        about: dict[str, Any] = {"key": operation.key}
        recorder.note(process, "invoke", f, value=value, level=operation.level, timeout_ms=self._timeout_ms, **about, **self._final)
        try:
            done = await send()
        except KvError as error:
            unknown = f != VIEW and error.may_have_applied
            said = f"{type(error).__name__}: {error.message}"
            recorder.note(process, "info" if unknown else "fail", f, value=value, error=said, **about)
            if unknown:
                self._process += self._numbers
            return
        receipt = done.receipt
        facts = {"acknowledged": list(receipt.acknowledged), "needed": receipt.needed, "epoch": receipt.ring_epoch}
        facts.update({fact: True for fact in ("degraded", "hinted") if getattr(receipt, fact)})
        if f == VIEW:
            value = _held(done)
        recorder.note(process, "ok", f, value=value, node=receipt.coordinator, **facts, **about)


def _held(entry: Any) -> dict[str, Any]:
    """What a key holds, whichever policy it is of."""
    is_map = entry.policy == "map"
    number = entry.counters.get(b"n", 0) if is_map else entry.number if entry.policy == "counter" else 0
    elements = entry.sets.get(b"s", ()) if is_map else entry.members if entry.policy == "set" else ()
    return {"n": number, "s": sorted(element.decode() for element in elements)}
