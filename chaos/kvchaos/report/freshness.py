"""Staleness without a fault, measured, beside what PBS predicts for the same reads (`kvclient.dial.staleness`). Pure.

Counted are answered reads of one side before which the latest acknowledged write of their key was the other side's: the model's
case, in which another replica coordinates the read. A read is fresh if its context has heard of that write.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from kvchaos.causality import covers, vector_of
from kvchaos.history import WRITES, Call, History, calls_of
from kvchaos.report.series import SITES
from kvchaos.scenarios.figures import percentile
from kvclient.dial.staleness import Legs, fresh_shares, predict

DOT_DIGITS = 40
BINS_A_RTT = 4
PREDICTED_SEED = 1
TRIALS = 4_000
"""A share of 50 % is then known to 1.6 points, which is less than the reads tell, and a page is made in seconds."""
SYNC_PAIRS = 60


@dataclass(frozen=True, slots=True)
class Seen:
    """One read: how long after the acknowledgement it began, and whether it knew of the write."""

    after_ms: float
    fresh: bool


@dataclass(frozen=True, slots=True)
class Bin:
    """Reads that began about so long after an acknowledgement; shares of 1. `predicted` is of the very same times."""

    at_ms: float
    count: int
    fresh: float
    low: float
    high: float
    predicted: float


@dataclass(frozen=True, slots=True)
class Freshness:
    """What was measured of one column. `constant`: PBS with links that always take the same time, as these did; `varying`: with
    exponential ones, as `kv dial` assumes. `windows_ms`: after which 99.9 % are predicted to be fresh, by the same two.

    `waits_ms`: how much longer the copy's disk took than the writer's own, a sample. A write of one replica is acknowledged
    when its own disk has it, and its copy leaves at once and waits for the other disk; so what counts is the difference."""

    n: int
    r: int
    w: int
    rtt_ms: float
    sync_ms: float
    reads: Sequence[Seen]
    bins: Sequence[Bin]
    waits_ms: Sequence[float]
    constant: float
    varying: float
    windows_ms: tuple[float, float]

    @property
    def fresh(self) -> float:
        """The share that was."""
        return sum(read.fresh for read in self.reads) / len(self.reads)

    @property
    def median(self) -> Bin:
        """The reads about as long after their write as the median of those that are plotted."""
        plotted = [each for each in self.bins for _ in range(each.count)]
        return plotted[len(plotted) // 2]

    @property
    def missed_at_median(self) -> float:
        """How far the prediction is off there, in shares of 1: positive where more was fresh than predicted."""
        return self.median.fresh - self.median.predicted

    def predicted(self, after_ms: Sequence[float], *, spread: float) -> list[float]:
        """The curve."""
        return _predicted(self.n, self.r, self.w, Legs.of_round_trip(self.rtt_ms, spread=spread), after_ms, self.waits_ms)


def freshness_of(history: History) -> Freshness | None:
    """None if there is no read to judge."""
    header = history.header
    calls = calls_of(history.events)
    reads = _seen(calls, header.get("sites", SITES))
    if not reads:
        return None
    n, r, w, rtt_ms = int(header["n"]), int(header["r"]), int(header["w"]), float(header["rtt_ms"])
    # A write of one replica waits for its own disk and nobody else: that is what is known of disks.
    wrote_ms = [(call.ended_ns - call.began_ns) / 1e6 for call in calls if call.f in WRITES and call.is_ok]
    sync_ms = (percentile(wrote_ms, 0.5) or 0.0) if w == 1 else 0.0
    waits_ms = _differences(wrote_ms) if w == 1 else [0.0]
    constant, varying = (Legs.of_round_trip(rtt_ms, spread=spread) for spread in (0.0, 1.0))
    after_ms = [read.after_ms for read in reads]
    expected = _predicted(n, r, w, constant, after_ms, waits_ms)
    return Freshness(
        n,
        r,
        w,
        rtt_ms,
        sync_ms,
        reads,
        _binned(reads, expected, rtt_ms / BINS_A_RTT, 2 * rtt_ms),
        waits_ms,
        sum(expected) / len(expected),
        sum(_predicted(n, r, w, varying, after_ms, waits_ms)) / len(reads),
        (
            predict(n, r, w, constant, seed=PREDICTED_SEED, trials=TRIALS).window_ms,
            predict(n, r, w, varying, seed=PREDICTED_SEED, trials=TRIALS).window_ms,
        ),
    )


def _differences(wrote_ms: Sequence[float]) -> list[float]:
    """Of pairs of what disks took, drawn by a seed of their own."""
    rng = random.Random(PREDICTED_SEED)
    return [rng.choice(wrote_ms) - rng.choice(wrote_ms) for _ in range(SYNC_PAIRS)] if wrote_ms else [0.0]


def _predicted(n: int, r: int, w: int, legs: Legs, after_ms: Sequence[float], waits_ms: Sequence[float]) -> list[float]:
    """PBS for each of these times, averaged over how much later than by its way alone a copy is there."""
    shifted = [after - wait for after in after_ms for wait in waits_ms]
    shares = fresh_shares(n, r, w, legs, shifted, seed=PREDICTED_SEED, trials=TRIALS)
    each = len(waits_ms)
    return [sum(shares[at : at + each]) / each for at in range(0, len(shares), each)]


def _seen(calls: Sequence[Call], sites: Sequence[str]) -> list[Seen]:
    acknowledged: dict[str, list[Call]] = {}
    for call in calls:
        if call.is_ok and call.f in WRITES and len(str(call.fact("version", ""))) == DOT_DIGITS:
            acknowledged.setdefault(call.key, []).append(call)
    seen = []
    for read in calls:
        if read.f != "read" or not read.is_ok or read.invoke.facts.get("final"):
            continue
        before = [write for write in acknowledged.get(read.key, ()) if write.ended_ns < read.began_ns]
        if not before:
            continue
        latest = max(before, key=lambda write: write.ended_ns)
        if _site(latest, sites) != _site(read, sites):
            knows = covers(vector_of(str(read.fact("context", ""))), str(latest.fact("version", "")))
            seen.append(Seen((read.began_ns - latest.ended_ns) / 1e6, knows))
    return sorted(seen, key=lambda each: each.after_ms)


def _site(call: Call, sites: Sequence[str]) -> str:
    assert isinstance(call.invoke.process, int)
    return sites[call.invoke.process % len(sites)]


def _binned(reads: Sequence[Seen], expected: Sequence[float], width_ms: float, end_ms: float) -> list[Bin]:
    bins: dict[int, list[tuple[Seen, float]]] = {}
    for read, share in zip(reads, expected, strict=True):
        if read.after_ms < end_ms:
            bins.setdefault(int(read.after_ms / width_ms), []).append((read, share))
    found = []
    for _, held in sorted(bins.items()):
        count = len(held)
        fresh = sum(read.fresh for read, _ in held) / count
        low, high = wilson(fresh, count)
        found.append(
            Bin(sum(read.after_ms for read, _ in held) / count, count, fresh, low, high, sum(share for _, share in held) / count)
        )
    return found


def wilson(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """The interval in which the true share lies with 95 % (Wilson's score)."""
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * ((share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5)
    return max(0.0, middle - half), min(1.0, middle + half)
