"""An engine that keeps large values in files of their own, and pointers to them in the map of another engine.

A log-structured map writes each value several times: into its log, into a table, and into each table that a compaction makes of it.
With values of a megabyte that is all the disk and half a processor, while everybody else's syncs wait. So a value of 32 KiB or more
that is to be synced is appended to a file, the file is synced, and only then is the map told where it lies (ADR 33). Lu et al.,
"WiscKey: Separating Keys from Values in SSD-conscious Storage", FAST 2016, section 3.2; what is reclaimed, reclaiming.py.

A value that is not to be synced stays in the map, whose log a crash shortens in order: a pointer might outlive its value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import groupby
from threading import Lock

from kvproto.errors import StorageError
from kvstore.storage.engine import UNREADABLE
from kvstore.storage.full_disk import is_full
from kvstore.storage.large.files import Files, Writer
from kvstore.storage.large.ledger import Ledger
from kvstore.storage.large.pointers import MARK, Pointer, checksum, escape, read_marked
from kvstore.storage.large.reclaiming import MapEngine, Reclaimer, ReclaimingThread
from kvstore.storage.large.shelf import Shelf, ValueFile

LARGE_BYTES = 32 << 10
FILE_BYTES = 64 << 20


class _Placed:
    """A value on its way into a file, and where it will lie."""

    __slots__ = ("file", "key", "pointer", "value")

    def __init__(self, key: bytes, value: bytes, file: ValueFile, offset: int) -> None:
        self.key = key
        self.value = value
        self.file = file
        self.pointer = Pointer(file.number, offset, len(value), checksum(value))


class LargeValueEngine:
    """An `Engine` over `inner`, which nobody else writes to, and `files`. `name` is what errors call the place.

    `reclaimer` makes room; its thread runs from the first large value on, unless `thread` is false: then whoever tests it takes the
    steps.
    """

    get: Callable[[bytes], bytes | None]
    """`Engine.get`; a closure, for it is the hottest call of a node."""

    def __init__(
        self,
        inner: MapEngine,
        files: Files,
        *,
        name: str,
        large_bytes: int = LARGE_BYTES,
        file_bytes: int = FILE_BYTES,
        thread: bool = True,
    ) -> None:
        self.inner = inner
        self._name = name
        self._large_bytes = large_bytes
        self._disk = files
        self._shelf = Shelf(files, file_bytes=file_bytes)
        self._ledger = Ledger()
        self._lock = Lock()  # the map and the ledger change together
        self._writers: dict[int, Writer] = {}
        self._failure: StorageError | None = None
        self._is_closed = False
        self.reclaimer = Reclaimer(inner, self._shelf, self._ledger, self._lock, self._read)
        self._reclaiming = ReclaimingThread(self.reclaimer) if thread else None
        self.get = self._bound_get()
        if self._shelf.files:
            self._wake()

    def _bound_get(self) -> Callable[[bytes], bytes | None]:
        get_stored, resolve = self.inner.get, self._resolve

        def get(key: bytes) -> bytes | None:
            stored = get_stored(key)
            if stored is None or not stored.startswith(MARK):
                return stored
            return resolve(key, stored)

        return get

    def _resolve(self, key: bytes, stored: bytes) -> bytes | None:
        """The value that `stored` stands for, or what the key has come to hold while we looked."""
        while True:
            files = self._shelf.files
            pointer = self._marked(stored)
            if not isinstance(pointer, Pointer):
                return pointer
            if pointer.file in files:
                return self._read(pointer)
            again = self.inner.get(key)  # moved, and the file taken away behind it
            if again is None or not again.startswith(MARK):
                return again
            if again == stored:
                raise self._damaged(f"the file {pointer.file} of a large value is missing")
            stored = again

    def _marked(self, stored: bytes) -> Pointer | bytes:
        try:
            return read_marked(stored)
        except ValueError as error:
            raise self._damaged(f"a pointer to a large value is none: {error}") from error

    def _read(self, pointer: Pointer) -> bytes:
        """The value, from a file that the caller has in hand. Raises `StorageError`."""
        try:
            value = self._disk.read(pointer.file, pointer.offset, pointer.size_bytes)
        except OSError as error:
            raise self._failed(error) from error
        if checksum(value) != pointer.checksum or len(value) != pointer.size_bytes:
            raise self._damaged(f"a large value in the file {pointer.file} does not verify")
        return value

    def write(self, puts: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes] = (), *, sync: bool) -> None:
        """See `Engine.write`."""
        self.prepare(puts, deletes, sync=sync)()

    def prepare(self, puts: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes] = (), *, sync: bool) -> Callable[[], None]:
        """See `Engine.prepare`."""
        large_bytes = self._large_bytes
        placed: list[_Placed] = []
        if [None for _, value in puts if len(value) >= large_bytes or value.startswith(MARK)]:
            puts = [(key, self._stored(key, value, placed, sync=sync)) for key, value in puts]
        try:
            write = self.inner.prepare(puts, deletes, sync=sync)
        except BaseException:
            self._let_go(placed)
            raise
        return partial(self._write, write, puts, deletes, placed)

    def _stored(self, key: bytes, value: bytes, placed: list[_Placed], *, sync: bool) -> bytes:
        """What the map is to hold for `value`; of a large one the place is noted in `placed`."""
        if sync and len(value) >= self._large_bytes:
            placing = _Placed(key, value, *self._shelf.place(len(value)))
            placed.append(placing)
            return placing.pointer.encode()
        return escape(value) if value.startswith(MARK) else value

    def _write(
        self, write: Callable[[], None], puts: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes], placed: list[_Placed]
    ) -> None:
        if self._failure is not None:
            raise self._failure.with_traceback(None)
        try:
            with self._lock:
                if placed:
                    self._append(placed)
                write()
                freed = bool(self._ledger) and self._ledger.all_gone([*deletes, *[key for key, _ in puts]])
                if placed:
                    self._note(puts, placed)
        finally:
            self._let_go(placed)
        if placed or freed:
            self._wake()

    def _note(self, puts: Sequence[tuple[bytes, bytes]], placed: Sequence[_Placed]) -> None:
        """In the ledger, what is the last word of this batch on its key."""
        last = dict(puts)
        for placing in placed:
            if last[placing.key] == placing.pointer.encode():
                self._ledger.put(placing.key, placing.pointer)

    def _append(self, placed: Sequence[_Placed]) -> None:
        """Makes the values durable, before anything points to them."""
        try:
            for number, group in groupby(placed, lambda placing: placing.pointer.file):
                writer = self._writer(number)
                for placing in group:
                    writer.write(placing.pointer.offset, placing.value)
                writer.sync()
        except OSError as error:
            self._failure = self._failed(error)
            self._failure.may_have_applied = True
            raise self._failure from error

    def _writer(self, number: int) -> Writer:
        """Values come in the order of their places, so that a new file means that the one before it has all of its own."""
        writer = self._writers.get(number)
        if writer is None:
            self._close_writers()
            writer = self._writers[number] = self._shelf.create(number)
        return writer

    def _close_writers(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _let_go(self, placed: Sequence[_Placed]) -> None:
        for placing in placed:
            self._shelf.keep(placing.file)

    def _wake(self) -> None:
        if self._reclaiming is not None:
            self._reclaiming.wake()

    def scan(self, start: bytes, end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """See `Engine.scan`. A large value is read when its pair is asked for."""
        with self._shelf.lock:
            pairs = self.inner.scan(start, end)
            files = self._shelf.files  # after the map: what that points to is in it
        return self._whole(pairs, files)

    def _whole(self, pairs: Iterator[tuple[bytes, bytes]], files: Mapping[int, ValueFile]) -> Iterator[tuple[bytes, bytes]]:
        for pair in pairs:
            key, stored = pair
            if not stored.startswith(MARK):
                yield pair
                continue
            try:
                pointer = self._marked(stored)
                if not isinstance(pointer, Pointer):
                    value = pointer
                elif pointer.file in files:
                    value = self._read(pointer)
                else:
                    value = UNREADABLE
            except StorageError:
                if self._is_closed:
                    raise
                value = UNREADABLE
            yield key, value

    def keys(self, start: bytes, end: bytes | None = None) -> Iterator[bytes]:
        """See `Engine.keys`."""
        return self.inner.keys(start, end)

    def size_bytes(self) -> int:
        """See `Engine.size_bytes`."""
        return self.inner.size_bytes() + sum(self._disk.sizes_bytes().values())

    def statistics(self) -> dict[str, str]:
        """Those of the map; how many large values are known to be alive, what they take, and what all files of values take."""
        numbers = {
            "large_values": len(self._ledger),
            "large_value_bytes": sum(self._ledger.alive_bytes(number) for number in self._shelf.files),
            "large_value_file_bytes": sum(self._disk.sizes_bytes().values()),
        }
        return {**self.inner.statistics(), **{name: str(number) for name, number in numbers.items()}}

    def close(self) -> None:
        """See `Engine.close`."""
        self._is_closed = True
        if self._reclaiming is not None:
            self._reclaiming.close()
        self.inner.close()
        with self._lock, suppress(OSError):
            self._close_writers()
        self._shelf.close()

    def check(self, pointers: Mapping[bytes, bytes]) -> None:
        """Asserts the invariants; for tests. `pointers`: those that the map holds."""
        self._ledger.check()
        if self.reclaimer.knows_all:
            told = {key: pointer.encode() for file in self._shelf.files for key, pointer in self._ledger.alive(file)}
            assert told == pointers, "the ledger is that of the map"

    def _failed(self, error: OSError) -> StorageError:
        reason = error.strerror or str(error)
        if is_full(error):
            text = f"the disk of {self._name} is full ({reason}): free some space, then start the node again"
        else:
            text = f"the store in {self._name} failed ({reason})"
        return StorageError(text, subject=self._name)

    def _damaged(self, reason: str) -> StorageError:
        return StorageError(f"the data in {self._name} is damaged ({reason})", subject=self._name)
