"""The request distributions against theory: chi-square tests with fixed seeds."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from itertools import islice
from random import Random

import pytest

from kvclient.bench.distributions import DRAWS, RANKS, THETA, Zipf, make_chooser, scramble

SAMPLES = 100_000


def chi_square(observed: Sequence[int], expected: Sequence[float]) -> float:
    """A degree of freedom's share of the statistic: about 1 for a right generator, whatever their number."""
    statistic = sum((seen - mean) ** 2 / mean for seen, mean in zip(observed, expected, strict=True))
    return statistic / (len(expected) - 1)


def zeta(ranks: int, theta: float = THETA) -> float:
    """The sum of k ** -theta for k from 1 to `ranks`: exactly up to 100,000, then by Euler and Maclaurin."""
    exact = min(ranks, 100_000)
    total = math.fsum(math.pow(k, -theta) for k in range(1, exact + 1))
    if ranks == exact:
        return total
    integral = (math.pow(ranks, 1 - theta) - math.pow(exact, 1 - theta)) / (1 - theta)
    return total + integral + (math.pow(ranks, -theta) - math.pow(exact, -theta)) / 2


def cells_of_ranks(draws: Counter[int], ranks: int, theta: float = THETA) -> tuple[list[int], list[float]]:
    """Ranks 0 to 49 one by one, all others together: what was seen and what theory says."""
    total, samples = zeta(ranks, theta), draws.total()
    expected = [samples * (k + 1) ** -theta / total for k in range(50)]
    observed = [draws[k] for k in range(50)]
    return [*observed, samples - sum(observed)], [*expected, samples - sum(expected)]


def drawn(draw: Callable[[], int], samples: int = SAMPLES) -> Counter[int]:
    return Counter(draw() for _ in range(samples))


@pytest.mark.parametrize("ranks", [200, 100_000, RANKS])
def test_zipfian_ranks_are_as_popular_as_theory_says(ranks: int) -> None:
    observed, expected = cells_of_ranks(drawn(Zipf(ranks, Random(1)).draw), ranks)
    assert chi_square(observed, expected) < 2


def test_another_exponent_would_be_noticed() -> None:
    observed, expected = cells_of_ranks(drawn(Zipf(100_000, Random(1), theta=0.95).draw), 100_000)
    assert chi_square(observed, expected) > 10


def test_every_rank_can_be_drawn_and_none_beyond() -> None:
    assert set(drawn(Zipf(7, Random(2)).draw, 5_000)) == set(range(7))
    assert set(drawn(Zipf(1, Random(2)).draw, 10)) == {0}
    with pytest.raises(ValueError, match="at least one rank"):
        Zipf(0, Random(2))


def test_uniform_keys_are_uniform() -> None:
    draws = drawn(make_chooser("uniform", keys=100, random=Random(3)))
    assert set(draws) == set(range(100))
    assert chi_square([draws[key] for key in range(100)], [SAMPLES / 100] * 100) < 2


def test_scrambled_zipfian_keys_have_the_popularity_of_their_ranks() -> None:
    """Of 10,000 keys, those that the 50 most popular ranks fall on, and all others together; a key also gets its even share of the
    ranks behind them."""
    keys, total = 10_000, zeta(RANKS)
    draws = drawn(make_chooser("zipfian", keys=keys, random=Random(4), draws=SAMPLES))
    popularity: defaultdict[int, float] = defaultdict(float)
    for rank in range(50_000):
        popularity[scramble(rank, keys)] += (rank + 1) ** -THETA / total
    tail = 1 - sum(popularity.values())
    hot = list({scramble(rank, keys) for rank in range(50)})
    expected = [SAMPLES * (popularity[key] + tail / keys) for key in hot]
    observed = [draws[key] for key in hot]
    assert chi_square([*observed, SAMPLES - sum(observed)], [*expected, SAMPLES - sum(expected)]) < 2
    assert draws.most_common(1)[0][1] / SAMPLES == pytest.approx(1 / total, rel=0.1), "the hottest key takes 3.8 %"


def test_popular_keys_lie_all_over_the_key_space() -> None:
    tenths = Counter(scramble(rank, 1_000) // 100 for rank in range(1_000))
    assert chi_square([tenths[tenth] for tenth in range(10)], [100.0] * 10) < 3


def test_latest_prefers_what_was_inserted_last() -> None:
    inserted = list(range(1_000, 1_020))
    choose = make_chooser("latest", keys=1_000, random=Random(5), inserted=inserted, draws=SAMPLES)
    ages = Counter({1_019 - key: count for key, count in drawn(choose).items()})
    observed, expected = cells_of_ranks(ages, 1_000)
    assert chi_square(observed, expected) < 2
    inserted.append(1_020)
    assert Counter(islice(iter(choose, None), 1_000)).most_common(1)[0][0] == 1_020


def test_a_run_goes_round_its_draws_and_another_seed_gives_others() -> None:
    choose = make_chooser("zipfian", keys=1_000, random=Random(6), draws=100)
    first, second = ([choose() for _ in range(100)] for _ in range(2))
    assert first == second
    other = make_chooser("zipfian", keys=1_000, random=Random(7), draws=100)
    assert first != [other() for _ in range(100)]
    assert DRAWS > 100_000
