"""Memory as an engine (contract: engine.py): for namespaces kept in memory, for tests, and as the disk of a simulated world.

For simulation it can be made `crashable`: it then knows which batches no sync has covered, and `crash` gives the engine that a
restart would find when the machine lost any tail of them. It fails only when closed; simulation puts its faults in front of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import itemgetter
from threading import Lock
from weakref import WeakSet

from sortedcontainers import SortedDict

from kvproto.errors import StorageError

SCAN_CHUNK_PAIRS = 256

_Before = dict[bytes, bytes | None]
"""What keys held before a change; None: nothing."""


class MemoryEngine:
    """An `Engine` that keeps `pairs` and all that is written in memory, and nothing when the process ends.

    `crashable` keeps what each un-synced batch replaced until the next sync, without bound: not for an engine that is never synced.
    """

    def __init__(self, pairs: Mapping[bytes, bytes] | Iterable[tuple[bytes, bytes]] = (), *, crashable: bool = False) -> None:
        self._map: SortedDict = SortedDict(pairs)
        self._bytes = sum(len(key) + len(value) for key, value in self._map.items())
        self._crashable = crashable
        self._unsynced: list[_Before] = []
        self._scans: WeakSet[_Scan] = WeakSet()
        self._closed = False
        # Two gets in a row must not see one batch half (another thread may be writing), so even a get waits for the whole batch.
        self._lock = Lock()

    @property
    def is_closed(self) -> bool:
        """Whether it takes nothing any more."""
        return self._closed

    def get(self, key: bytes) -> bytes | None:
        """See `Engine.get`."""
        with self._lock:
            if self._closed:
                raise _closed_error()
            value: bytes | None = self._map.get(key)
            return value

    def write(self, puts: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes] = (), *, sync: bool) -> None:
        """See `Engine.write`. A sync covers the batches before it too, as on one log."""
        changes: dict[bytes, bytes | None] = dict.fromkeys(deletes)
        changes.update(puts)
        with self._lock:
            if self._closed:
                raise _closed_error()
            before = self._apply(changes)
            for scan in self._scans:
                scan.remember(before)
            if sync:
                self._unsynced.clear()
            elif self._crashable:
                self._unsynced.append(before)

    def prepare(self, puts: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes] = (), *, sync: bool) -> Callable[[], None]:
        """See `Engine.prepare`. There is nothing to gather."""
        return partial(self.write, puts, deletes, sync=sync)

    def _apply(self, changes: _Before) -> _Before:
        before: _Before = {}
        for key, value in changes.items():
            old = before[key] = self._map.get(key)
            if old is not None:
                self._bytes -= len(key) + len(old)
            if value is not None:
                self._map[key] = value
                self._bytes += len(key) + len(value)
            elif old is not None:
                del self._map[key]
        return before

    def scan(self, start: bytes, end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """See `Engine.scan`. Costs nothing until it is read; while it lives, every key that changes is remembered once for it."""
        with self._lock:
            if self._closed:
                raise _closed_error()
            scan = _Scan(self._scan_chunk, start, end)
            self._scans.add(scan)
        return scan

    def keys(self, start: bytes, end: bytes | None = None) -> Iterator[bytes]:
        """See `Engine.keys`."""
        return map(itemgetter(0), self.scan(start, end))

    def _scan_chunk(self, scan: _Scan) -> list[tuple[bytes, bytes]]:
        with self._lock:
            if self._closed:
                raise _closed_error()
            return scan.take(self._map)

    def size_bytes(self) -> int:
        """The bytes of all keys and values."""
        with self._lock:
            if self._closed:
                raise _closed_error()
            return self._bytes

    def statistics(self) -> dict[str, str]:
        """The number of keys, of open scans, and of batches that no sync has covered."""
        with self._lock:
            if self._closed:
                raise _closed_error()
            counts = {"keys": len(self._map), "scans": len(self._scans), "unsynced_batches": len(self._unsynced)}
        return {"engine": "memory", **{name: str(count) for name, count in counts.items()}}

    def close(self) -> None:
        """See `Engine.close`. A crashable engine can still be asked what is durable, and be crashed: closing syncs nothing."""
        with self._lock:
            self._closed = True
            if not self._crashable:
                self._map.clear()

    @property
    def unsynced_batches(self) -> int:
        """How many batches a crash may lose."""
        assert self._crashable
        return len(self._unsynced)

    @property
    def durable(self) -> dict[bytes, bytes]:
        """A copy, in key order, of what survives every crash: all that a sync has covered."""
        return self._surviving(keep_unsynced_batches=0)

    def crash(self, *, keep_unsynced_batches: int = 0) -> MemoryEngine:
        """The crashable engine that a restart finds: all that was synced, and the first `keep_unsynced_batches` of the others.

        0 <= keep_unsynced_batches <= unsynced_batches. What is kept survived on the medium: it is durable in the new engine. This
        engine is closed, so that whatever still runs of the crashed process can write nowhere.
        """
        pairs = self._surviving(keep_unsynced_batches=keep_unsynced_batches)
        self.close()
        return MemoryEngine(pairs, crashable=True)

    def _surviving(self, *, keep_unsynced_batches: int) -> dict[bytes, bytes]:
        assert self._crashable
        with self._lock:
            assert 0 <= keep_unsynced_batches <= len(self._unsynced)
            lost = self._unsynced[keep_unsynced_batches:]
            state: _Before = dict(self._map)
        for before in reversed(lost):
            state.update(before)
        return {key: value for key, value in sorted(state.items()) if value is not None}


class _Scan(Iterator[tuple[bytes, bytes]]):
    """A scan that goes through the live map and puts back, key by key, what has changed since it began.

    It reads through the engine (`read_chunk`, which takes the lock). Only its user refers to it: dropping it ends it.
    """

    def __init__(self, read_chunk: Callable[[_Scan], list[tuple[bytes, bytes]]], start: bytes, end: bytes | None) -> None:
        self._read_chunk = read_chunk
        self._next_start = start
        self._end = end
        self._before: SortedDict = SortedDict()
        self._taken: Iterator[tuple[bytes, bytes]] = iter(())
        self._done = False

    def __next__(self) -> tuple[bytes, bytes]:
        pair = next(self._taken, None)
        while pair is None:
            if self._done:
                raise StopIteration
            self._taken = iter(self._read_chunk(self))
            pair = next(self._taken, None)
        return pair

    def remember(self, before: _Before) -> None:
        """Keeps what changed keys held when the scan began, of those it has still to give. Called with the engine's lock."""
        if self._done:
            return
        for key, value in before.items():
            if key >= self._next_start and (self._end is None or key < self._end):
                self._before.setdefault(key, value)

    def take(self, live: SortedDict) -> list[tuple[bytes, bytes]]:
        """The next pairs, possibly none before the last chunk. Called with the engine's lock."""
        keys: list[bytes] = []
        for key in live.irange(self._next_start, self._end, inclusive=(True, False)):
            if len(keys) == SCAN_CHUNK_PAIRS:
                break
            keys.append(key)
        else:
            self._done = True
        chunk_end = self._end if self._done else keys[-1] + b"\x00"  # the first key after the last one taken
        changed = list(self._before.irange(None, chunk_end, inclusive=(True, False)))
        state: _Before = {key: live[key] for key in keys}
        state.update((key, self._before.pop(key)) for key in changed)
        if chunk_end is not None:
            self._next_start = chunk_end
        return [(key, value) for key, value in sorted(state.items()) if value is not None]


def _closed_error() -> StorageError:
    return StorageError("the store in memory is closed", subject="memory")
