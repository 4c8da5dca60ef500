"""The seams' production side that storage needs: wall time, randomness, worker threads. Everything else is handed these.

The only module of the server that may read a clock or the system's randomness (ruff TID251): simulation passes its own.
"""

from __future__ import annotations

import mmap
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Generic, Protocol, TypeVar

JobT = TypeVar("JobT")
JobT_contra = TypeVar("JobT_contra", contravariant=True)


OFFSET_VARIABLE = "KV_CLOCK_OFFSET_FILE"
OFFSET_BYTES = 8
BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Linux's; elsewhere the next best."""


class Clock(Protocol):
    """Wall time for stamps, windows and expiry; never for causality. Timers use the event loop's own clock. How old a proof is goes
    by the time since the machine was started, which goes on while it is suspended."""

    def now_ms(self) -> int:
        """Unix time in milliseconds."""

    def since_boot_s(self) -> float:
        """Seconds since some moment, never going back, and counted also while the machine is suspended."""


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """Unix time in milliseconds."""
        return time.time_ns() // 1_000_000

    def since_boot_s(self) -> float:
        """Seconds since the machine was started."""
        return time.clock_gettime(BOOT_CLOCK)


class ShiftedClock:
    """The machine's clock and what `file` says on top, a signed 64-bit number of milliseconds that whoever tests may change at any
    time: a node whose clock is wrong, or jumps, without root and without anybody else's clock."""

    def __init__(self, file: Path) -> None:
        with file.open("rb") as opened:
            self._shared = mmap.mmap(opened.fileno(), OFFSET_BYTES, access=mmap.ACCESS_READ)

    def now_ms(self) -> int:
        """Unix time in milliseconds, as this node believes."""
        return time.time_ns() // 1_000_000 + int.from_bytes(self._shared[:OFFSET_BYTES], "little", signed=True)

    def since_boot_s(self) -> float:
        """Seconds since the machine was started: not shifted."""
        return time.clock_gettime(BOOT_CLOCK)


def wall_clock() -> Clock:
    """The machine's; with the environment variable KV_CLOCK_OFFSET_FILE, for tests, one that is shifted by what that file says."""
    file = os.environ.get(OFFSET_VARIABLE)
    return ShiftedClock(Path(file)) if file else SystemClock()


class Worker(Protocol[JobT_contra]):
    """Does jobs off the event loop, one after the other, in the order in which they were put."""

    def put(self, job: JobT_contra | None) -> None:
        """Queues `job`; None ends the worker behind what was put before."""

    def join(self) -> None:
        """Returns once the worker has ended. Blocks: not to be called on the event loop."""


class StartWorker(Protocol):
    """Starts a worker that calls `work` with each job until it returns False or the worker is told to end."""

    def __call__(self, work: Callable[[JobT], bool], name: str) -> Worker[JobT]:
        """Starts it."""


class ThreadWorker(Generic[JobT]):
    """A `Worker` that is a thread of its own, a daemon: it holds nothing that a process could end without losing."""

    def __init__(self, work: Callable[[JobT], bool], name: str) -> None:
        jobs: SimpleQueue[JobT | None] = SimpleQueue()
        self.put = jobs.put
        self._thread = Thread(target=_do_all, args=(jobs, work), name=name, daemon=True)
        self.join = self._thread.join
        self._thread.start()


def _do_all(jobs: SimpleQueue[JobT | None], work: Callable[[JobT], bool]) -> None:
    while (job := jobs.get()) is not None:
        if not work(job):
            return


system_timer: Callable[[], float] = time.perf_counter
"""Seconds since some moment, never going back, in nanoseconds' steps: for durations. An event loop's own clock may stand still for
a whole turn, and uvloop's counts milliseconds."""


def system_random() -> random.Random:
    """A generator seeded by the system; drawn once per process and passed in."""
    return random.Random(random.SystemRandom().getrandbits(256))
