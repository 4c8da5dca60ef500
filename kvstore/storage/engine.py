"""The engine contract: an ordered map of bytes with atomic, optionally synced batches. LevelDB and memory keep it alike.

One suite, tests/contracts/, runs against every engine. Engines know nothing of records, versions or partitions. `get` is called on
the event loop and must stay in the microseconds; `write`, or what `prepare` gave, is called on the commit thread only, one call at
a time, while reads go on in other threads; `scan` is called off the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

UNREADABLE = b"\xffunreadable"
"""What a scan gives in the place of a value that cannot be read although its neighbours can: no record begins so, nor anything that
a node keeps for itself."""


class Engine(Protocol):
    """An ordered map from store keys to bytes, in bytewise order."""

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, or None. Sees whole batches only, and a synced batch only once it is durable.

        Raises `StorageError` when the engine cannot read it (checksum, I/O).
        """

    def write(self, puts: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes] = (), *, sync: bool) -> None:
        """Applies `deletes`, then `puts`, as one atomic batch; with `sync` it is durable when this returns. In this order, so that
        commits that were gathered into one batch never delete what a later one of them puts.

        Raises `StorageError` if it is unknown whether the batch was applied; every later write then raises the same, until the
        engine is closed and opened again (safety rule 4: a failed sync is never retried).
        """

    def prepare(self, puts: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes] = (), *, sync: bool) -> Callable[[], None]:
        """Gathers a batch where it is called, on the event loop; what it returns does on the commit thread what `write` does.

        A binding may let go of the interpreter's lock for each entry it gathers. On the commit thread, beside a busy loop, each
        would be a chance to lose the processor.
        """

    def scan(self, start: bytes, end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Pairs with start <= key < end (None: to the last) in order, as of the moment of the call. A value that is lost by itself
        comes as `UNREADABLE`; where keys may be lost it raises `StorageError`, before it gives any key behind the gap."""

    def keys(self, start: bytes, end: bytes | None = None) -> Iterator[bytes]:
        """The keys of `scan` without their values, which are not read where they lie by themselves."""

    def size_bytes(self) -> int:
        """Roughly what the map takes on its medium."""

    def statistics(self) -> dict[str, str]:
        """What the engine says of itself, for people."""

    def close(self) -> None:
        """Releases everything; idempotent. Any later call raises `StorageError`."""
