"""What is usual at the moment, and how soon a change of it shows."""

from __future__ import annotations

import pytest

from kvclient.latencies import NEVER, OBSERVATIONS_MIN, RecentLatency


def feed(recent: RecentLatency, start_s: float, seconds: float, *, a_second: int, latency_s: float, slow_s: float = 0.0) -> float:
    """`a_second` reads for `seconds`, every tenth `slow_s` if that is given; returns when it ended."""
    for number in range(int(seconds * a_second)):
        now_s = start_s + number / a_second
        recent.record(slow_s if slow_s and number % 10 == 0 else latency_s, 1, now_s)
    return start_s + seconds


def test_nothing_is_usual_before_there_are_enough_observations() -> None:
    recent = RecentLatency(0.0)
    for number in range(int(OBSERVATIONS_MIN) - 1):
        recent.record(0.001, 1, number / 10)
    assert recent.p95_s == NEVER
    recent.record(0.001, 1, 10.0)
    assert recent.p95_s < NEVER


@pytest.mark.parametrize("latency_s", [0.0001, 0.001, 0.035, 2.0])
def test_the_percentile_is_right_within_a_bucket_of_nine_percent(latency_s: float) -> None:
    recent = RecentLatency(0.0)
    feed(recent, 0.0, 2.0, a_second=1000, latency_s=latency_s)
    assert latency_s <= recent.p95_s <= latency_s * 1.1


def test_the_slowest_tenth_decides() -> None:
    recent = RecentLatency(0.0)
    feed(recent, 0.0, 2.0, a_second=1000, latency_s=0.001, slow_s=0.02)
    assert 0.02 <= recent.p95_s <= 0.022


@pytest.mark.parametrize(("before_s", "after_s"), [(0.001, 0.010), (0.010, 0.001)])
def test_a_change_shows_within_seconds(before_s: float, after_s: float) -> None:
    recent = RecentLatency(0.0)
    changed_s = feed(recent, 0.0, 10.0, a_second=500, latency_s=before_s)
    assert before_s <= recent.p95_s <= before_s * 1.1
    feed(recent, changed_s, 5.0, a_second=500, latency_s=after_s)
    assert after_s <= recent.p95_s <= after_s * 1.1


def test_a_client_that_reads_seldom_keeps_what_it_knows() -> None:
    recent = RecentLatency(0.0)
    feed(recent, 0.0, 300.0, a_second=2, latency_s=0.001)
    assert 0.001 <= recent.p95_s <= 0.0011


def test_times_beyond_the_buckets_are_counted_at_their_ends() -> None:
    recent = RecentLatency(0.0)
    for number in range(100):
        recent.record(0.0, 1, number / 10)
    assert 0 < recent.p95_s < 0.0001
    for number in range(100, 300):
        recent.record(1e6, 1, number / 10)
    assert 40 < recent.p95_s < NEVER
