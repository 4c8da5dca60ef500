"""Token buckets: on average no more than the rate, in batches of any size, and what was not used is not kept for long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.core.quota import BURST_S, TokenBucket


def test_what_a_second_brings_may_be_used_at_once_and_no_more() -> None:
    bucket = TokenBucket(100)
    for _ in range(10):
        assert bucket.wait_s(0.0) == 0
        bucket.take(10)
    assert bucket.wait_s(0.0) == pytest.approx(0.0, abs=1e-6) and bucket.wait_s(0.0) > 0
    assert bucket.wait_s(0.01) == 0


def test_a_batch_larger_than_the_bucket_is_taken_and_paid_for_afterwards() -> None:
    bucket = TokenBucket(100)
    assert bucket.wait_s(0.0) == 0
    bucket.take(600)
    assert bucket.wait_s(0.0) == pytest.approx(5.0)
    assert bucket.wait_s(4.9) > 0 and bucket.wait_s(5.1) == 0


def test_an_hour_of_rest_brings_no_more_than_a_second() -> None:
    bucket = TokenBucket(100)
    bucket.wait_s(0.0)
    bucket.wait_s(3600.0)
    bucket.take(100 * BURST_S)
    assert bucket.wait_s(3600.0) > 0


@given(st.lists(st.tuples(st.floats(0.0, 2.0), st.integers(1, 300)), min_size=1, max_size=200))
def test_law_never_more_than_the_rate_the_burst_and_one_batch(events: list[tuple[float, int]]) -> None:
    bucket, now_s, used = TokenBucket(100), 0.0, 0
    for pause_s, units in events:
        now_s += pause_s
        if bucket.wait_s(now_s) == 0:
            bucket.take(units)
            used += units
    assert used <= 100 * (now_s + BURST_S) + 300 and bucket.taken == used


@given(st.lists(st.integers(1, 300), min_size=1, max_size=50))
def test_law_whoever_waits_as_long_as_he_is_told_is_let_in(batches: list[int]) -> None:
    bucket, now_s = TokenBucket(100), 0.0
    for units in batches:
        now_s += bucket.wait_s(now_s) * (1 + 1e-9) + 1e-6
        assert bucket.wait_s(now_s) == 0
        bucket.take(units)
