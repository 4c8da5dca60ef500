"""Which key comes next: YCSB's request distributions over keys numbered from 0 (Cooper et al., SoCC'10, section 4.2). Pure.

Zipfian popularity is drawn exactly, by rejection-inversion (Hörmann and Derflinger, 1996), with YCSB's constants: theta 0.99 over
10^10 ranks, whatever the number of keys, so that the hottest key takes 3.8 % of the requests; *scrambled*, a hash spreads the ranks
over the key space. Draws cost about a microsecond, so they are made before a run, and a run goes round them.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from itertools import cycle
from math import exp, expm1, log, log1p
from random import Random

from xxhash import xxh3_64_intdigest

Chooser = Callable[[], int]

DISTRIBUTIONS = ("uniform", "zipfian", "latest")
THETA = 0.99
RANKS = 10_000_000_000
DRAWS = 1 << 17
"""Zipfian draws made ahead of a run; a run of more operations goes round them again."""


class Zipf:
    """Ranks 0 to `ranks` - 1, rank k with a probability proportional to (k + 1) ** -theta; exact, and no sum over all ranks."""

    def __init__(self, ranks: int, random: Random, *, theta: float = THETA) -> None:
        if ranks < 1 or not 0 < theta < 1:
            raise ValueError(f"at least one rank and 0 < theta < 1 are needed, not {ranks} and {theta}")
        self._ranks = ranks
        self._theta = theta
        self._random = random.random
        self._first = self._integral(1.5) - 1.0
        self._last = self._integral(ranks + 0.5)
        self._accepted_at_once = 2.0 - self._inverse(self._integral(2.5) - exp(-theta * log(2.0)))

    def draw(self) -> int:
        """The next rank, 0 the most popular."""
        while True:
            u = self._last + self._random() * (self._first - self._last)
            x = self._inverse(u)
            k = min(max(int(x + 0.5), 1), self._ranks)
            if k - x <= self._accepted_at_once or u >= self._integral(k + 0.5) - exp(-self._theta * log(k)):
                return k - 1

    def _integral(self, x: float) -> float:
        """Of t ** -theta, from 1 to x."""
        return expm1((1.0 - self._theta) * log(x)) / (1.0 - self._theta)

    def _inverse(self, y: float) -> float:
        return exp(log1p(y * (1.0 - self._theta)) / (1.0 - self._theta))


def scramble(rank: int, keys: int) -> int:
    """The key of a rank: popular ones lie anywhere in the key space, and two ranks may meet in one key."""
    return xxh3_64_intdigest(rank.to_bytes(8, "little")) % keys


def make_chooser(distribution: str, *, keys: int, random: Random, inserted: Sequence[int] = (), draws: int = DRAWS) -> Chooser:
    """Chooses among the keys 0 to `keys` - 1; *latest* also among those `inserted` since, of which the last is the most popular.

    Zipfian and uniform choose among what was loaded (YCSB's zipfian adds the inserts it expects, which needs their number ahead).
    """
    if distribution == "uniform":
        between_0_and_1 = random.random
        return lambda: int(between_0_and_1() * keys)
    if distribution == "zipfian":
        zipf = Zipf(RANKS, random)
        return cycle(array("q", (scramble(zipf.draw(), keys) for _ in range(draws)))).__next__
    zipf = Zipf(keys, random)
    next_rank = cycle(array("q", (zipf.draw() for _ in range(draws)))).__next__

    def latest() -> int:
        rank, new = next_rank(), len(inserted)
        return inserted[new - 1 - rank] if rank < new else keys - 1 - (rank - new)

    return latest
