"""Group commit on its own thread: one batch and one fsync for everything that waits, then every waiter completes.

The third user of the self-clocking coalescer (kvproto/link.py): while one batch is being synced the next gathers. A failed write or
sync is never retried (safety rule 4): every waiter and every later commit gets the error, and the node is told to stop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from kvproto.errors import StorageError
from kvproto.link import Coalescer, LinkBounds, Ticket
from kvstore.runtime import StartWorker, ThreadWorker, Worker
from kvstore.storage.engine import Engine
from kvstore.telemetry.meters import CommitMeter

FOREVER = float("inf")
BEHIND_COUNT = 4096
BEHIND_BYTES = 2 * 1024 * 1024

Pairs = Sequence[tuple[bytes, bytes]]


class Commit:
    """Pairs to be made durable together, and keys to be deleted before them; `done` is called on the loop with None, or with what
    went wrong. `look` is called on the commit thread when its batch is written and nothing behind it is: what it sees of the engine
    is exactly what the commits told complete before `done` have made. Without `sync` the operating system has it, and nobody waits
    for the disk."""

    __slots__ = ("count", "deadline_s", "deletes", "done", "look", "pairs", "size_bytes", "sync")

    def __init__(
        self,
        pairs: Pairs,
        size_bytes: int,
        done: Callable[[StorageError | None], None],
        deletes: Sequence[bytes] = (),
        *,
        look: Callable[[], None] | None = None,
        sync: bool = True,
    ) -> None:
        self.look = look
        self.sync = sync
        self.pairs = pairs
        self.deletes = deletes
        self.count = len(pairs) + len(deletes)
        self.size_bytes = size_bytes
        self.deadline_s = FOREVER
        self.done = done

    def expire(self) -> None:
        """Never: what was accepted for commit is committed, or the node stops."""
        raise AssertionError("commits have no deadline")


Job = tuple[list[Commit], Ticket, Callable[[], None]]

NO_TIME: Callable[[], float] = float
"""The timer of those who measure nothing."""


class Committer:
    """Owns the commit thread of one engine. Belongs to one event loop."""

    def __init__(
        self,
        engine: Engine,
        *,
        sync: bool,
        on_failure: Callable[[StorageError], None],
        bounds: LinkBounds | None = None,
        name: str = "commit",
        start_worker: StartWorker = ThreadWorker,
        meter: CommitMeter | None = None,
    ) -> None:
        self.meter = meter
        self._engine = engine
        self._sync = sync
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._coalescer: Coalescer[Commit] = Coalescer(self._send, name=name, bounds=bounds, eager=True)
        self._drained: asyncio.Event = asyncio.Event()
        self._pending = 0
        self._looks = 0  # of what is queued
        self._unsynced = 0  # likewise
        self.syncs = 0
        self._sent_s: deque[float] = deque()  # when each batch that the worker has not done was handed to it
        self.failure: StorageError | None = None
        self.commits = 0
        self.records = 0
        # The worker's own: a full batch may be queued behind the one that fails, before the loop hears of it.
        self._write_failure: StorageError | None = None
        self._worker: Worker[Job] = start_worker(self._write, name)

    @property
    def queued_count(self) -> int:
        """Records that wait for the next batch."""
        return self._coalescer.queued_count

    @property
    def is_behind(self) -> bool:
        """Whether enough waits to keep the disk busy for a while: more would only wait longer."""
        return self._coalescer.queued_count > BEHIND_COUNT or self._coalescer.queued_bytes > BEHIND_BYTES

    def stuck_s(self) -> float:
        """How long the oldest batch has been with the worker; 0 if it has none. It grows without end when the disk hangs, or when
        the worker is gone."""
        return self._loop.time() - self._sent_s[0] if self._sent_s else 0.0

    def admit(self, count: int, size_bytes: int) -> None:
        """Raises `Overloaded` if so much more may not wait, and `StorageError` after a failure. Asked before anything is staged:
        a staged record that is then turned away could not be taken back, because the next merge may build on it."""
        if self.failure is not None:
            raise self.failure
        self._coalescer.admit(count, size_bytes)

    def submit(self, commit: Commit) -> None:
        """Queues `commit`, whose size was admitted. After a failure `done` gets it at once."""
        if self.failure is not None:
            commit.done(self.failure)
            return
        self._pending += 1
        self._looks += commit.look is not None
        self._unsynced += not commit.sync
        self._coalescer.push(commit)

    async def close(self) -> None:
        """Waits for everything accepted, then ends the thread. Idempotent."""
        while self._pending and self.failure is None:
            self._drained.clear()
            await self._drained.wait()
        self._worker.put(None)
        await asyncio.get_running_loop().run_in_executor(None, self._worker.join)

    def check(self) -> None:
        """Asserts the invariants; for tests and simulation."""
        self._coalescer.check()
        assert self._pending >= 0, "a commit was answered twice"
        assert self._pending or not self._coalescer.queued_count, "what is queued is pending"

    def _send(self, batch: list[Commit], ticket: Ticket) -> None:
        pairs = batch[0].pairs if len(batch) == 1 else [pair for commit in batch for pair in commit.pairs]
        deletes = [key for commit in batch if commit.deletes for key in commit.deletes]
        sync = self._sync
        if sync and self._unsynced:
            self._unsynced -= sum(not commit.sync for commit in batch)
            sync = needs_sync(batch)
        self.syncs += sync and bool(pairs or deletes)
        write = self._prepared(pairs, deletes, sync)
        if self._looks:
            looking = [commit for commit in batch if commit.look is not None]
            self._looks -= len(looking)
            # They hear of it last: by then everything that they have seen was told complete.
            batch = [*(commit for commit in batch if commit.look is None), *looking]
            write = partial(_write_and_look, write, [commit.look for commit in looking if commit.look is not None])
        self._sent_s.append(self._loop.time())
        self._worker.put((batch, ticket, write))

    def _prepared(self, pairs: Pairs, deletes: Sequence[bytes], sync: bool) -> Callable[[], None]:
        if not pairs and not deletes:
            return _nothing
        try:
            return self._engine.prepare(pairs, deletes, sync=sync)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the commit's to fail with, in its turn
            return partial(_raise, error)

    def _write(self, job: Job) -> bool:
        """One batch, on the worker. Whether there is somebody left to work for."""
        batch, ticket, write = job
        timer = self.meter.timer if self.meter is not None else NO_TIME
        started_s = timer()
        if self._write_failure is None:
            try:
                write()
            except StorageError as error:
                self._write_failure = error
            except Exception as error:  # noqa: BLE001 - an engine that breaks its contract must not take the worker with it
                self._write_failure = StorageError(f"the storage engine failed: {error!r}", may_have_applied=True)
        try:
            self._loop.call_soon_threadsafe(self._finish, batch, ticket, self._write_failure, timer() - started_s)
        except RuntimeError:  # the loop was closed without waiting for us: nobody is left to tell
            return False
        return True

    def _finish(self, batch: list[Commit], ticket: Ticket, failure: StorageError | None, elapsed_s: float) -> None:
        records = sum(commit.count for commit in batch)
        self._pending -= len(batch)
        self.commits += 1
        self.records += records
        self._sent_s.popleft()
        if self.meter is not None:
            self.meter.written(records, elapsed_s)
        if failure is not None and self.failure is None:
            self._fail(failure)
        else:
            # The next batch starts before the waiters run: the disk must not wait for Python.
            self._coalescer.release(ticket)
        for commit in batch:
            commit.done(failure)
        if not self._pending or self.failure is not None:
            self._drained.set()

    def _fail(self, failure: StorageError) -> None:
        failure.may_have_applied = True
        self.failure = failure
        waiting = self._coalescer.drain()
        self._pending -= len(waiting)
        for commit in waiting:
            commit.done(failure)
        self._on_failure(failure)


def needs_sync(batch: Sequence[Commit]) -> bool:
    """Whether somebody whose records are in the batch waits for the disk: all of it is synced then."""
    return any(commit.sync and commit.count for commit in batch)


def _raise(error: Exception) -> None:
    raise error


def _nothing() -> None:
    """There is nothing to write."""


def _write_and_look(write: Callable[[], None], looks: Sequence[Callable[[], None]]) -> None:
    write()
    for look in looks:
        look()
