"""How much may be on its way to one node without an answer: less when even the quickest answer takes long.

What a node cannot take waits on the way, in sockets and in gRPC, where nobody can drop or refuse it, and it grows old there. So
what is more than the node answers within the target stays in our own queue, which refuses what would wait there for too long
(kvproto/link.py). As the node's own limit does, this one goes by the least of some latencies: a key or a replica that is slow
delays its own batch, a queue delays them all (TCP Vegas; CoDel). Pure; one a link, told once a batch.
"""

from __future__ import annotations

NEVER = float("inf")
TARGET_S = 0.2
BYTES_MIN = 256 * 1024
BATCHES = 4
"""So many answers are a sample."""


class SendWindow:
    """`size_bytes`, between a batch and what the link's bounds allow."""

    __slots__ = ("_answers", "_bytes_max", "_least_s", "size_bytes")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._answers = 0
        self._least_s = NEVER
        self.size_bytes = bytes_max

    def heard(self, latency_s: float) -> None:
        """A batch had its first answer `latency_s` after it left, or had none until then."""
        self._least_s = min(self._least_s, latency_s)
        self._answers += 1
        if self._answers < BATCHES:
            return
        if self._least_s > TARGET_S:
            self.size_bytes = max(min(BYTES_MIN, self._bytes_max), int(self.size_bytes * max(0.5, TARGET_S / self._least_s)))
        else:
            self.size_bytes = min(self._bytes_max, self.size_bytes + max(1, self.size_bytes // 4))
        self._answers = 0
        self._least_s = NEVER
