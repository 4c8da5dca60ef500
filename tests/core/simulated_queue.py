"""A server with one processor in front of which batches wait, in arrival order and on virtual time: what an admission limit has to
cope with, without a cluster."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from kvstore.core.admission import AdmissionLimit, Aim


@dataclass(slots=True)
class Told:
    """What became of the operations of a time: answered at all, and within the deadline; refused; the latencies of the answered."""

    answered: int = 0
    good: int = 0
    refused: int = 0
    latencies_s: list[float] = field(default_factory=list)
    limits: list[int] = field(default_factory=list)

    def percentile_s(self, share: float) -> float:
        """Of the latencies of batches."""
        return sorted(self.latencies_s)[int(share * (len(self.latencies_s) - 1))]


class Server:
    """Answers operations one after the other, each `cost_s(now)`, and every batch `far_s(now)` later than that: the network, or
    other nodes' disks, which keep no processor busy."""

    def __init__(
        self,
        aim: Aim | None,
        *,
        seed: int,
        cost_s: Callable[[float], float],
        far_s: Callable[[float], float] = lambda now_s: 0.001,
        deadline_s: float = 2.0,
    ) -> None:
        self.limit = AdmissionLimit(aim) if aim is not None else None
        self.now_s = 0.0
        self.under_way = 0
        self._rng = Random(seed)
        self._cost_s = cost_s
        self._far_s = far_s
        self._deadline_s = deadline_s
        self._free_at_s = 0.0
        self._arrives_at_s = 0.0
        self._ends: list[tuple[float, float, int]] = []

    def run(self, seconds: float, *, rate_per_s: float, batch: int) -> Told:
        """So many operations a second arrive for so long, in batches."""
        told, end_s = Told(), self.now_s + seconds
        self._arrives_at_s = self.now_s
        while True:
            if self._ends and self._ends[0][0] <= self._arrives_at_s:
                self._answer(told)
                continue
            if self._arrives_at_s >= end_s:
                self.now_s = end_s
                return told
            self.now_s = self._arrives_at_s
            self._arrives_at_s += self._rng.expovariate(rate_per_s / batch)
            self._arrive(batch, told)

    def _arrive(self, batch: int, told: Told) -> None:
        if self.limit is not None and self.under_way >= self.limit.limit:
            told.refused += batch
            return
        self.under_way += batch
        self._free_at_s = max(self._free_at_s, self.now_s) + batch * self._cost_s(self.now_s)
        heapq.heappush(self._ends, (self._free_at_s + self._far_s(self.now_s), self.now_s, batch))

    def _answer(self, told: Told) -> None:
        at_s, came_s, batch = heapq.heappop(self._ends)
        self.now_s = at_s
        latency_s = at_s - came_s
        told.answered += batch
        told.latencies_s.append(latency_s)
        if latency_s <= self._deadline_s:
            told.good += batch
        if self.limit is not None:
            self.limit.answered(True, batch, latency_s, self.under_way, at_s)
            self.limit.check()
            told.limits.append(self.limit.limit)
        self.under_way -= batch
