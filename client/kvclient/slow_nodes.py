"""Which nodes are far slower than the others: their work goes to another home replica meanwhile, reads and writes alike.

And which are near: they share the reads that any home replica may answer alone.

Judged as nodes judge each other (kvproto/slowness.py), by the answers to batches and by what is out without one. An opinion about a
link, as `up` is: where no other owner is up a slow one is used all the same. It is asked for the ring now and then, and used again
once it has been quick for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from kvproto.slowness import SlowPeers

LOOK_S = 0.1
FORGET, FADE = 1.05, 0.999
FAR, FAR_S = 2.0, 0.002
"""Who takes more than so many times as long as the quickest, and so much more, is far."""


class Judged(Protocol):
    """What is needed of a link. `owing_s`: how long its oldest batch has been without any answer; 0 if it has none."""

    node_id: str
    slow: bool
    near: bool

    def owing_s(self, now_s: float) -> float:
        """See the class."""

    def measure(self, took: Callable[[float], None]) -> None:
        """Asks the node for the ring, and calls `took` with the seconds until it answered."""


LinkT = TypeVar("LinkT", bound=Judged)


class SlowNodes:
    """Of one client. Times are seconds of its loop's clock."""

    __slots__ = ("_judge", "_looked_s", "_took_s")

    def __init__(self) -> None:
        self._judge = SlowPeers(())
        self._looked_s = 0.0
        self._took_s: dict[str, float] = {}

    def answered(self, node_id: str, took_s: float, now_s: float) -> None:
        """A batch got its first answer; called once a batch."""
        self._judge.record(node_id, took_s * 1000.0, now_s * 1000.0)
        # What the way there takes is the least of the last few: all else is work and waiting.
        self._took_s[node_id] = min(took_s, FORGET * self._took_s.get(node_id, took_s))

    def look(self, links: Sequence[LinkT], now_s: float) -> None:
        """Marks those of the ring's `links` that are slow now, and those that are near; does nothing when it was called a moment
        ago."""
        if now_s - self._looked_s < LOOK_S:
            return
        self._looked_s = now_s
        judge, now_ms, by_id = self._judge, now_s * 1000.0, {link.node_id: link for link in links}
        for node_id in [node_id for node_id in judge.peers if node_id not in by_id]:
            judge.remove(node_id)
        # Who is far is not asked, and may have come nearer: it is tried again some time.
        took_s = {link.node_id: FADE * self._took_s[link.node_id] for link in links if link.node_id in self._took_s}
        self._took_s = took_s
        far_s = FAR * min(took_s.values(), default=0.0) + FAR_S
        for link in links:
            judge.add(link.node_id)
            link.near = took_s.get(link.node_id, 0.0) <= far_s
            owing_s = link.owing_s(now_s)
            if owing_s:
                judge.record_waiting(link.node_id, owing_s * 1000.0, now_ms)
        # Fewer than half: whoever finds most of the others slow is slow itself.
        for node_id, slow in judge.decide(now_ms, (len(links) - 1) // 2):
            by_id[node_id].slow = slow
        for node_id in judge.due_probes(now_ms):
            by_id[node_id].measure(lambda took_s, node_id=node_id, at_s=now_s: self.answered(node_id, took_s, at_s + took_s))  # type: ignore[misc]
