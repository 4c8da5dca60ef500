"""Carries out operations on the registers of a linearizable namespace, and writes down what its checkers need.

Speaks to a namespace of `kvclient.AsyncClient`. Each value is written once, so that whoever reads it is known to have seen that
write. The place of a value in the order of commits (fact `order`) is the number in its version.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, Protocol

from kvchaos.history import Recorder
from kvchaos.operations import Operation
from kvclient.locks import fencing_token
from kvproto.columns import Receipt
from kvproto.errors import ConditionFailed, KvError


class Found(Protocol):
    """What a read found: `kvclient.Entry` is one."""

    @property
    def values(self) -> Sequence[bytes]:
        """The value, if there is one."""

    @property
    def versions(self) -> Sequence[str]:
        """Its version, 40 hex digits."""

    receipt: Receipt


class Done(Protocol):
    """What a write became: `kvclient.PutResult` is one."""

    @property
    def version(self) -> str:
        """Its version."""

    receipt: Receipt


class Registers(Protocol):
    """The part of a namespace that is used."""

    def get(self, key: str, *, level: str | None, timeout_s: float) -> Awaitable[Found]:
        """Reads a key."""

    def put(self, key: str, value: bytes, *, timeout_s: float) -> Awaitable[Done]:
        """Writes a key."""

    def delete(self, key: str, *, timeout_s: float) -> Awaitable[Done]:
        """Deletes a key."""

    def compare_and_set(self, key: str, old: bytes | None, new: bytes, *, timeout_s: float) -> Awaitable[Done]:
        """Writes a key that holds `old`."""


class RegisterPerformer:
    """One process of a workload; `numbers` as in `Performer`. `level` is that of reads, "preset" for the namespace's."""

    def __init__(
        self, store: Registers, recorder: Recorder, process: int, *, numbers: int, timeout_ms: int, final: bool = False
    ) -> None:
        self.process = process
        self._store = store
        self._recorder = recorder
        self._numbers = numbers
        self._timeout_s = timeout_ms / 1000
        self._facts: dict[str, Any] = {"timeout_ms": timeout_ms, **({"final": True} if final else {})}
        self._seen: dict[str, bytes | None] = {}

    async def perform(self, operation: Operation) -> None:
        """Carries out one operation (get, put, delete or cas). Errors of the store are recorded and never raised."""
        key, value = operation.key, operation.name.encode()
        if operation.f == "get":
            await self._read(operation)
        elif operation.f == "put":
            await self._write("write", operation, operation.name, self._store.put(key, value, timeout_s=self._timeout_s))
        elif operation.f == "delete":
            await self._write("delete", operation, None, self._store.delete(key, timeout_s=self._timeout_s))
        else:
            old = self._seen.get(key)
            told = [_shown(old), operation.name]
            await self._write("cas", operation, told, self._store.compare_and_set(key, old, value, timeout_s=self._timeout_s))

    async def _read(self, operation: Operation) -> None:
        note, key, process = self._recorder.note, operation.key, self.process
        level = None if operation.level == "preset" else operation.level
        note(process, "invoke", "read", key=key, level=operation.level, **self._facts)
        try:
            found = await self._store.get(key, level=level, timeout_s=self._timeout_s)
        except KvError as error:
            note(process, "fail", "read", key=key, error=f"{type(error).__name__}: {error.message}")
            return
        value = found.values[0] if found.values else None
        self._seen[key] = value
        facts = {"order": fencing_token(found.versions[0])} if value is not None else {}
        receipt = found.receipt
        note(process, "ok", "read", key=key, value=_shown(value), node=_server(receipt), **facts, **_achieved(receipt))

    async def _write(self, f: str, operation: Operation, value: Any, sending: Awaitable[Done]) -> None:
        note, key, process = self._recorder.note, operation.key, self.process
        note(process, "invoke", f, key=key, value=value, write=operation.name, level=operation.level, **self._facts)
        try:
            done = await sending
        except ConditionFailed as error:
            entry = getattr(error, "entry", None)
            found = {} if entry is None else {"found": _shown(entry.values[0] if entry.values else None)}
            if entry is not None:
                self._seen[key] = entry.values[0] if entry.values else None
            note(process, "fail", f, key=key, value=value, mismatch=True, error=f"ConditionFailed: {error.message}", **found)
            return
        except KvError as error:
            unknown = error.may_have_applied
            said = f"{type(error).__name__}: {error.message}"
            note(process, "info" if unknown else "fail", f, key=key, value=value, error=said)
            if unknown:
                self.process += self._numbers
            return
        facts = {"version": done.version, "order": fencing_token(done.version)}
        note(process, "ok", f, key=key, value=value, node=done.receipt.coordinator, **facts, **_achieved(done.receipt))


def _server(receipt: Receipt) -> str:
    """Who served a read: the replica that answered by itself, else the proposer."""
    return receipt.acknowledged[0] if len(receipt.acknowledged) == 1 else receipt.coordinator


def _shown(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="replace")


def _achieved(receipt: Receipt) -> dict[str, Any]:
    return {"needed": receipt.needed, "acknowledged": list(receipt.acknowledged), "epoch": receipt.ring_epoch}
