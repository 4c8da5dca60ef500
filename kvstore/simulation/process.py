"""A process of the simulated world: whose callbacks and timers these are, whether they run, and how it dies.

Within a process callbacks run in the order in which they were scheduled, as asyncio promises its users; between processes any order
is possible, and the loop draws one. Who owns a callback is in its context (`OWNER`), which tasks and future callbacks inherit.
"""

from __future__ import annotations

from collections import deque
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from kvstore.simulation.loop import SimLoop, SimTask

OWNER: ContextVar[Process] = ContextVar("owner")


class Handle:
    """A callback that is scheduled; what `call_soon` and `call_at` return."""

    __slots__ = ("args", "callback", "context", "process", "when_ns")

    def __init__(
        self, process: Process, callback: Callable[..., object], args: tuple[Any, ...], context: Context, when_ns: int = 0
    ) -> None:
        self.process = process
        self.callback: Callable[..., object] | None = callback
        self.args = args
        self.context = context
        self.when_ns = when_ns

    def cancel(self) -> None:
        """It will not run."""
        self.callback = None
        self.args = ()

    def cancelled(self) -> bool:
        """Whether it will not run."""
        return self.callback is None

    def when(self) -> float:
        """The loop's time at which it is due."""
        return self.when_ns / 1e9


class Process:
    """One process. `is_alive` ends with `kill`, for good: a restart is another process of the same name."""

    __slots__ = ("context", "is_alive", "is_paused", "is_queued", "loop", "name", "ready")

    def __init__(self, loop: SimLoop, name: str) -> None:
        self.loop = loop
        self.name = name
        self.ready: deque[Handle] = deque()
        self.is_alive = True
        self.is_paused = False
        self.is_queued = False  # the loop has it among those that can run
        self.context = Context()
        self.context.run(OWNER.set, self)

    def post(self, callback: Callable[..., object], *args: Any) -> None:
        """Runs `callback` in this process, as a message from outside would."""
        self.loop.enqueue(Handle(self, callback, args, self.context))

    def post_at(self, when_ns: int, callback: Callable[..., object], *args: Any) -> Handle:
        """Runs `callback` in this process at a time."""
        return self.loop.enqueue_at(Handle(self, callback, args, self.context, when_ns))

    def spawn(self, work: Coroutine[Any, Any, Any], *, name: str | None = None) -> SimTask:
        """Runs `work` as a task of this process, whoever awaits it."""
        assert self.is_alive, f"{self.name} is dead"
        task: SimTask = self.context.copy().run(self.loop.create_task, work, name=name)
        return task

    def pause(self) -> None:
        """From now on nothing of it runs; messages and timers wait (SIGSTOP)."""
        self.is_paused = True
        self.loop.withdraw(self)

    def resume(self) -> None:
        """Everything that waited runs."""
        self.is_paused = False
        self.loop.offer(self)

    def kill(self) -> None:
        """Nothing of it ever runs again: no callback, no timer, no `finally` (SIGKILL)."""
        self.is_alive = False
        self.loop.withdraw(self)
        self.ready.clear()
        for task in self.loop.tasks_of(self):
            self.loop.remains.append(task)
            task._log_destroy_pending = False  # noqa: SLF001 - it is meant to die pending

    def __repr__(self) -> str:
        return f"<process {self.name}>"
