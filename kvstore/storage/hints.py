"""Who is owed what: for each home replica that missed a write, pointers to the records it has to be handed (Dynamo, SOSP'07,
section 4.6).

A hint is a pointer and never a copy: the record lies in the store, where it is merged, cached and read like any other, and what is
handed over is always the latest. A home replica that coordinated a write notes what the others missed (*owed*: a shortcut to what
anti-entropy finds, so it may be dropped, and hint_gaps.py knows where). A stand-in that took a write in a home replica's place
holds a copy that counted towards W (*held*: data, dropped by no cap and no age, only handed over; safety rule 11). Pointers are
durable in the batch of the record.

Pure but for the engine it is loaded from: it says what to write and delete, `store` and `hinted_handoff` do it. Belongs to one
event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from struct import Struct

from kvproto.errors import Overloaded
from kvstore.runtime import Clock
from kvstore.storage.engine import Engine
from kvstore.storage.hint_gaps import HintGaps
from kvstore.storage.layout import split_store_key, system_key, system_name_range

_NAME = b"hint/"
_VALUE = Struct(">BQI")
_HELD = 1


class Hint:
    """One pointer. `stamp` tells a write that was missed again from the one that is being handed over."""

    __slots__ = ("created_ms", "held_bytes", "stamp")

    def __init__(self, created_ms: int, held_bytes: int, stamp: int) -> None:
        self.created_ms = created_ms
        self.held_bytes = held_bytes  # of a copy that counted; 0: owed only
        self.stamp = stamp


class HintTable:
    """Every pointer of this node, by target, the oldest first. `dropped` counts owed ones that were given up."""

    def __init__(
        self,
        clock: Clock,
        *,
        count_max: int = 200_000,
        held_bytes_max: int = 1 << 30,
        age_s_max: float = 3 * 3600.0,
    ) -> None:
        self._clock = clock
        self._count_max = count_max
        self._held_bytes_max = held_bytes_max
        self._age_ms_max = int(age_s_max * 1000)
        self._targets: dict[str, dict[bytes, Hint]] = {}
        self._stamp = 0
        self._of_partition: dict[int, int] = {}
        self._partitions: frozenset[int] | None = frozenset()
        self.count = 0
        self.held_bytes = 0
        self.on_change: Callable[[], None] = lambda: None
        """Called when there is something new to hand over, or to tell the others."""
        self.dropped = 0
        self.gaps = HintGaps()
        """Where hints were dropped: for anti-entropy, which calls `compared`."""

    def load(self, engine: Engine) -> None:
        """Takes up what an earlier life has left. Raises `StorageError`."""
        for name, value in engine.scan(*system_name_range(_NAME)):
            target, store_key = _split(name)
            flags, created_ms, size_bytes = _VALUE.unpack(value)
            self._put(target, store_key, Hint(created_ms, size_bytes if flags & _HELD else 0, self._next_stamp()))
        self.gaps.load(engine)
        self._partitions = None

    @property
    def targets(self) -> list[str]:
        """Who is owed something, sorted."""
        return sorted(target for target, hints in self._targets.items() if hints)

    @property
    def partitions(self) -> frozenset[int]:
        """Of which somebody is owed something, or may be; the same object until that changes."""
        if self._partitions is None:
            self._partitions = frozenset((*self._of_partition, *self.gaps.partitions))
        return self._partitions

    def pending(self, target: str) -> int:
        """How many records `target` is owed."""
        return len(self._targets.get(target, ()))

    def oldest_s(self) -> float:
        """The age of the oldest hint; 0 when there is none."""
        oldest = [next(iter(hints.values())).created_ms for hints in self._targets.values() if hints]
        return max(0.0, (self._clock.now_ms() - min(oldest)) / 1000) if oldest else 0.0

    def is_owed(self, store_key: bytes) -> bool:
        """Whether anybody is still to be handed this record."""
        return any(store_key in hints for hints in self._targets.values())

    # --- taking on

    def owe(self, target: str, store_keys: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
        """`target` has missed these records of ours. What to write; past the cap the rest is dropped, and counted."""
        return self._take_on(target, zip(store_keys, (0 for _ in store_keys), strict=True))

    def admit(self, count: int, size_bytes: int) -> None:
        """Raises `Overloaded` if so much more cannot be held for others: a stand-in then declines, and the next is asked."""
        if self.count + count > self._count_max or self.held_bytes + size_bytes > self._held_bytes_max:
            raise Overloaded(
                f"{self.count} hints of {self.held_bytes} bytes are held already",
                retry_after_s=1.0,
                limit=self._count_max,
                actual=self.count,
                subject="hints",
            )

    def hold(self, target: str, store_keys: Sequence[bytes], records: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
        """We stand in for `target`: these records, admitted before, count as its. What to write in their batch."""
        return self._take_on(target, ((key, len(key) + len(record)) for key, record in zip(store_keys, records, strict=True)))

    def _take_on(self, target: str, rows: Iterable[tuple[bytes, int]]) -> list[tuple[bytes, bytes]]:
        hints, now_ms, stamp = self._targets.setdefault(target, {}), self._clock.now_ms(), self._next_stamp()
        written: list[tuple[bytes, bytes]] = []
        for store_key, held_bytes in rows:
            hint = hints.get(store_key)
            if hint is not None:
                hint.stamp = stamp
                if held_bytes <= hint.held_bytes:
                    continue
                self.held_bytes += held_bytes - hint.held_bytes
                hint.held_bytes = held_bytes
            elif self.count >= self._count_max and not held_bytes:
                written += self._drop(target, store_key)
                continue
            else:
                hint = Hint(now_ms, held_bytes, stamp)
                self._put(target, store_key, hint)
            written.append((_join(target, store_key), _VALUE.pack(_HELD if held_bytes else 0, hint.created_ms, held_bytes)))
        return written

    # --- handing over

    def due(self, target: str, count_max: int) -> list[tuple[bytes, int]]:
        """The oldest of what `target` is owed: store keys and stamps."""
        return [(key, hint.stamp) for key, hint in islice(self._targets.get(target, {}).items(), count_max)]

    def paid(self, target: str, delivered: Iterable[tuple[bytes, int]]) -> list[bytes]:
        """`target` has durably got these, but for what it missed again meanwhile. What to delete."""
        hints = self._targets.get(target, {})
        gone: list[bytes] = []
        for store_key, stamp in delivered:
            hint = hints.get(store_key)
            if hint is not None and hint.stamp == stamp:
                del hints[store_key]
                self._uncount(store_key)
                self.held_bytes -= hint.held_bytes
                gone.append(_join(target, store_key))
        return gone

    def compared(self, target: str, since: int) -> list[bytes]:
        """See `HintGaps.closed`."""
        gone = self.gaps.closed(target, since)
        if gone:
            self._partitions = None
            self.on_change()
        return gone

    def expire(self, is_kept: Callable[[bytes], bool] = lambda store_key: False) -> tuple[list[bytes], list[tuple[bytes, bytes]]]:
        """Drops what was owed for too long; never what is held, nor that of which `is_kept` is true: nothing else would find it.
        What to delete, and what to write before."""
        limit_ms = self._clock.now_ms() - self._age_ms_max
        gone: list[bytes] = []
        written: list[tuple[bytes, bytes]] = []
        for target, hints in sorted(self._targets.items()):
            old = [key for key, hint in _until(hints, limit_ms) if not hint.held_bytes and not is_kept(key)]
            for store_key in old:
                del hints[store_key]
                self._uncount(store_key)
                written += self._drop(target, store_key)
                gone.append(_join(target, store_key))
        return gone, written

    def forget(self, is_gone: Callable[[bytes], bool]) -> list[bytes]:
        """Drops every hint for a store key of which `is_gone` is true: nobody is to have that record any more. What to delete."""
        gone: list[bytes] = []
        for target, hints in sorted(self._targets.items()):
            for store_key in [key for key in hints if is_gone(key)]:
                hint = hints.pop(store_key)
                self._uncount(store_key)
                self.held_bytes -= hint.held_bytes
                gone.append(_join(target, store_key))
        return gone

    def check(self) -> None:
        """Asserts the invariants; for tests and simulation."""
        assert self.count == sum(map(len, self._targets.values())) == sum(self._of_partition.values())
        assert self.held_bytes == sum(hint.held_bytes for hints in self._targets.values() for hint in hints.values())

    def _put(self, target: str, store_key: bytes, hint: Hint) -> None:
        self._targets.setdefault(target, {})[store_key] = hint
        self.count += 1
        self.held_bytes += hint.held_bytes
        partition = split_store_key(store_key)[0]
        before = self._of_partition.get(partition, 0)
        self._of_partition[partition] = before + 1
        if not before:
            self._partitions = None
        self.on_change()

    def _uncount(self, store_key: bytes) -> None:
        self.count -= 1
        partition = split_store_key(store_key)[0]
        self._of_partition[partition] -= 1
        if not self._of_partition[partition]:
            del self._of_partition[partition]
            self._partitions = None

    def _drop(self, target: str, store_key: bytes) -> list[tuple[bytes, bytes]]:
        self.dropped += 1
        written = self.gaps.note(target, split_store_key(store_key)[0])
        if written:
            self._partitions = None
            self.on_change()
        return written

    def _next_stamp(self) -> int:
        self._stamp += 1
        return self._stamp


def _until(hints: dict[bytes, Hint], created_ms: int) -> Iterator[tuple[bytes, Hint]]:
    """Those made before `created_ms`; they stand in the order in which they were made, as far as the clock never went back."""
    for key, hint in hints.items():
        if hint.created_ms >= created_ms:
            return
        yield key, hint


def _join(target: str, store_key: bytes) -> bytes:
    name = target.encode()
    return system_key(_NAME + bytes([len(name)]) + name + store_key)


def _split(key: bytes) -> tuple[str, bytes]:
    start = len(system_key(_NAME)) + 1
    end = start + key[start - 1]
    return key[start:end].decode(), key[end:]
