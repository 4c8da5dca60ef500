"""The admission limit against a simulated queue: near the knee under overload, out of the way otherwise, back after trouble."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.core.admission import AdmissionLimit, Aim
from tests.core.simulated_queue import Server

CAPACITY = 10_000  # operations a second
AIM = Aim()


def steady(now_s: float) -> float:
    return 1 / CAPACITY


@pytest.mark.parametrize("batch", [1, 30, 500, 2048])
@pytest.mark.parametrize("times", [1.5, 3.0, 10.0])
def test_under_overload_throughput_stays_and_what_is_taken_on_is_answered_soon(batch: int, times: float) -> None:
    server = Server(AIM, seed=batch, cost_s=steady)
    server.run(5, rate_per_s=times * CAPACITY, batch=batch)
    told = server.run(10, rate_per_s=times * CAPACITY, batch=batch)
    assert told.good >= 0.95 * CAPACITY * 10
    # the target, what is admitted beyond the limit because a batch is taken as a whole, and how far the limit swings
    assert told.percentile_s(0.99) <= 2 * AIM.target_s + 3 * batch / CAPACITY


def test_without_a_limit_the_same_queue_collapses() -> None:
    """What the limit is for: nearly every answer comes too late for whoever asked."""
    server = Server(None, seed=1, cost_s=steady)
    server.run(5, rate_per_s=3 * CAPACITY, batch=30)
    assert server.run(10, rate_per_s=3 * CAPACITY, batch=30).good <= 0.01 * CAPACITY * 10


@pytest.mark.parametrize("batch", [1, 30, 500])
def test_below_saturation_nothing_is_refused(batch: int) -> None:
    server = Server(AIM, seed=3, cost_s=steady)
    assert server.run(20, rate_per_s=0.7 * CAPACITY, batch=batch).refused == 0


def test_the_limit_settles_where_throughput_times_the_target_says() -> None:
    server = Server(AIM, seed=4, cost_s=steady)
    server.run(5, rate_per_s=3 * CAPACITY, batch=30)
    limits = server.run(10, rate_per_s=3 * CAPACITY, batch=30).limits
    wanted = CAPACITY * AIM.target_s
    assert 0.6 * wanted <= min(limits) and max(limits) <= 1.5 * wanted


def test_a_slow_spell_lowers_the_limit_and_its_end_raises_it_again() -> None:
    """1. A disk takes ten times as long for a while. 2. It does not any more: the capacity is used again within seconds."""
    server = Server(AIM, seed=5, cost_s=lambda now_s: (10 if 10 <= now_s < 20 else 1) / CAPACITY)
    server.run(10, rate_per_s=3 * CAPACITY, batch=30)
    slow = server.run(10, rate_per_s=3 * CAPACITY, batch=30)
    assert slow.limits[-1] <= 3 * AIM.target_s * CAPACITY / 10
    server.run(5, rate_per_s=3 * CAPACITY, batch=30)
    assert server.run(5, rate_per_s=3 * CAPACITY, batch=30).good >= 0.9 * CAPACITY * 5


def test_a_limit_that_a_flood_has_left_does_not_stay_when_it_is_over() -> None:
    server = Server(AIM, seed=6, cost_s=lambda now_s: (10 if now_s < 10 else 1) / CAPACITY)
    server.run(10, rate_per_s=3 * CAPACITY, batch=30)
    assert server.limit is not None and server.limit.limit <= 3 * AIM.target_s * CAPACITY / 10
    server.run(10, rate_per_s=0.1 * CAPACITY, batch=30)
    assert server.limit.limit >= 0.9 * AIM.limit_first


def test_where_every_answer_takes_long_that_is_no_queue() -> None:
    """Replicas half a second away: the limit must not starve the node for what no limit can shorten. It is measured anew now and
    then, at the price of a dip."""
    server = Server(AIM, seed=7, cost_s=steady, far_s=lambda now_s: 0.5)
    server.run(10, rate_per_s=0.5 * CAPACITY, batch=30)
    told = server.run(60, rate_per_s=0.5 * CAPACITY, batch=30)
    assert told.good >= 0.8 * 0.5 * CAPACITY * 60


def test_a_latency_measured_under_load_is_never_taken_for_the_least() -> None:
    """An hour of overload: the queue does not grow because it was always there."""
    server = Server(AIM, seed=8, cost_s=steady)
    for _ in range(6):
        told = server.run(600, rate_per_s=3 * CAPACITY, batch=500)
        assert told.percentile_s(0.5) <= 1.5 * AIM.target_s + 500 / CAPACITY


def test_one_answer_that_was_quick_by_luck_changes_nothing() -> None:
    """A minimum that is far too small would ask for a queue that nobody can keep."""
    limit = AdmissionLimit(AIM)
    for at in range(1000):
        limit.answered(False, 1, 1e-6 if at % 100 == 0 else 0.1, 3000, at * 0.01)
    assert limit.limit >= 3000


def test_slow_keys_beside_quick_ones_lower_nothing() -> None:
    """Most batches wait for a stalled replica; those that do not show that nothing queues here."""
    limit = AdmissionLimit(AIM)
    for at in range(2000):
        limit.answered(True, 1, 0.002 if at % 10 == 0 else 4.0, 100, at * 0.01)
    assert limit.limit == AIM.limit_first


def test_quick_reads_do_not_hide_that_writes_queue() -> None:
    limit = AdmissionLimit(AIM)
    for at in range(70):
        limit.answered(at % 2 == 0, 1, 2.0 if at % 2 == 0 else 0.001, 4000, at * 0.01)
    assert limit.limit < 1000


def test_a_pause_says_nothing_about_what_an_operation_takes() -> None:
    """After an hour without work, or of very little, a flood is noticed as soon as any other."""
    server = Server(AIM, seed=9, cost_s=steady)
    server.run(3600, rate_per_s=0.5, batch=1)
    server.run(5, rate_per_s=3 * CAPACITY, batch=500)
    told = server.run(5, rate_per_s=3 * CAPACITY, batch=500)
    assert told.good >= 0.95 * CAPACITY * 5 and told.percentile_s(0.99) <= 3 * AIM.target_s


def test_without_a_target_the_limit_stays() -> None:
    limit = AdmissionLimit(Aim(target_s=0.0, limit_first=500))
    for at in range(1000):
        limit.answered(True, 1, 5.0, 500, at * 0.01)
    assert limit.limit == 500


BATCHES = st.tuples(st.booleans(), st.integers(1, 4096), st.floats(0.0, 100.0), st.integers(1, 100_000), st.floats(0.0, 5.0))


@given(st.lists(BATCHES, max_size=200))
def test_law_the_limit_stays_within_its_bounds_and_falls_by_half_a_window_at_most(
    events: list[tuple[bool, int, float, int, float]],
) -> None:
    limit, now_s = AdmissionLimit(AIM), 0.0
    limits = [limit.limit]
    for writes, operations, latency_s, under_way, pause_s in events:
        now_s += pause_s
        limit.answered(writes, operations, latency_s, under_way, now_s)
        limit.check()
        limits.append(limit.limit)
    for before, after in pairwise(limits):
        assert after >= before // 2 and after <= max(
            before * 1.25 + 1, before + (AIM.limit_first - before) / 16 + 1, max(limits) // 4
        )
