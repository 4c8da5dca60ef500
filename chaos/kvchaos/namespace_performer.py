"""Makes, drops and uses namespaces while a cluster runs, and writes down what their checker needs. Knows `kvclient.AsyncClient`.

Each value is written once and says which write it is of, so a read tells which of the namespaces that ever had the name it is from.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol, TypeVar

from kvchaos.history import Recorder
from kvchaos.operations import Operation
from kvclient import AsyncClient
from kvproto.columns import NamespaceInfo
from kvproto.errors import KvError

T = TypeVar("T")

KEY = "k"
"""The only one that is used in a namespace."""


class Performer(Protocol):
    """What carries out operations."""

    async def perform(self, operation: Operation) -> None:
        """Carries out one."""


class NamespacePerformer:
    """One process of a workload; `numbers` as in `kvchaos.performer.Performer`. `operation.key` is the namespace's name."""

    def __init__(
        self, client: AsyncClient, recorder: Recorder, process: int, *, numbers: int, timeout_ms: int, final: bool = False
    ) -> None:
        self.process = process
        self._client = client
        self._recorder = recorder
        self._numbers = numbers
        self._timeout_s = timeout_ms / 1000
        self._facts: dict[str, Any] = {"timeout_ms": timeout_ms, **({"final": True} if final else {})}

    async def perform(self, operation: Operation) -> None:
        """Carries out one operation (create, with its preset as `level`; drop, put or get). Errors of the store are recorded and
        never raised."""
        name, timeout_s = operation.key, self._timeout_s
        space = self._client.namespace(name)
        if operation.f == "create":
            wanted = {"preset": operation.level}
            making = self._client.admin.create_namespace(name, preset=operation.level, timeout_s=timeout_s)
            await self._do("create", name, wanted, making, _told)
        elif operation.f == "drop":
            await self._do("drop", name, None, self._client.admin.drop_namespace(name, timeout_s=timeout_s), _told)
        elif operation.f == "put":
            writing = space.put(KEY, operation.name.encode(), context=b"", timeout_s=timeout_s)
            await self._do("write", name, operation.name, writing, lambda _: operation.name, write=operation.name)
        else:
            await self.read(name)

    async def read(self, name: str) -> None:
        """Reads all that the key holds in the namespace of that name."""
        reading = self._client.namespace(name).get(KEY, timeout_s=self._timeout_s)
        await self._do("read", name, None, reading, lambda entry: sorted(value.decode() for value in entry.values))

    async def _do(self, f: str, name: str, asked: Any, work: Awaitable[T], told: Any, **facts: Any) -> None:
        note, process = self._recorder.note, self.process
        note(process, "invoke", f, key=name, value=asked, **facts, **self._facts)
        try:
            done = await work
        except KvError as error:
            unknown = error.may_have_applied and f != "read"
            said = f"{type(error).__name__}: {error.message}"
            note(process, "info" if unknown else "fail", f, key=name, value=asked, error=said)
            if unknown:
                self.process += self._numbers
            return
        note(process, "ok", f, key=name, value=told(done))


def _told(info: NamespaceInfo) -> dict[str, Any]:
    return {"id": info.id, "preset": info.preset}
