"""What a sweep finds on the disk, slice by slice, and the stamps by which a node knows what was reaped.

A slice is read off the event loop and gives keys only: whoever acts on them looks at the latest records again. The stamps of a
partition are two numbers: `prepared`, the last reaping that this node agreed to, and `reaped`, the last that it took part in. A
node whose own `prepared` is below what a peer has `reaped` has an older disk than it once had.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from struct import Struct

from kvproto.errors import StorageError
from kvstore.core.record import (
    deleted_ms,
    digest,
    may_expire,
    verify,
)
from kvstore.storage.engine import Engine
from kvstore.storage.layout import NAMESPACE_AT, SYSTEM_PREFIX, split_store_key, system_key, system_name_range

SLICE_RECORDS = 1000
SLICE_BYTES = 2 * 1024 * 1024

_NAME = b"reaped/"
_STAMPS = Struct(">QQ")


@dataclass(slots=True)
class Slice:
    """Some records in the order of their store keys: how many, which of them have expired, and those that are nothing but
    tombstones, with digest and when the last value went. `next_start` b"": it was the last one."""

    records: int = 0
    expired: list[bytes] = field(default_factory=list)
    tombstones: list[tuple[bytes, bytes, int]] = field(default_factory=list)
    next_start: bytes = b""


def read_slice(engine: Engine, start: bytes, now_ms: int, skipped: frozenset[bytes] = frozenset()) -> Slice:
    """The slice that begins at `start`. Reads the disk: not for the event loop. Damaged records are left to those who read them,
    those of the namespaces `skipped` (ids as in store keys) to whoever reaps registers. Raises `StorageError`."""
    out = Slice()
    size_bytes = 0
    try:
        for store_key, record in engine.scan(start, SYSTEM_PREFIX):
            if out.records >= SLICE_RECORDS or size_bytes >= SLICE_BYTES:
                out.next_start = store_key
                break
            out.records += 1
            size_bytes += len(record)
            if store_key[NAMESPACE_AT] in skipped or not verify(record):
                continue
            if may_expire(record, now_ms):
                out.expired.append(store_key)
                continue
            gone_ms = deleted_ms(record)
            if gone_ms is not None:
                out.tombstones.append((store_key, digest(record), gone_ms))
    except StorageError as error:
        raise StorageError(f"a sweep could not be read: {error}") from error
    return out


class ReapStamps:
    """The stamps of every partition, as they are, or will be with the next commit. Belongs to one event loop."""

    def __init__(self, engine: Engine) -> None:
        self._stamps: dict[int, tuple[int, int]] = {}
        for key, value in engine.scan(*system_name_range(_NAME)):
            self._stamps[int.from_bytes(key[-2:], "big")] = _STAMPS.unpack(value)

    def highest(self, partitions: Iterable[int]) -> int:
        """The highest stamp remembered of them, 0 for none."""
        return max([max(self._stamps.get(partition, (0, 0))) for partition in partitions], default=0)

    def note(self, partitions: Iterable[int], stamp: int, *, reaped: bool) -> list[tuple[bytes, bytes]]:
        """The reaping `stamp` is agreed to in these partitions, or done. What to write."""
        written: list[tuple[bytes, bytes]] = []
        for partition in sorted(partitions):
            before = self._stamps.get(partition, (0, 0))
            after = (max(before[0], stamp), max(before[1], stamp) if reaped else before[1])
            if after != before:
                self._stamps[partition] = after
                written.append((system_key(_NAME + partition.to_bytes(2, "big")), _STAMPS.pack(*after)))
        return written

    def all(self) -> dict[int, tuple[int, int]]:
        """Partition to what is prepared and what is reaped."""
        return dict(self._stamps)


def partitions_of(store_keys: Iterable[bytes]) -> set[int]:
    """The partitions that the records of `store_keys` lie in."""
    return {split_store_key(store_key)[0] for store_key in store_keys}
