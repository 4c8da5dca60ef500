"""Whose turn it is: a turn of the event loop begins a bounded number of operations, a batch of each connection at the most.

What is begun takes the processor at once, for tens of milliseconds if it is a large batch; so who sends many, or on many
streams, must not begin all of them before anybody else. Usually nobody waits, and a batch begins as it comes. Called by intake.py;
belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque

OPERATIONS_MAX = 512
"""Once so many were begun in a turn, the others wait for the next."""


class Line:
    """The batches of one connection that wait for their turn, and whether it has had its own."""

    __slots__ = ("has_begun", "waiting")

    def __init__(self) -> None:
        self.has_begun = False
        self.waiting: deque[tuple[asyncio.Future[None], int]] = deque()


class Turns:
    """Gives the connections turns, one after the other."""

    __slots__ = ("_begun", "_is_scheduled", "_lines", "_operations")

    def __init__(self) -> None:
        self._operations = 0
        self._begun: list[Line] = []
        self._lines: deque[Line] = deque()
        self._is_scheduled = False

    def begins_now(self, line: Line, operations: int) -> bool:
        """Whether a batch of so many operations may begin at once; then it has begun. Otherwise `wait`."""
        if self._lines or line.has_begun or self._operations >= OPERATIONS_MAX:
            return False
        self._begin(line, operations)
        return True

    async def wait(self, line: Line, operations: int) -> None:
        """Returns when it may begin, in the order of asking within a line."""
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not line.waiting:
            self._lines.append(line)
        line.waiting.append((mine, operations))
        self._schedule()
        await mine

    def _begin(self, line: Line, operations: int) -> None:
        line.has_begun = True
        self._operations += operations
        self._begun.append(line)
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        """A new turn: those who wait come first."""
        self._is_scheduled = False
        for line in self._begun:
            line.has_begun = False
        self._begun.clear()
        self._operations = 0
        for _ in range(len(self._lines)):
            if self._operations >= OPERATIONS_MAX:
                break
            line = self._lines.popleft()
            while line.waiting:
                first, operations = line.waiting.popleft()
                if not first.done():  # cancelled: its client has gone
                    first.set_result(None)
                    self._begin(line, operations)
                    break
            if line.waiting:
                self._lines.append(line)
        if self._lines:
            self._schedule()
