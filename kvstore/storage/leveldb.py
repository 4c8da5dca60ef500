"""LevelDB as an engine (contract: engine.py): one log, synced by the batch, and sorted tables beneath it.

LevelDB's defaults prefer going on to being right. Here every block is verified on its way in, a log or table that does not verify
is an error and never a gap, and the first failed write is the last. Only this file touches plyvel, and nothing above it sees
plyvel's errors. assembly.py has one opened for data, inside a `directory.DataDirectory`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import repeat
from operator import itemgetter
from pathlib import Path
from threading import Event, Thread
from typing import Any, Protocol

from kvproto.errors import StorageError
from kvstore.storage.full_disk import tells_full
from kvstore.storage.inside import Inside
from kvstore.storage.known_keys import KnownKeys, learn
from kvstore.storage.writeback import TableWriteback

try:
    import plyvel
except ImportError:  # no wheels for this Python or machine: the fork has the same API and the same files
    import plyvel_next as plyvel

WRITE_BUFFER_BYTES = 64 << 20
CACHE_BYTES = 64 << 20
TABLE_BYTES = 8 << 20  # LevelDB's 2 MiB means 5,000 files for 10 GB, more than its table cache holds
BLOOM_BITS = 10  # a missing key costs a table read once in a hundred; most first writes look for a missing key

END_MARK = b"\xff" * 16
"""Greater than every key; an empty entry under it ends the map, so that a scan can tell the end from a gap (see `scan`)."""

SCAN_CHUNK_PAIRS_FIRST = 4  # a page over 256 partitions takes a few pairs of each: what it does not take was read for nothing
SCAN_CHUNK_PAIRS = 256
SCAN_CHUNK_BYTES = 256 << 10

NAME_SYNCS = 64
"""After the directory has changed, so many synced writes sync it too: its time stamp is coarse, and a second change within one tick
would not show. The writes take longer than a tick together."""


class _Get(Protocol):
    def __call__(self, key: bytes) -> bytes | None: ...


class LevelDbEngine:
    """An `Engine` over the LevelDB database in the directory `path`, which is created; its parent must exist.

    Up to two write buffers are in memory at once: at 33,000 records of 200 bytes a second one fills in 10 seconds and is on disk
    in a fraction of one, piece by piece (writeback.py), so that writers do not wait for it. Raises `StorageError` if the database
    is damaged, held by another process, or cannot be written. Keys from sixteen 0xFF bytes on are reserved.
    """

    get: _Get
    """`Engine.get`; a closure over the database, for it is the hottest call of a node."""

    def __init__(
        self, path: str | os.PathLike[str], *, write_buffer_bytes: int = WRITE_BUFFER_BYTES, cache_bytes: int = CACHE_BYTES
    ) -> None:
        self._path = Path(path)
        self._failure: StorageError | None = None
        # Freeing the database under a call that is inside LevelDB would take the process down. So each call enters itself here,
        # then looks whether the engine is closing; `close` says that it is, then waits for the list to be empty. Appending and
        # popping are atomic, and cheaper than a lock.
        self._calls: list[None] = []
        self._closing: list[None] = []  # not empty: closing, or closed
        # Not whether a key is found in it: a damaged database may have lost any.
        is_new = not (self._path / "CURRENT").exists()
        try:
            self._db: Any = self._open(write_buffer_bytes, cache_bytes)
        except plyvel.Error as error:
            raise self._opening_failed(error) from error
        self._inside = Inside(self._db, plyvel.Error, self._calls, self._closing, self._refusal)
        self._directory = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._directory_changed_ns = 0
        self._name_syncs_due = 0
        self._has_unsynced = False
        self._stopping = Event()
        self._writeback = TableWriteback(self._path, self._fail)
        self._mark_end()
        self._known = KnownKeys(complete=is_new)
        self._known.add([END_MARK])
        self.get = self._bound_get()
        self._learning = Thread(target=self._learn, name="kv-known-keys", daemon=True)
        if not is_new:
            self._learning.start()

    def _mark_end(self) -> None:
        try:
            if self._db.get(END_MARK, verify_checksums=True) is None:
                self._db.put(END_MARK, b"", sync=True)
        except plyvel.Error as error:
            self._db.close()  # or LevelDB's lock would stay taken for as long as somebody keeps the error
            raise StorageError(self._describe(error), subject=str(self._path)) from error

    def _open(self, write_buffer_bytes: int, cache_bytes: int) -> Any:
        """Bytewise order only: plyvel's custom comparators abort the interpreter during compaction (plyvel#35)."""
        return plyvel.DB(
            str(self._path),
            create_if_missing=True,
            # Without it LevelDB skips what does not verify in its log and compacts damaged blocks under a fresh checksum: records
            # would be absent or wrong where they must be unknown (safety rule 5).
            paranoid_checks=True,
            write_buffer_size=write_buffer_bytes,
            lru_cache_size=cache_bytes,
            max_file_size=TABLE_BYTES,
            bloom_filter_bits=BLOOM_BITS,
            # Snappy halves text, and costs more than all the rest of a compaction (ADR 7). Tables written with it are read.
            compression=None,
        )

    def _bound_get(self) -> _Get:
        read, closing, describe = self._db.get, self._closing, self._describe
        enter, leave, failure, subject = self._calls.append, self._calls.pop, plyvel.Error, str(self._path)
        filters = self._known.filters

        def get(key: bytes) -> bytes | None:
            enter(None)
            try:
                if closing:
                    raise StorageError(describe(None), subject=subject)
                for known in filters:
                    if key in known:
                        break
                else:
                    return None
                value: bytes | None = read(key, verify_checksums=True)
                return value
            except failure as error:
                raise StorageError(describe(error), subject=subject) from error
            finally:
                leave()

        return get

    def write(self, puts: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes] = (), *, sync: bool) -> None:
        """See `Engine.write`. LevelDB itself may take the write after a failed one; this layer does not (safety rule 4)."""
        with self._inside as db:
            batch = self._gather(db, puts, deletes, sync)
        self._write(batch, sync)

    def prepare(self, puts: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes] = (), *, sync: bool) -> Callable[[], None]:
        """See `Engine.prepare`: plyvel lets go of the interpreter's lock for each entry."""
        with self._inside as db:
            return partial(self._write, self._gather(db, puts, deletes, sync), sync)

    def _gather(self, db: Any, puts: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes], sync: bool) -> Any:
        self._known.add([key for key, _ in puts])
        batch = db.write_batch(sync=sync)
        for key in deletes:
            assert key < END_MARK
            batch.delete(key)
        put = batch.put
        for key, value in puts:
            assert key < END_MARK
            put(key, value)
        return batch

    def _write(self, batch: Any, sync: bool) -> None:
        if self._failure is not None:
            raise self._failure.with_traceback(None)
        self._has_unsynced = self._has_unsynced or not sync
        with self._inside:
            try:
                batch.write()
                if sync:
                    self._sync_names()
            except (plyvel.Error, OSError) as error:
                raise self._fail(error) from error

    def _fail(self, error: Exception) -> StorageError:
        """What every later write raises."""
        self._failure = StorageError(self._describe(error), may_have_applied=True, subject=str(self._path))
        return self._failure

    def _sync_names(self) -> None:
        """Makes the names of new files durable before what lies in them is acknowledged: LevelDB does so only when it next writes
        its list of tables, and a log without a name is lost on file systems that order it so."""
        changed_ns = os.stat(self._directory).st_mtime_ns
        if changed_ns != self._directory_changed_ns:
            if self._directory_changed_ns:
                self._writeback.begin()  # a new log: the buffer that the one before it kept is being written to a table
            self._directory_changed_ns = changed_ns
            self._name_syncs_due = NAME_SYNCS
        if self._name_syncs_due:
            os.fsync(self._directory)
            self._name_syncs_due -= 1

    def sync(self) -> None:
        """Whatever was written is durable when this returns, also what was written without a sync into a log that LevelDB has left
        since. Raises `StorageError`; it is the last write then (safety rule 4)."""
        with self._inside:
            try:
                self._sync_logs()
                os.fsync(self._directory)
            except OSError as error:
                raise self._fail(error) from error

    def scan(self, start: bytes, end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """See `Engine.scan`. Where something cannot be read it raises `StorageError` before it gives any key behind the gap.

        plyvel takes an iterator that ran into a damaged block at the end of its range for one that is done. So ranges end here, not
        in plyvel: at the first key past them, which the end mark makes sure to exist. One that ends by itself has lost keys.
        """
        cursor = self._cursor(start)
        return self._pairs(cursor, cursor, _limit(end))

    def keys(self, start: bytes, end: bytes | None = None) -> Iterator[bytes]:
        """See `Engine.keys`, and `scan`."""
        cursor = self._cursor(start, include_value=False)
        return map(itemgetter(0), self._pairs(cursor, zip(cursor, repeat(b"")), _limit(end)))

    def _cursor(self, start: bytes, *, include_value: bool = True) -> Any:
        with self._inside as db:
            # The iterator pins its snapshot now, not when the first pair is asked for. A scan must not push hot blocks out of the
            # cache.
            return db.iterator(start=min(start, END_MARK), verify_checksums=True, fill_cache=False, include_value=include_value)

    def _pairs(self, cursor: Any, rows: Iterable[tuple[bytes, bytes]], limit: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Those of `rows` below `limit`, which `cursor` gives."""
        more, count_max = True, SCAN_CHUNK_PAIRS_FIRST
        while more:
            pairs, more = self._next_chunk(rows, limit, count_max)
            yield from pairs
            count_max = min(2 * count_max, SCAN_CHUNK_PAIRS)
        cursor.close()

    def _next_chunk(
        self, rows: Iterable[tuple[bytes, bytes]], limit: bytes, count_max: int
    ) -> tuple[list[tuple[bytes, bytes]], bool]:
        """At most `count_max` pairs below `limit`, and whether there may be more. In chunks: the engine can be closed between any
        two."""
        pairs: list[tuple[bytes, bytes]] = []
        chunk_bytes = 0
        with self._inside:
            for pair in rows:
                if pair[0] >= limit:
                    return pairs, False
                pairs.append(pair)
                chunk_bytes += len(pair[1])
                if chunk_bytes >= SCAN_CHUNK_BYTES or len(pairs) >= count_max:
                    return pairs, True
        raise StorageError(f"the data in {self._path} is damaged: a scan ended before the end of the map", subject=str(self._path))

    def _learn(self) -> None:
        with suppress(StorageError):  # what cannot be read in whole is never known in whole
            learn(self._known, self.scan(b""), self._stopping)

    def size_bytes(self) -> int:
        """The files of the database, log included: what it takes on disk, not what its records take."""
        total = 0
        with self._inside, os.scandir(self._path) as entries:
            for entry in entries:
                try:
                    total += entry.stat().st_size
                except FileNotFoundError:  # a compaction has just removed it
                    continue
        return total

    def statistics(self) -> dict[str, str]:
        """LevelDB's version, its table of levels and compactions, and the bytes its buffers and block cache take."""
        names = {"levels": b"leveldb.stats", "memory_bytes": b"leveldb.approximate-memory-usage"}
        with self._inside as db:
            told = {name: (db.get_property(its) or b"").decode() for name, its in names.items()}
        return {"engine": f"leveldb {plyvel.__leveldb_version__}", **told}

    def close(self) -> None:
        """See `Engine.close`. Waits for the calls that are inside LevelDB; scans that are not finished end with `StorageError`.

        What was written with sync=False is synced. Raises `StorageError` if that fails; the engine is closed then as well.
        """
        self._closing.append(None)
        self._stopping.set()
        self._writeback.close()
        pause = Event()
        while self._calls:
            pause.wait(0.001)
        if self._learning.is_alive():
            self._learning.join()
        self._db.close()
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1
            if self._has_unsynced:
                try:
                    self._sync_logs()
                except OSError as error:
                    raise StorageError(self._describe(error), may_have_applied=True, subject=str(self._path)) from error

    def _sync_logs(self) -> None:
        """What was written without a sync reaches the disk, whichever log it is in: LevelDB leaves one for the next without syncing
        it. Raises `OSError`, a failed sync like any other."""
        for log in sorted(self._path.glob("*.log")):
            with suppress(FileNotFoundError), open(log, "rb") as file:  # one that is gone is in a table by now
                os.fsync(file.fileno())

    def _describe(self, error: Exception | None) -> str:
        """One sentence on what LevelDB refused, and the way out where there is one."""
        if error is None:
            return f"the store in {self._path} is closed"
        text = _text_of(error)
        if tells_full(text):
            return f"the disk of {self._path} is full ({text}): free some space, then start the node again"
        # A table that is shorter than its index says: LevelDB takes it for a wrong question to the system.
        if isinstance(error, plyvel.CorruptionError) or f".ldb: {os.strerror(errno.EINVAL)}" in text:
            return f"the data in {self._path} is damaged ({text})"
        return f"the store in {self._path} failed ({text})"

    def _refusal(self, error: Exception | None) -> StorageError:
        return StorageError(self._describe(error), subject=str(self._path))

    def _opening_failed(self, error: Exception) -> StorageError:
        text = _text_of(error)
        if "LOCK: " in text and ("already held" in text or os.strerror(errno.EAGAIN) in text):
            message = f"the store in {self._path} is open in another process"
        else:
            message = self._describe(error)
        return StorageError(message, subject=str(self._path))


def _limit(end: bytes | None) -> bytes:
    """Where a scan ends that is to end before `end`."""
    return END_MARK if end is None else min(end, END_MARK)


def _text_of(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = error.args[0] if error.args else ""
    return text.decode(errors="replace") if isinstance(text, bytes) else str(text)
