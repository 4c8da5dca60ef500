"""The one register that all nodes agree on the catalog through (safety rule 6), as little of it as that takes.

`read` is linearizable and `swap` conditional on the version that was read: two changes from one version cannot both happen, and
without a majority of the register's replicas none does. The register is a key of the nodes' own linearizable namespace.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from kvproto.columns import VERSION_BYTES, GroupReply, Kind, Level, OperationGroup
from kvproto.conditions import ABSENT, version_is
from kvproto.errors import KvError
from kvstore.core.catalog.catalog import CLUSTER_NAMESPACE
from kvstore.runtime import Clock

REGISTER_KEY = b"namespaces"

Execute = Callable[[Sequence[OperationGroup], Callable[[list[GroupReply], bool], None]], Awaitable[None]]
"""Answers every operation of the groups through the callback, as a coordinator does."""


class CatalogRegister(Protocol):
    """What agreeing on the catalog takes."""

    async def read(self, timeout_s: float) -> tuple[bytes, bytes]:
        """The committed (version, value), which no committed one is newer than; b"" twice: nothing was ever written. Raises
        `KvError` when it cannot be told."""

    async def swap(self, version: bytes, value: bytes, timeout_s: float) -> None:
        """Writes `value` if the committed version is `version` still, b"" for nothing. Raises `ConditionFailed` if it is not, and
        another `KvError` when that cannot be told, or done; `may_have_applied` then says whether it may have been."""


class CoordinatedRegister:
    """The register as a key that this node's coordinator reads and writes."""

    def __init__(self, execute: Execute, clock: Clock, rng: random.Random) -> None:
        self._execute = execute
        self._clock = clock
        self._rng = rng

    async def read(self, timeout_s: float) -> tuple[bytes, bytes]:
        """See `CatalogRegister.read`."""
        group = OperationGroup(Kind.GET, CLUSTER_NAMESPACE, [REGISTER_KEY], timeouts_ms=(_ms(timeout_s),), level=Level.LINEARIZABLE)
        reply = await self._ask(group)
        return (bytes(reply.versions[:VERSION_BYTES]), bytes(reply.values[0])) if reply.values else (b"", b"")

    async def swap(self, version: bytes, value: bytes, timeout_s: float) -> None:
        """See `CatalogRegister.swap`."""
        group = OperationGroup(
            Kind.PUT,
            CLUSTER_NAMESPACE,
            [REGISTER_KEY],
            values=[value],
            conditions=[version_is(version) if version else ABSENT],
            request_ids=self._clock.now_ms().to_bytes(6, "big") + self._rng.randbytes(10),
            timeouts_ms=(_ms(timeout_s),),
        )
        await self._ask(group)

    async def _ask(self, group: OperationGroup) -> GroupReply:
        told: list[GroupReply] = []
        await self._execute([group], lambda replies, last: told.extend(replies))
        for reply in told:
            if reply.error is not None:
                raise reply.error
            return reply
        raise KvError("the register did not answer", may_have_applied=group.kind is not Kind.GET)


def _ms(timeout_s: float) -> int:
    return max(1, int(timeout_s * 1000))
