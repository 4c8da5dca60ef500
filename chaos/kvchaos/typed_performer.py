"""Carries out operations on counters and sets and writes down what happened, for checkers/typed.py.

An operation's name says what it is about: `w7` counts by 1 to 3 or is about one of four elements, so that writers meet.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from kvchaos.history import Recorder
from kvchaos.operations import Operation
from kvproto.errors import KvError

VIEW = "view"
"""A read of a counter or set; `value` is the number, or the elements in order."""
ELEMENTS = 4


class Store(Protocol):
    """The part of the client that is used: a namespace of `kvclient.AsyncClient` is one."""

    def get(self, key: str, *, level: str | None, r: int, timeout_s: float) -> Awaitable[Any]:
        """Reads a key."""

    def increment(self, key: str, by: int, *, level: str | None, w: int, timeout_s: float) -> Awaitable[Any]:
        """Adds to a counter."""

    def add(self, key: str, *elements: str, level: str | None, w: int, timeout_s: float) -> Awaitable[Any]:
        """Adds to a set."""

    def remove(self, key: str, *elements: str, level: str | None, w: int, timeout_s: float) -> Awaitable[Any]:
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
        self, store: Store, recorder: Recorder, process: int, *, numbers: int, timeout_ms: int, final: bool = False
    ) -> None:
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
            await self._call("count", operation, by, lambda: store.increment(key, by, w=0, **how))
        elif operation.f == "insert":
            await self._call("insert", operation, element_of(name), lambda: store.add(key, element_of(name), w=0, **how))
        else:
            await self._call("take", operation, element_of(name), lambda: store.remove(key, element_of(name), w=0, **how))

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
            value = done.number if done.policy == "counter" else sorted(one.decode() for one in done.values)
        recorder.note(process, "ok", f, value=value, node=receipt.coordinator, **facts, **about)
