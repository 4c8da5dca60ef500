"""The open loop: operations begin at a fixed rate whatever the store does, and each is timed from when it was due.

So a store that stalls pays for every operation that was due meanwhile (no coordinated omission). Operations are due on whole
milliseconds of the clock, several at once at more than 1,000 a second: the event loop's timers are no finer, and a latency must not
contain their lateness. At most `in_flight_max` are under way; what is due then begins later, and its wait is part of its latency.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter_ns

from kvclient.bench.loop import CallerLog, Clock, Halt, LoopResult, Operation, collector_spared, error_name, window_s

NOT_BEGUN = "NOT_BEGUN"
"""Counted as an error: it was due within the window, and until the window's end too many others were under way."""
TICK_NS = 1_000_000

Sleep = Callable[[float], Awaitable[None]]


async def run_open_loop(
    op: Operation,
    *,
    rate_per_s: float,
    in_flight_max: int,
    seconds: float,
    warm_up_s: float = 0.0,
    first: int = 0,
    halt: Halt | None = None,
    clock: Clock = perf_counter_ns,
    sleep: Sleep = asyncio.sleep,
) -> LoopResult:
    """Begins `rate_per_s` operations a second for `warm_up_s`, unmeasured, and then for `seconds`; returns when the last has ended.

    A failed operation is counted by its code; one for which there was no room until the window's end as `NOT_BEGUN`. Cancelling and
    `halt` as for `run_closed_loop`.
    """
    if rate_per_s <= 0 or in_flight_max < 1 or seconds <= 0 or warm_up_s < 0:
        wanted = "rate_per_s > 0, in_flight_max >= 1, seconds > 0 and warm_up_s >= 0 are needed"
        raise ValueError(f"{wanted}, not {rate_per_s}, {in_flight_max}, {seconds}, {warm_up_s}")
    schedule = _Schedule(rate_per_s, warm_up_s, seconds)
    pacemaker = _Pacemaker(op, schedule, in_flight_max=in_flight_max, first=first, clock=clock, sleep=sleep)
    with collector_spared():
        async with asyncio.TaskGroup() as group:
            pacing = group.create_task(pacemaker.run(group), name="pacemaker")
            if halt is not None:
                halt.watch([pacing])
        if halt is not None and halt.called:
            seconds = window_s(seconds, pacemaker.begin_ns + schedule.warm_up_ns, clock())
        else:
            pacemaker.count_not_begun()
    return LoopResult((pacemaker.log,), seconds)


class _Schedule:
    """When operation k is due, in ns after the beginning; the first `unmeasured` are of the warm-up."""

    def __init__(self, rate_per_s: float, warm_up_s: float, seconds: float) -> None:
        self.rate_per_s = rate_per_s
        self.warm_up_ns = round(warm_up_s * 1e9)
        self.end_ns = self.warm_up_ns + round(seconds * 1e9)
        self.unmeasured = round(rate_per_s * warm_up_s)
        self.total = self.unmeasured + round(rate_per_s * seconds)

    def due_ns(self, k: int) -> int:
        """On the first whole tick at or behind its exact time."""
        return -(-int(k * 1e9 / self.rate_per_s) // TICK_NS) * TICK_NS


class _Pacemaker:
    """Begins what is due and records what it came to: `log.latencies_ns[k]` is of the k-th measured operation."""

    def __init__(self, op: Operation, schedule: _Schedule, *, in_flight_max: int, first: int, clock: Clock, sleep: Sleep) -> None:
        self.log = CallerLog(first + schedule.unmeasured, 1)
        self.begin_ns = 0
        self._op = op
        self._schedule = schedule
        self._in_flight_max = in_flight_max
        self._first = first
        self._clock = clock
        self._sleep = sleep
        self._tasks: set[asyncio.Task[None]] = set()
        self._begun = 0
        self._room = asyncio.Event()

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Returns when everything has begun, or when the window is over and there is no room; what is under way goes on in `group`,
        unless cancelled."""
        schedule, clock = self._schedule, self._clock
        self.begin_ns = -(-clock() // TICK_NS) * TICK_NS
        try:
            while self._begun < schedule.total:
                due_ns, elapsed_ns = schedule.due_ns(self._begun), clock() - self.begin_ns
                if due_ns > elapsed_ns:
                    await self._sleep((due_ns - elapsed_ns) / 1e9)
                elif len(self._tasks) >= self._in_flight_max:
                    if elapsed_ns >= schedule.end_ns:
                        return
                    self._room.clear()
                    await self._room.wait()
                else:
                    self._begin(group, due_ns)
        except asyncio.CancelledError:
            for task in self._tasks:
                task.cancel()
            raise

    def count_not_begun(self) -> None:
        """What was due within the window and never begun becomes an error."""
        missed = self._schedule.total - max(self._begun, self._schedule.unmeasured)
        if missed > 0:
            self.log.errors[NOT_BEGUN] += missed

    def _begin(self, group: asyncio.TaskGroup, due_ns: int) -> None:
        number, self._begun = self._begun, self._begun + 1
        at = number - self._schedule.unmeasured
        if at >= 0:
            self.log.latencies_ns.append(-1)
        task = group.create_task(self._one(number, at, due_ns))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def _one(self, number: int, at: int, due_ns: int) -> None:
        try:
            await self._op(self._first + number)
        except Exception as error:  # noqa: BLE001 - whatever a store's client raises is counted, not a reason to end
            if at >= 0:
                self.log.errors[error_name(error)] += 1
            return
        ended_ns = self._clock() - self.begin_ns
        if at >= 0:
            self.log.latencies_ns[at] = ended_ns - due_ns
        if self._schedule.warm_up_ns <= ended_ns < self._schedule.end_ns:
            self.log.completed += 1

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._room.set()
