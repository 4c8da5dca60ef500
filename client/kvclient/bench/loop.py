"""The closed loop: N callers, each of which begins its next operation when its last one has ended.

Drives any `async op(i)`; `i` is a number no other call gets. It shares the machine with the servers it measures, so an operation's
path is one clock reading, one append and the call itself (`measure_overhead_ns` measures that: about 0.3 µs in CPython 3.11 against
some 20 µs for a client's operation). Histograms are filled afterwards: recording into one costs 1.2 µs an operation. The open loop,
in which operations begin when they are due, is in open_loop.py.
"""

from __future__ import annotations

import asyncio
import gc
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from time import perf_counter_ns
from typing import Any, TypeVar

from kvproto.errors import KvError

Operation = Callable[[int], Awaitable[object]]
Clock = Callable[[], int]  # monotonic nanoseconds
Result = TypeVar("Result")

OVERHEAD_MEASUREMENTS = 10
PAUSE_AFTER_ERROR_S = 0.001  # an operation that fails at once must neither starve the loop nor hammer the servers


@dataclass(slots=True)
class CallerLog:
    """What one caller measured: `latencies_ns[k]` is of its call number `first + k * step`; -1 stands for one that failed."""

    first: int
    step: int
    latencies_ns: array[int] = field(default_factory=lambda: array("q"))
    completed: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    def numbered(self) -> Iterator[tuple[int, int]]:
        """(i, latency in ns) of each operation that succeeded."""
        i = self.first
        for latency_ns in self.latencies_ns:
            if latency_ns >= 0:
                yield i, latency_ns
            i += self.step


class Halt:
    """Ends a run before its time, from a signal handler: what was measured until then is its result, operations under way are
    cancelled and count for nothing."""

    def __init__(self) -> None:
        self.called = False
        self._tasks: Sequence[asyncio.Task[None]] = ()

    def watch(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        """The tasks that a call ends; at once if it came before."""
        self._tasks = tasks
        if self.called:
            self()

    def __call__(self) -> None:
        """Ends the run."""
        self.called = True
        for task in self._tasks:
            task.cancel()


@dataclass(frozen=True, slots=True)
class LoopResult:
    """A run of the loop. Latencies are of the operations begun inside the window of `seconds`, also those that ended after it;
    `completed` counts the successes that ended inside it, so that `ops_per_s` is not inflated by those in flight at its end."""

    callers: tuple[CallerLog, ...]
    seconds: float

    @property
    def completed(self) -> int:
        """Operations that succeeded inside the window."""
        return sum(caller.completed for caller in self.callers)

    @property
    def ops_per_s(self) -> float:
        """Successes a second; 0 for a run that was halted before its window began."""
        return self.completed / self.seconds if self.seconds else 0.0

    @property
    def errors(self) -> Counter[str]:
        """Failures begun inside the window, by code (or class, where it is no error of the store)."""
        return sum((caller.errors for caller in self.callers), Counter())

    def latencies_ns(self, select: Callable[[int], bool] = lambda _i: True) -> Iterator[int]:
        """The latencies of those successes whose number `select` accepts."""
        return (latency_ns for caller in self.callers for i, latency_ns in caller.numbered() if select(i))


async def run_closed_loop(
    op: Operation,
    *,
    in_flight: int,
    seconds: float,
    warm_up_s: float = 0.0,
    first: int = 0,
    halt: Halt | None = None,
    clock: Clock = perf_counter_ns,
) -> LoopResult:
    """Keeps `in_flight` operations going for `warm_up_s`, unmeasured, and then for `seconds`; returns when the last one has ended.

    A failed operation is counted by its code and its caller goes on. Cancelling ends every caller; so does `halt`, after which the
    result's window is as long as it was open.
    """
    if in_flight < 1 or seconds <= 0 or warm_up_s < 0:
        raise ValueError(f"in_flight >= 1, seconds > 0 and warm_up_s >= 0 are needed, not {in_flight}, {seconds}, {warm_up_s}")
    logs = tuple(CallerLog(first + at, in_flight) for at in range(in_flight))
    with collector_spared():
        measure_from_ns = clock() + int(warm_up_s * 1e9)
        stop_ns = measure_from_ns + int(seconds * 1e9)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_call(op, log, measure_from_ns, stop_ns, clock), name=f"caller@{log.first}") for log in logs]
            if halt is not None:
                halt.watch(tasks)
        if halt is not None and halt.called:
            seconds = window_s(seconds, measure_from_ns, clock())
    return LoopResult(logs, seconds)


def window_s(seconds: float, measure_from_ns: int, now_ns: int) -> float:
    """How long a window of `seconds` has been open."""
    return min(seconds, max(0.0, (now_ns - measure_from_ns) / 1e9))


@contextmanager
def collector_spared() -> Iterator[None]:
    """The garbage collector need not look at the preloaded data again and again."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def error_name(error: Exception) -> str:
    """What errors are counted by: the code of one of the store, else the class."""
    return error.code.name if isinstance(error, KvError) else type(error).__name__


async def _call(op: Operation, log: CallerLog, measure_from_ns: int, stop_ns: int, clock: Clock) -> None:
    """One caller. `log.first` becomes the number of its first measured call."""
    i, step = log.first, log.step
    now = clock()
    succeeded = False
    while now < measure_from_ns:
        succeeded = await _unmeasured(op, i)
        i += step
        now = clock()
    if succeeded and now < stop_ns:
        log.completed += 1  # begun while warming up, ended inside the window; its counterpart is the last one, below
    log.first = i
    measured = log.latencies_ns
    record = measured.append
    begun = now
    ended_late = False
    try:
        while begun < stop_ns:
            try:
                await op(i)
                now = clock()
                record(now - begun)
            except Exception as error:  # noqa: BLE001 - whatever a store's client raises is counted, not a reason to end
                record(-1)
                log.errors[error_name(error)] += 1
                await asyncio.sleep(PAUSE_AFTER_ERROR_S)
                now = clock()
            begun = now
            i += step
        ended_late = bool(measured) and measured[-1] >= 0
    finally:  # also when halted, and then what was recorded last had ended in time
        log.completed += len(measured) - sum(log.errors.values()) - ended_late


async def _unmeasured(op: Operation, i: int) -> bool:
    try:
        await op(i)
    except Exception:  # noqa: BLE001 - as above, but nothing counts while warming up
        await asyncio.sleep(PAUSE_AFTER_ERROR_S)
        return False
    return True


async def _nothing(_i: int) -> None:
    return None


async def measure_overhead_ns(op: Operation = _nothing, *, seconds: float = 0.02, clock: Clock = perf_counter_ns) -> float:
    """What the generator itself costs an operation, in ns: one caller around `op`, which should do nothing. The best of several
    measurements that take `seconds` together: whatever else the machine does is no cost of the generator."""
    measured_ns: list[float] = []
    for at in count():
        log = CallerLog(0, 1)
        begun = clock()
        await _call(op, log, begun, begun + int(seconds * 1e9 / OVERHEAD_MEASUREMENTS), clock)
        if log.latencies_ns:  # else the process stood still for all of its time
            measured_ns.append((clock() - begun) / len(log.latencies_ns))
        if measured_ns and at + 1 >= OVERHEAD_MEASUREMENTS:
            break
    return min(measured_ns)


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Runs `main` on a fresh event loop: uvloop's where it is installed, as a program that cares about speed would."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
