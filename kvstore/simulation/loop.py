"""An event loop whose time jumps to the next timer: deterministic from a seed, and as fast as the callbacks are.

Nanoseconds inside, so that the log of a run does not depend on the rounding of floats. Tasks and futures hash by serial number, so
that sets of them iterate alike in every process. A run in which nothing can happen any more is an error that names who waits for
what. Threads do not exist: `run_in_executor` runs its function a little later, in the process that asked.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from asyncio import events as asyncio_events
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextvars import Context
from heapq import heapify, heappop, heappush
from itertools import count
from random import Random
from typing import Any, TypeVar, TypeVarTuple

from kvstore.simulation.process import OWNER, Handle, Process
from kvstore.simulation.tracing import awaited_by, bury, traceback_of

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

START_NS = 1_000_000_000_000
"""Where virtual time begins: not at 0, which could pass for "never"."""
TURNS_AT_ONE_MOMENT_MAX = 100_000
EXECUTOR_DELAY_NS = 200_000


class Deadlock(AssertionError):
    """Nothing can happen any more, and the run is not over."""


class OutOfTime(AssertionError):
    """The run went on past its limit of virtual time, or for ever at one moment."""


class Defect(AssertionError):
    """An exception that nobody caught: in a callback, a task, a handler, a round."""


class SimTask(asyncio.Task[Any]):
    """A task that knows its process and hashes alike in every run."""

    _log_destroy_pending: bool

    def __init__(self, coro: Coroutine[Any, Any, Any], *, loop: SimLoop, process: Process, serial: int, **options: Any) -> None:
        self.serial = serial  # first: the base class puts the task into a set
        self.process = process
        super().__init__(coro, loop=loop, **options)

    def __hash__(self) -> int:
        return self.serial


class SimFuture(asyncio.Future[Any]):
    """A future that hashes alike in every run."""

    serial = 0

    def __hash__(self) -> int:
        if not self.serial:
            loop = self.get_loop()
            assert isinstance(loop, SimLoop)
            self.serial = loop.next_serial()
        return self.serial


class SimLoop(asyncio.AbstractEventLoop):
    """One world's loop. Only what asyncio's primitives need exists; sockets, signals and the like raise `NotImplementedError`."""

    def __init__(self, seed: object, *, limit_s: float = 3600.0) -> None:
        self.rng = Random(f"{seed}/loop")
        self.now_ns = START_NS
        self.limit_ns = START_NS + int(limit_s * 1e9)
        self.turns = 0
        self.after_turns: Callable[[], None] | None = None
        self.turns_between = 1000
        self.remains: list[SimTask] = []  # of killed processes: kept, so that nothing of them is run by being freed
        self.defects: list[str] = []  # exceptions that nobody caught
        self.notice_ns = 0  # when what is called "threadsafe" runs; set by a worker while it works
        self.next_serial = count(1).__next__
        self._next_seq = count(1).__next__
        self._heap: list[tuple[int, int, Handle]] = []
        self._cancel_checks = 0
        self._runnable: list[Process] = []
        self._asyncgens: weakref.WeakSet[AsyncGenerator[Any, Any]] = weakref.WeakSet()
        self._is_running = False
        self._is_over = False
        self.kernel = Process(self, "kernel")
        self.main = Process(self, "world")
        self.current = self.main

    # --- running

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs `work` in the world's process to its end, and ends the world with it: a loop runs once.

        Raises `Deadlock`, `OutOfTime`, `Defect`, or what `work` raises.
        """
        assert not self._is_running and not self._is_over, "a loop runs once"
        asyncio_events._set_running_loop(self)  # noqa: SLF001 - what every event loop has to do
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=self._asyncgens.add, finalizer=self._finalize_asyncgen)
        collected = gc.isenabled()
        gc.disable()  # whatever a collection would finalize, it would do so at a moment that no seed decides
        self._is_running = True
        try:
            task = self.main.spawn(work, name="main")
            self._run_until(task)
            result: T = task.result()
            return result
        finally:
            self._is_running = False
            self._end()
            sys.set_asyncgen_hooks(*hooks)
            asyncio_events._set_running_loop(None)  # noqa: SLF001
            if collected:
                gc.enable()

    def _run_until(self, task: SimTask) -> None:
        runnable, choose = self._runnable, self.rng.random
        moment_ns, turns_here = self.now_ns, 0
        while not task.done():
            if not runnable:
                if not self._advance():
                    raise Deadlock(f"nothing can happen any more\n{self.describe_waiting()}")
                continue
            if len(runnable) == 1:
                process = runnable.pop()
            else:
                at = int(choose() * len(runnable))
                process = runnable[at]
                runnable[at] = runnable[-1]
                runnable.pop()
            process.is_queued = False
            self._turn(process)
            self.turns += 1
            if self.defects:
                raise Defect("\n".join(self.defects))
            if self.now_ns != moment_ns:
                moment_ns, turns_here = self.now_ns, 0
            turns_here += 1
            if turns_here > TURNS_AT_ONE_MOMENT_MAX:
                raise OutOfTime(f"no time passes\n{self.describe_waiting()}")
            if self.after_turns is not None and self.turns % self.turns_between == 0:
                self.after_turns()

    def _turn(self, process: Process) -> None:
        """What is ready in `process` now, in order; what that schedules waits for its next turn."""
        self.current = process
        ready = process.ready
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle.callback is not None:
                try:
                    handle.context.run(handle.callback, *handle.args)
                except (KeyboardInterrupt, SystemExit):
                    raise
                except BaseException as error:  # noqa: BLE001 - as asyncio does
                    self.call_exception_handler({"message": f"a callback failed: {handle.callback!r}", "exception": error})
            if not ready:  # it killed itself
                break
        self.current = self.main
        if ready:
            self.offer(process)

    def _advance(self) -> bool:
        """Jumps to the next timer that counts and makes everything due then ready. False: there is none."""
        heap = self._heap
        while heap:
            when_ns, _, handle = heappop(heap)
            if handle.callback is None or not handle.process.is_alive:
                continue
            if when_ns > self.limit_ns:
                raise OutOfTime(f"virtual time is over\n{self.describe_waiting()}")
            self.now_ns = max(self.now_ns, when_ns)
            self.enqueue(handle)
            while heap and heap[0][0] <= when_ns:
                _, _, handle = heappop(heap)
                if handle.callback is not None:
                    self.enqueue(handle)
            return True
        return False

    def enqueue(self, handle: Handle) -> None:
        """Makes `handle` ready in its process; nothing, if that is dead."""
        process = handle.process
        if process.is_alive:
            process.ready.append(handle)
            if not process.is_queued and not process.is_paused:
                process.is_queued = True
                self._runnable.append(process)

    def enqueue_at(self, handle: Handle) -> Handle:
        """Makes `handle` ready at its time."""
        if not self._is_over:
            heappush(self._heap, (handle.when_ns, self._next_seq(), handle))
            self._cancel_checks += 1
            if self._cancel_checks > 2000:
                self._drop_cancelled()
        return handle

    def _drop_cancelled(self) -> None:
        """Deadlines mostly end cancelled, long before they are due."""
        self._cancel_checks = 0
        self._heap[:] = [row for row in self._heap if row[2].callback is not None and row[2].process.is_alive]
        heapify(self._heap)

    def offer(self, process: Process) -> None:
        """`process` may run if it has something to."""
        if process.ready and process.is_alive and not process.is_paused and not process.is_queued:
            process.is_queued = True
            self._runnable.append(process)

    def withdraw(self, process: Process) -> None:
        """`process` does not run."""
        if process.is_queued:
            process.is_queued = False
            self._runnable.remove(process)

    # --- what asyncio asks of a loop

    def time(self) -> float:
        """Seconds of virtual time."""
        return self.now_ns / 1e9

    def call_soon(self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None) -> Any:
        """See asyncio; in the process whose context this is."""
        if self._is_over:
            return Handle(self.kernel, callback, args, self.kernel.context)
        if context is None:
            process = self.current
            context = process.context
        else:
            process = context.get(OWNER, self.main)
        handle = Handle(process, callback, args, context)
        if process.is_alive:
            process.ready.append(handle)
            if not process.is_queued and not process.is_paused:
                process.is_queued = True
                self._runnable.append(process)
        return handle

    def call_soon_threadsafe(self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None) -> Any:
        """See asyncio; from a simulated worker it takes a while."""
        if self.notice_ns:
            return self.current.post_at(self.notice_ns, callback, *args)
        return self.call_soon(callback, *args, context=context)

    def call_later(self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None) -> Any:
        """See asyncio."""
        return self.call_at(self.now_ns / 1e9 + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None) -> Any:
        """See asyncio. Never early: `time()` is at least `when` once it runs."""
        if when == float("inf"):
            when = 1e9
        when_ns = round(when * 1e9)
        if when_ns / 1e9 < when:
            when_ns += 1
        process = self.current if context is None else context.get(OWNER, self.main)
        return self.enqueue_at(Handle(process, callback, args, context or process.context, when_ns))

    def create_future(self) -> asyncio.Future[Any]:
        """See asyncio."""
        return SimFuture(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None, **options: Any) -> SimTask:
        """See asyncio; in the process of the given or the running context."""
        process = OWNER.get(self.main) if context is None else context.get(OWNER, self.main)
        serial = self.next_serial()
        task = SimTask(coro, loop=self, process=process, serial=serial, name=name or f"task {serial}", context=context, **options)
        if self._is_over:
            task._log_destroy_pending = False  # noqa: SLF001 - it will never run
            coro.close()
        return task

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Runs `func` a little later, in one go: another thread, without its races."""
        future = self.create_future()

        def work() -> None:
            if future.cancelled():
                return
            try:
                future.set_result(func(*args))
            except Exception as error:  # noqa: BLE001 - it belongs to whoever waits
                future.set_exception(error)

        delay_ns = 1 + int(self.rng.random() * EXECUTOR_DELAY_NS)
        self.current.post_at(self.now_ns + delay_ns, work)
        return future

    def get_debug(self) -> bool:
        """See asyncio."""
        return False

    def is_running(self) -> bool:
        """See asyncio."""
        return self._is_running

    def is_closed(self) -> bool:
        """See asyncio."""
        return self._is_over

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What nobody caught is a defect, kept for the world to raise."""
        if not self._is_over:
            error = context.get("exception")
            where = context.get("task") or context.get("future") or ""
            self.defects.append(f"{context.get('message')}: {error!r} {where}{traceback_of(error)}")

    def _finalize_asyncgen(self, generator: AsyncGenerator[Any, Any]) -> None:
        if not self._is_over and self.current.is_alive:
            task = self.current.spawn(_close(generator), name="close generator")
            task.add_done_callback(_ignore)

    # --- looking around, and the end

    def tasks_of(self, process: Process | None = None) -> list[SimTask]:
        """Tasks that are not done, of one process or of all, in the order in which they began."""
        tasks = [task for task in asyncio.all_tasks(self) if isinstance(task, SimTask)]
        return sorted((task for task in tasks if process in (None, task.process)), key=lambda task: task.serial)

    def timers(self) -> list[Handle]:
        """What is still due, in order."""
        return [handle for _, _, handle in sorted(self._heap) if handle.callback is not None and handle.process.is_alive]

    def describe_waiting(self, process: Process | None = None) -> str:
        """One line a task of the living, or of `process`: its process, its name, and what it awaits."""
        tasks = [task for task in self.tasks_of(process) if task.process.is_alive]
        lines = [f"  {task.process.name}: {task.get_name()} {awaited_by(task)}" for task in tasks]
        paused = [f"  {task.process.name} is paused" for task in tasks if task.process.is_paused]
        return "\n".join([*lines, *dict.fromkeys(paused)]) or "  no task is left"

    def _end(self) -> None:
        """Nothing is scheduled any more, and what is left of tasks is closed without effect."""
        tasks = self.tasks_of()
        self._is_over = True
        self._heap.clear()
        self._runnable.clear()
        self.after_turns = None
        for task in tasks:
            task._log_destroy_pending = False  # noqa: SLF001 - it is meant to die pending
            bury(task)


async def _close(generator: AsyncGenerator[Any, Any]) -> None:
    await generator.aclose()


def _ignore(_: object) -> None:
    return None
