"""A node's simulated disk: the memory engine with what a machine can do to it, and the data directory around it.

What a sync has covered survives every crash; what it has not is lost in any tail (storage/memory.py). Writes and syncs can fail, be
slow, or be full; bits can flip in what is stored; an older copy can be put back. Commits are written by a worker that takes time: a
crash may fall before the write, or between the write and the news of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Generic

from kvproto.errors import ClusterError, StorageError, StoreInUse, WrongCluster
from kvstore.runtime import JobT
from kvstore.simulation.process import Process
from kvstore.storage.layout import SYSTEM_PREFIX
from kvstore.storage.memory import MemoryEngine

MS = 1_000_000


@dataclass(frozen=True, slots=True)
class DiskSettings:
    """A write and its sync take `write_ms` and up to `jitter_ms` more; its completion is heard of up to `notice_ms` later."""

    write_ms: float = 0.1
    jitter_ms: float = 0.4
    notice_ms: float = 0.05


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy of a data directory."""

    pairs: dict[bytes, bytes]
    identity: tuple[str, str] | None
    clean_state: bytes | None


class SimDisk:
    """What outlives the processes of one node."""

    def __init__(self, name: str, rng: Random, settings: DiskSettings, note: Callable[..., None]) -> None:
        self.name = name
        self.note = note  # (kind, **facts) for the log of events
        self.settings = settings
        self.slow_ms = 0.0
        self.unreadable: set[bytes] = set()
        self.syncs = 0
        self._rng = rng
        self._memory = MemoryEngine(crashable=True)
        self._identity: tuple[str, str] | None = None
        self._clean_state: bytes | None = None
        self.files: dict[str, bytes] = {}
        self._holder: Process | None = None
        self._failures: deque[tuple[str, bool]] = deque()

    # --- what a node opens

    def open_directory(self, process: Process, path: Path, cluster_id: str, node_id: str) -> SimDirectory:
        """See storage/directory.py: whose it is, that only one process has it, and whether the last one ended cleanly."""
        if self._holder is not None and self._holder.is_alive:
            raise StoreInUse(f"{path} is in use", subject=str(path))
        if self._identity is not None and self._identity[0] != cluster_id:
            raise WrongCluster(f"{path} belongs to cluster {self._identity[0]!r}", subject=str(path))
        if self._identity is not None and self._identity[1] != node_id:
            raise ClusterError(f"{path} holds the data of node {self._identity[1]!r}", subject=str(path))
        self._identity = (cluster_id, node_id)
        self._holder = process
        state, self._clean_state = self._clean_state, None
        return SimDirectory(self, path, state)

    def open_engine(self, path: Path) -> SimEngine:
        """The engine, as the last one left it or a crash made it."""
        self._memory = self._memory.crash(keep_unsynced_batches=self._memory.unsynced_batches)
        return SimEngine(self, self._memory, str(path))

    def close(self, clean_state: bytes | None) -> None:
        """The directory is let go of."""
        self._holder = None
        self._clean_state = clean_state

    # --- faults

    def crash(self, keep: int | None = None) -> int:
        """The machine stops: of the batches that no sync has covered the first `keep` survive (None: drawn). How many did."""
        unsynced = self._memory.unsynced_batches
        kept = self._rng.randint(0, unsynced) if keep is None else min(keep, unsynced)
        self._memory = self._memory.crash(keep_unsynced_batches=kept)
        self._holder = None
        self._failures.clear()
        return kept

    def wipe(self) -> None:
        """Nothing is left, not even whose it was."""
        self._memory.close()
        self._memory = MemoryEngine(crashable=True)
        self._identity = self._clean_state = self._holder = None
        self.unreadable.clear()
        self.files.clear()

    def fail_next_write(self, error: str = "EIO", *, applied: bool | None = None) -> None:
        """The next write raises; `applied` says whether its batch is on the disk all the same (None: drawn). An engine that failed
        fails for ever; the next one opened works."""
        self._failures.append((error, self._rng.random() < 0.5 if applied is None else applied))

    def flip_bit(self, store_key: bytes | None = None) -> bytes | None:
        """Flips a bit of what is stored under `store_key`, or of a record drawn; which one (None: there is none, or a node that
        ends has closed it already)."""
        if self._memory.is_closed:
            return None
        pairs = self._memory.durable
        keys = [key for key in pairs if not key.startswith(SYSTEM_PREFIX)] if store_key is None else [store_key]
        if not keys or keys[0] not in pairs:
            return None
        key = self._rng.choice(keys)
        value = bytearray(pairs[key])
        value[self._rng.randrange(len(value))] ^= 1 << self._rng.randrange(8)
        self._memory.write([(key, bytes(value))], sync=True)
        return key

    def backup(self) -> Backup:
        """A copy as of now, of what is durable."""
        return Backup(self._memory.durable, self._identity, self._clean_state)

    def restore(self, backup: Backup) -> None:
        """Puts a copy back, in place of whatever is there. Only while nobody has the directory open."""
        assert self._holder is None or not self._holder.is_alive, f"{self.name} runs"
        self._memory = MemoryEngine(backup.pairs, crashable=True)
        self._identity, self._clean_state = backup.identity, backup.clean_state

    def failure(self) -> tuple[str, bool] | None:
        """What the next write is to fail with."""
        return self._failures.popleft() if self._failures else None

    def delay_ns(self, scale_ms: float) -> int:
        """How long something takes that takes about `scale_ms`."""
        return 1 + int((scale_ms + self.settings.jitter_ms * self._rng.random() ** 3 + self.slow_ms) * MS)

    def held(self) -> dict[bytes, bytes]:
        """What a crash would leave for certain."""
        return self._memory.durable

    @property
    def unsynced_batches(self) -> int:
        """How many batches a crash may lose now."""
        return self._memory.unsynced_batches


class SimEngine:
    """An `Engine` in front of the memory one, with the disk's faults."""

    def __init__(self, disk: SimDisk, memory: MemoryEngine, path: str) -> None:
        self._disk = disk
        self._memory = memory
        self._path = path
        self._failure: StorageError | None = None
        self.scan = memory.scan
        self.keys = memory.keys
        self.size_bytes = memory.size_bytes
        self.statistics = memory.statistics
        self.close = memory.close

    def get(self, key: bytes) -> bytes | None:
        """See `Engine.get`."""
        if self._disk.unreadable and key in self._disk.unreadable:
            raise StorageError("Input/output error", subject=self._path)
        return self._memory.get(key)

    def prepare(self, puts: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes] = (), *, sync: bool) -> Callable[[], None]:
        """See `Engine.prepare`. There is nothing to gather."""
        return partial(self.write, puts, deletes, sync=sync)

    def write(self, puts: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes] = (), *, sync: bool) -> None:
        """See `Engine.write`."""
        if self._failure is not None:
            raise self._failure.with_traceback(None)
        failing = self._disk.failure()
        if failing is not None:
            error, applied = failing
            if applied:
                self._memory.write(puts, deletes, sync=sync)
            self._disk.note("commit", records=len(puts), error=error, applied=applied)
            self._failure = StorageError(f"{self._path}: {error}", may_have_applied=True, subject=self._path)
            raise self._failure
        self._memory.write(puts, deletes, sync=sync)
        self._disk.syncs += sync
        self._disk.note("commit", records=len(puts), sync=sync)


class SimDirectory:
    """A `Directory` (kvstore/seams.py) on a simulated disk."""

    def __init__(self, disk: SimDisk, path: Path, clean_state: bytes | None) -> None:
        self.path = path
        self.clean_state = clean_state
        self._disk = disk
        self._is_open = True

    def subdirectory(self, name: str) -> Path:
        """A place in it."""
        return self.path / name

    def append(self, name: str, data: bytes) -> None:
        """See storage/directory.py."""
        self._disk.files[name] = self._disk.files.get(name, b"") + data

    def close(self, clean_state: bytes | None = None) -> None:
        """See storage/directory.py."""
        if self._is_open:
            self._is_open = False
            self._disk.close(clean_state)


class SimWorker(Generic[JobT]):
    """A `Worker` on virtual time: each job is done in one go, some time after the one before it."""

    def __init__(self, process: Process, disk: SimDisk, work: Callable[[JobT], bool]) -> None:
        self._process = process
        self._disk = disk
        self._work = work
        self._jobs: deque[JobT] = deque()
        self._is_busy = False
        self._is_over = False
        self._notice_ns = 0

    def put(self, job: JobT | None) -> None:
        """See `Worker.put`."""
        if job is not None and not self._is_over:
            self._jobs.append(job)
            if not self._is_busy:
                self._begin()

    def join(self) -> None:
        """See `Worker.join`: no time can pass here, so what is left is done at once."""
        while self._jobs:
            self._do()
        self._is_over = True

    def _begin(self) -> None:
        self._is_busy = True
        loop = self._process.loop
        self._process.post_at(loop.now_ns + self._disk.delay_ns(self._disk.settings.write_ms), self._step)

    def _step(self) -> None:
        if self._jobs:
            self._do()
        if self._jobs and not self._is_over:
            self._begin()
        else:
            self._is_busy = False

    def _do(self) -> None:
        loop, job = self._process.loop, self._jobs.popleft()
        # What one thread tells the loop arrives in the order in which it was told.
        self._notice_ns = max(self._notice_ns + 1, loop.now_ns + self._disk.delay_ns(self._disk.settings.notice_ms))
        loop.notice_ns = self._notice_ns
        try:
            if not self._work(job):
                self._is_over = True
        finally:
            loop.notice_ns = 0
