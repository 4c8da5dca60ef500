"""Engines that wait, fail or rot on command, around the memory engine."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from kvproto.errors import StorageError
from kvstore.storage.memory import MemoryEngine

PATIENCE_S = 10.0


class GatedEngine(MemoryEngine):
    """Writes pass a gate (`hold`, `release`), and one fails once `fail_next` was called. `batches`: the pairs of each that was
    tried."""

    def __init__(self) -> None:
        super().__init__(crashable=True)
        self.batches: list[list[tuple[bytes, bytes]]] = []
        self.syncs: list[bool] = []
        self.entered = threading.Semaphore(0)
        self._gate = threading.Event()
        self._gate.set()
        self._failure: Exception | None = None

    def hold(self) -> None:
        """The next write waits, and every one after it."""
        self._gate.clear()

    def release(self) -> None:
        """Writes go on."""
        self._gate.set()

    def fail_next(self, error: Exception | None = None) -> None:
        """The next write, and only that one, raises: this engine breaks its contract, its user must not rely on it."""
        self._failure = error or StorageError("no space left on device")

    def write(self, puts: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes] = (), *, sync: bool) -> None:
        self.batches.append(list(puts))
        self.syncs.append(sync)
        self.entered.release()
        assert self._gate.wait(PATIENCE_S), "the gate was never released"
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        super().write(puts, deletes, sync=sync)


class RottingEngine(MemoryEngine):
    """Reads of the keys in `damaged` give other bytes than were written; reads of those in `unreadable` raise."""

    def __init__(self) -> None:
        super().__init__(crashable=True)
        self.damaged: set[bytes] = set()
        self.unreadable: set[bytes] = set()
        self.reads = 0

    def get(self, key: bytes) -> bytes | None:
        self.reads += 1
        if key in self.unreadable:
            raise StorageError("block checksum mismatch")
        value = super().get(key)
        return rotten(value) if value is not None and key in self.damaged else value

    def scan(self, start: bytes, end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        for key, value in super().scan(start, end):
            yield key, rotten(value) if key in self.damaged else value

    def write(self, puts: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes] = (), *, sync: bool) -> None:
        super().write(puts, deletes, sync=sync)
        self.damaged.difference_update([key for key, _ in puts])


def rotten(record: bytes) -> bytes:
    """`record` with its last bit flipped."""
    return record[:-1] + bytes((record[-1] ^ 1,))
