"""How old a read may be: probabilistically bounded staleness (Bailis et al., VLDB 2012), its WARS model by Monte Carlo.

A write travels W to each replica and its acknowledgement A back; a read's question R and answer S likewise. The node that
coordinates is a replica itself, at no distance. A read that begins t after the acknowledgement is stale if none of the r replicas
whose answers came first had the write when the question arrived. Not in the model: read repair, anti-entropy and hints (it is
pessimistic), and failures (it is optimistic). With r + w > n no read is stale.
"""

from __future__ import annotations

import bisect
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

TRIALS = 20_000


@dataclass(frozen=True, slots=True)
class Legs:
    """Mean one-way times in milliseconds: of a write with its sync, of its acknowledgement, of a read's question and of its answer.
    `spread` is the part of each that varies, exponentially distributed: 1 all of it, 0 for links that always take the same time."""

    write_ms: float
    ack_ms: float
    question_ms: float
    answer_ms: float
    spread: float = 1.0

    @classmethod
    def of_round_trip(cls, round_trip_ms: float, *, sync_ms: float = 0.0, spread: float = 1.0) -> Legs:
        """Halves of a round trip; a write is synced before it is acknowledged."""
        half = round_trip_ms / 2
        return cls(half + sync_ms, half, half, half, spread)


@dataclass(frozen=True, slots=True)
class Staleness:
    """Of reads that another replica coordinates than the write's. `fresh_at_once` is the share that shows the write right after its
    acknowledgement; by `window_ms` 99.9 % do. `old_versions_p`: that a read misses each of the last k writes (k-staleness, closed
    form, replicas chosen at random), for k = 1, 2, 3."""

    fresh_at_once: float
    window_ms: float
    old_versions_p: tuple[float, float, float]


def predict(n: int, r: int, w: int, legs: Legs, *, seed: int = 1, trials: int = TRIALS, share: float = 0.999) -> Staleness:
    """For reads and writes of r and w of n replicas. Deterministic for a seed."""
    missed = _missed_p(n, r, w)
    versions = (missed, missed**2, missed**3)
    if r + w > n:
        return Staleness(1.0, 0.0, versions)
    needed = _needed(n, r, w, legs, seed, trials)
    at_once = sum(ms <= 0.0 for ms in needed) / trials
    return Staleness(at_once, max(0.0, needed[min(trials - 1, math.ceil(share * trials) - 1)]), versions)


def fresh_shares(
    n: int, r: int, w: int, legs: Legs, after_ms: Sequence[float], *, seed: int = 1, trials: int = TRIALS
) -> list[float]:
    """Of reads that begin so many milliseconds after the acknowledgement, the share that shows the write: `Staleness.fresh_at_once`
    at 0, and what becomes of it. As long as `after_ms`."""
    if r + w > n:
        return [1.0] * len(after_ms)
    needed = _needed(n, r, w, legs, seed, trials)
    return [bisect.bisect_right(needed, max(0.0, ms)) / trials for ms in after_ms]


def _needed(n: int, r: int, w: int, legs: Legs, seed: int, trials: int) -> list[float]:
    """`_needed_ms` of every trial, in order."""
    rng = random.Random(f"pbs/{seed}")
    return sorted(_needed_ms(n, r, w, legs, rng) for _ in range(trials))


def _needed_ms(n: int, r: int, w: int, legs: Legs, rng: random.Random) -> float:
    """How long after the acknowledgement a read must begin to show the write, in one trial."""
    arrivals = [0.0, *(_leg(rng, legs.write_ms, legs.spread) for _ in range(n - 1))]
    acknowledged = sorted([0.0, *(arrival + _leg(rng, legs.ack_ms, legs.spread) for arrival in arrivals[1:])])[w - 1]
    reader = rng.randrange(1, n)
    questions = [0.0 if replica == reader else _leg(rng, legs.question_ms, legs.spread) for replica in range(n)]
    answers = [
        0.0 if replica == reader else question + _leg(rng, legs.answer_ms, legs.spread)
        for replica, question in enumerate(questions)
    ]
    heard: Sequence[int] = sorted(range(n), key=answers.__getitem__)[:r]
    return min(arrivals[replica] - questions[replica] for replica in heard) - acknowledged


def _leg(rng: random.Random, mean_ms: float, spread: float) -> float:
    varying_ms = mean_ms * spread
    return mean_ms - varying_ms + (rng.expovariate(1.0 / varying_ms) if varying_ms > 0 else 0.0)


def _missed_p(n: int, r: int, w: int) -> float:
    """That r replicas chosen at random are none of the w that have a write."""
    return math.comb(n - w, r) / math.comb(n, r)
