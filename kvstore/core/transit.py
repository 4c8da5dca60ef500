"""How long messages waited on their way, without comparing two machines' clocks.

The sender says when it sent each by a clock of its own that never steps. What lies between that and the receiver's clock is the
same for all of them, but for the time on the way: so the least difference of late is taken for the way without any wait, and what a
message took longer than that it has waited, in the sender's queue, in sockets or in front of a busy event loop. Clocks that drift
apart, and a queue that stands for long, are forgiven, because the least is only remembered for a while: the wait is then told too
short, never too long. Pure; one for each stream. Called by the API, which drops what has waited for longer than it had time.
"""

from __future__ import annotations

NEVER = float("inf")
MEMORY_S = 10.0
WAIT_S_MAX = 60.0
"""Nothing waits that long: one of the clocks has stood still."""


class Transit:
    """`waited_s` for each message in turn."""

    __slots__ = ("_before_s", "_least_s", "_turned_s")

    def __init__(self) -> None:
        self._before_s = NEVER
        self._least_s = NEVER
        self._turned_s = 0.0

    def waited_s(self, sent_ms: int, now_s: float) -> float:
        """How long a message has waited that was sent at `sent_ms` of the sender's clock (0: it does not say) and was read now."""
        if not sent_ms:
            return 0.0
        apart_s = now_s - sent_ms / 1000
        if now_s - self._turned_s > MEMORY_S:
            self._before_s, self._least_s, self._turned_s = self._least_s, NEVER, now_s
        self._least_s = min(self._least_s, apart_s)
        waited_s = apart_s - min(self._before_s, self._least_s)
        return waited_s if waited_s < WAIT_S_MAX else 0.0
