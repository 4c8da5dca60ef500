"""Slow is a state: a replica far behind its peers is avoided while enough others answer, and asked now and then until it is quick
again.

Of each peer one number is kept, the average logarithm of its latencies, weighted by time: samples count for about `window_ms`,
however many there are, and one of a second beside a hundred of a millisecond is an outlier, not an average of ten. A peer is slow
that has been `slow_factor` times slower than the median of the others, and slower than `floor_ms`, for `slow_after_ms`; it is
quick again after having been within `quick_factor` for `quick_after_ms`. Between the factors nothing changes, so noise of three
times the usual latency never does. One that soon gets slow again is doubted for longer each time.

Pure. `record` is called once a batch with the peer and what its answer took: a logarithm and a few float operations. `decide` is
called now and then (every 100 ms) and says what changed; the failure detector makes an opinion of it
(`FailureDetector.mark_slow`), by which coordinators choose whom to ask; clients use it for nodes (kvclient/slow_nodes.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from math import exp, log


@dataclass(slots=True, frozen=True, kw_only=True)
class Tolerance:
    """When a peer is slow, when it is quick again (`doubt_max`: how many times `quick_after_ms` at most), and how often it is asked
    meanwhile. Samples older than `stale_after_ms` say nothing any more."""

    window_ms: float = 500.0
    slow_factor: float = 5.0
    quick_factor: float = 2.5
    floor_ms: float = 5.0
    slow_after_ms: float = 500.0
    quick_after_ms: float = 1_000.0
    doubt_max: int = 32
    forgiven_after_ms: float = 60_000.0
    probe_every_ms: float = 200.0
    stale_after_ms: float = 10_000.0

    def __post_init__(self) -> None:
        assert 1.0 < self.quick_factor < self.slow_factor and self.floor_ms > 0 and self.window_ms > 0 and self.doubt_max >= 1


LATENCY_MIN_MS = 0.001
NEVER = float("-inf")


class _Peer:
    """One peer: its average, how it is marked, since when it has looked otherwise."""

    __slots__ = ("doubt", "log_ms", "otherwise_since_ms", "probed_ms", "quick_since_ms", "sampled_ms", "slow")

    def __init__(self) -> None:
        self.log_ms = 0.0
        self.sampled_ms = NEVER
        self.slow = False
        self.otherwise_since_ms = NEVER
        self.quick_since_ms = NEVER
        self.probed_ms = NEVER
        self.doubt = 1


class SlowPeers:
    """Which of our peers are slow. Belongs to one event loop; `now_ms` is any clock that does not run backwards."""

    __slots__ = ("_peers", "tolerance")

    def __init__(self, peers: Iterable[str], tolerance: Tolerance | None = None) -> None:
        self.tolerance = tolerance or Tolerance()
        self._peers = {peer: _Peer() for peer in sorted(peers)}

    def add(self, peer: str) -> None:
        """One more peer; nothing happens if it is known."""
        self._peers.setdefault(peer, _Peer())

    def remove(self, peer: str) -> None:
        """It is none any more; answers that still come are passed over."""
        self._peers.pop(peer, None)

    @property
    def peers(self) -> list[str]:
        """Who is judged."""
        return list(self._peers)

    def record(self, peer: str, latency_ms: float, now_ms: float) -> None:
        """A batch that `peer` answered took so long."""
        row = self._peers.get(peer)
        if row is None:
            return
        # Weighted by the time since the last sample: a slow peer that is asked five times a second is judged as quickly as one that
        # answers a thousand times. The first counts fully.
        elapsed_ms = now_ms - row.sampled_ms
        weight = elapsed_ms / (self.tolerance.window_ms + elapsed_ms) if row.sampled_ms > NEVER else 1.0
        row.log_ms += weight * (log(max(LATENCY_MIN_MS, latency_ms)) - row.log_ms)
        row.sampled_ms = now_ms

    def record_waiting(self, peer: str, waiting_ms: float, now_ms: float) -> None:
        """The oldest batch that `peer` has not answered has waited so long: a sample once it is longer than answers take. One that
        answers nothing gives no other, and would look as quick as it was."""
        row = self._peers.get(peer)
        if row is not None and waiting_ms > LATENCY_MIN_MS and (row.sampled_ms == NEVER or log(waiting_ms) > row.log_ms):
            self.record(peer, waiting_ms, now_ms)

    def latency_ms(self, peer: str) -> float | None:
        """What an answer of `peer` takes at present, on a logarithmic average; None if nothing is known."""
        row = self._peers[peer]
        return None if row.sampled_ms == NEVER else exp(row.log_ms)

    @property
    def slow(self) -> frozenset[str]:
        """Who is marked slow."""
        return frozenset(peer for peer, row in self._peers.items() if row.slow)

    def decide(self, now_ms: float, slow_max: int) -> list[tuple[str, bool]]:
        """(peer, whether it is slow now) of each that changed.

        `slow_max` is what quorums can do without, n - max(r, w) for the smallest replica set: no more are slow at a time, those
        that are already before others, then the slowest.
        """
        floor = log(self.tolerance.floor_ms)
        if all(not row.slow and row.log_ms <= floor and row.otherwise_since_ms == NEVER for row in self._peers.values()):
            return []  # as nearly always: this is asked ten times a second
        known = [peer for peer, row in self._peers.items() if now_ms - row.sampled_ms < self.tolerance.stale_after_ms]
        wanted = [peer for peer, row in self._peers.items() if self._is_wanted_slow(peer, row, known, now_ms)]
        wanted.sort(key=lambda peer: (not self._peers[peer].slow, -self._peers[peer].log_ms, peer))
        slow = set(wanted[: max(0, slow_max)])
        changes = [(peer, peer in slow) for peer, row in self._peers.items() if row.slow is not (peer in slow)]
        for peer, is_slow in changes:
            self._mark(self._peers[peer], now_ms, slow=is_slow)
        return changes

    def due_probes(self, now_ms: float) -> list[str]:
        """Slow peers that are to be asked something now, or nobody would see that they are quick again. Each counts as asked."""
        due = [peer for peer, row in self._peers.items() if row.slow and now_ms - row.probed_ms >= self.tolerance.probe_every_ms]
        for peer in due:
            self._peers[peer].probed_ms = now_ms
        return due

    def _is_wanted_slow(self, peer: str, row: _Peer, known: Sequence[str], now_ms: float) -> bool:
        """How `row` would be marked if there were no bound: as it is, unless it has looked otherwise for long enough."""
        others = sorted(self._peers[other].log_ms for other in known if other != peer)
        # The slower one of two: where half of the others are slow as well, it is not this one's fault.
        usual = others[len(others) // 2] if others and peer in known else None
        if row.slow:
            otherwise = usual is None or row.log_ms < max(
                usual + log(self.tolerance.quick_factor), log(self.tolerance.floor_ms / 2)
            )
        else:
            otherwise = usual is not None and row.log_ms > max(
                usual + log(self.tolerance.slow_factor), log(self.tolerance.floor_ms)
            )
        if not otherwise:
            row.otherwise_since_ms = NEVER
            return row.slow
        if row.otherwise_since_ms == NEVER:
            row.otherwise_since_ms = now_ms
        after_ms = self.tolerance.quick_after_ms * row.doubt if row.slow else self.tolerance.slow_after_ms
        return row.slow is not (now_ms - row.otherwise_since_ms >= after_ms)

    def _mark(self, row: _Peer, now_ms: float, *, slow: bool) -> None:
        row.slow = slow
        row.otherwise_since_ms = NEVER
        if slow:
            recent = now_ms - row.quick_since_ms < self.tolerance.forgiven_after_ms
            row.doubt = min(self.tolerance.doubt_max, row.doubt * 2) if recent else 1
            row.probed_ms = now_ms
        else:
            row.quick_since_ms = now_ms

    def check(self) -> None:
        """Asserts the invariants; for tests and simulation."""
        for row in self._peers.values():
            assert 1 <= row.doubt <= self.tolerance.doubt_max
            assert not row.slow or row.sampled_ms > NEVER, "nobody is slow of whom nothing is known"


def prefer(targets: Sequence[str], slow: Collection[str]) -> list[str]:
    """`targets` in their order, slow ones last: who takes as many as a quorum needs asks a slow one only if there is no other."""
    return sorted(targets, key=slow.__contains__)
