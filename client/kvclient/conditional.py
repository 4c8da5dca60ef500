"""What linearizable namespaces have beside get, put and delete: compare-and-set, writes with a condition, locks. `AsyncTypes`, and
with it `AsyncNamespace`, is one of these.

A condition is judged where the write is committed, so of two writers with the same one only one succeeds (consistency.md, section
4). Where there is no consensus, `WrongMode` names a namespace or preset that has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from kvclient.checks import context_token, key_bytes, milliseconds_to_live, seconds, value_bytes
from kvclient.conditions import check_mode, comparison
from kvclient.errors import WrongMode
from kvclient.levels import LevelLike
from kvclient.shapes import Shape
from kvclient.values import PutResult
from kvproto.columns import Kind

if TYPE_CHECKING:
    from kvclient.async_client import AsyncClient
    from kvclient.locks import AsyncLock, Space

Key = str | bytes


class AsyncConditions:
    """Operations that need consensus. `level`, `timeout_s` and `explain` as everywhere."""

    name: str
    timeout_s: float
    _client: AsyncClient

    async def compare_and_set(
        self,
        key: Key,
        old: bytes | None,
        new: bytes,
        *,
        ttl_s: float | None = None,
        level: LevelLike | None = None,
        timeout_s: float | None = None,
        explain: bool = False,
    ) -> PutResult:
        """Stores `new` if the key holds exactly `old`; None: if it holds nothing.

        Raises `ConditionFailed`, whose `.entry` is what it holds instead, with certainly nothing applied; `WrongMode` in a
        namespace without consensus. An error whose `may_have_applied` is True leaves the outcome unknown.
        """
        condition = comparison(old)
        has_ttl = ttl_s is not None
        shape = self._shape(Kind.PUT, level, 0, explain=explain, has_ttl=has_ttl, is_conditional=True)
        ttl_ms = 0 if ttl_s is None else milliseconds_to_live(ttl_s)
        stored: PutResult = await self._write_if(shape, key, value_bytes(new), timeout_s, condition, ttl_ms=ttl_ms)
        return stored

    def lock(self, name: Key, *, lease_s: float = 10.0, timeout_s: float | None = None) -> AsyncLock:
        """The lock `name`, to be taken with `async with`, which gives a `Lease`: `.token`, a number that grows with every holder,
        and `.lost`, which is set once the lease could not be renewed.

        Waits for up to `timeout_s` while others have it, then raises `LockNotAcquired`. Held for as long as the block runs: it is
        renewed every third of `lease_s`; a holder that dies is done with after `lease_s`. Raises `WrongMode` in a namespace without
        consensus. Give the token to what the lock protects, and have that refuse smaller ones: a process that stood still may not
        know yet that its lease has ended.
        """
        from kvclient.locks import AsyncLock

        patience_s = self.timeout_s if timeout_s is None else seconds(timeout_s)
        return AsyncLock(
            cast("Space", self),
            key_bytes(name),
            rng=self._client.rng,
            lease_s=seconds(lease_s, subject="lease_s"),
            timeout_s=patience_s,
        )

    # What they share.

    def _shape(
        self,
        kind: Kind,
        level: LevelLike | None,
        replicas: int,
        *,
        explain: bool,
        has_ttl: bool = False,
        is_conditional: bool = False,
    ) -> Shape:
        raise NotImplementedError

    def _check(self, key: bytes, value: bytes) -> None:
        raise NotImplementedError

    async def _write_if(
        self,
        shape: Shape,
        key: Key,
        value: bytes,
        timeout_s: float | None,
        condition: bytes,
        *,
        context: bytes | None = None,
        ttl_ms: int = 0,
        amount: int = 0,
    ) -> Any:
        """One write with a condition; what comes of it."""
        encoded, token = key_bytes(key), context_token(context)
        client = self._client
        timeout = self.timeout_s if timeout_s is None else seconds(timeout_s)
        dispatcher = client.dispatcher
        if dispatcher is None:
            dispatcher, timeout = await client.connect_within(timeout)
        try:
            check_mode(client.info, self.name, "a condition")
        except WrongMode:
            await client.membership.refreshed()  # there may be another one of that name by now
            check_mode(client.info, self.name, "a condition")
        self._check(encoded, value)
        return await dispatcher.change(shape, encoded, value, timeout, token, ttl_ms, amount=amount, condition=condition)
