"""Which nodes are far slower than the others: their work goes to another home replica meanwhile, reads and writes alike.

Judged as nodes judge each other (kvproto/slowness.py), by the answers to batches and by what is out without one. An opinion about a
link, as `up` is: where no other owner is up a slow one is used all the same. It is asked for the ring now and then, and used again
once it has been quick for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from kvproto.slowness import SlowPeers

LOOK_S = 0.1


class Judged(Protocol):
    """What is needed of a link. `owing_s`: how long its oldest batch has been without any answer; 0 if it has none."""

    node_id: str
    slow: bool

    def owing_s(self, now_s: float) -> float:
        """See the class."""

    def measure(self, took: Callable[[float], None]) -> None:
        """Asks the node for the ring, and calls `took` with the seconds until it answered."""


LinkT = TypeVar("LinkT", bound=Judged)


class SlowNodes:
    """Of one client. Times are seconds of its loop's clock."""

    __slots__ = ("_judge", "_looked_s")

    def __init__(self) -> None:
        self._judge = SlowPeers(())
        self._looked_s = 0.0

    def answered(self, node_id: str, took_s: float, now_s: float) -> None:
        """A batch got its first answer; called once a batch."""
        self._judge.record(node_id, took_s * 1000.0, now_s * 1000.0)

    def look(self, links: Sequence[LinkT], now_s: float) -> None:
        """Marks those of the ring's `links` that are slow now; does nothing when it was called a moment ago."""
        if now_s - self._looked_s < LOOK_S:
            return
        self._looked_s = now_s
        judge, now_ms, by_id = self._judge, now_s * 1000.0, {link.node_id: link for link in links}
        for node_id in [node_id for node_id in judge.peers if node_id not in by_id]:
            judge.remove(node_id)
        for link in links:
            judge.add(link.node_id)
            owing_s = link.owing_s(now_s)
            if owing_s:
                judge.record_waiting(link.node_id, owing_s * 1000.0, now_ms)
        # Fewer than half: whoever finds most of the others slow is slow itself.
        for node_id, slow in judge.decide(now_ms, (len(links) - 1) // 2):
            by_id[node_id].slow = slow
        for node_id in judge.due_probes(now_ms):
            by_id[node_id].measure(lambda took_s, node_id=node_id, at_s=now_s: self.answered(node_id, took_s, at_s + took_s))  # type: ignore[misc]
