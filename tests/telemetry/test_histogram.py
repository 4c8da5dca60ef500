"""Buckets that take a whole batch at once hold what prometheus_client's own hold when they are given each value by itself."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client import Histogram as Reference

from kvstore.telemetry.histogram import REPLICAS, SECONDS, SIBLINGS, SIZES, Histogram

VALUES = st.one_of(st.sampled_from([*SECONDS, *SIZES, *SIBLINGS, *REPLICAS]), st.floats(0, 10_000, allow_nan=False))
ADDED = st.lists(st.tuples(VALUES, st.integers(1, 20)), max_size=20)


@given(st.sampled_from([SECONDS, SIZES, SIBLINGS, REPLICAS]), ADDED)
def test_a_batch_counts_as_each_of_its_values_would(bounds: tuple[float, ...], added: list[tuple[float, int]]) -> None:
    registry = CollectorRegistry()
    reference = Reference("h", "h", buckets=bounds, registry=registry)
    ours = Histogram(bounds)
    for value, count in added:
        ours.add(value, count)
        for _ in range(count):
            reference.observe(value)
    (family,) = registry.collect()
    buckets = [(float(sample.labels["le"]), sample.value) for sample in family.samples if sample.name == "h_bucket"]
    assert ours.cumulative() == buckets
    assert ours.count == registry.get_sample_value("h_count") == sum(count for _, count in added)
    assert abs(ours.total - (registry.get_sample_value("h_sum") or 0.0)) < 1e-6 * max(1.0, ours.total)


def test_durations_reach_from_a_tenth_of_a_millisecond_to_more_than_ten_seconds_and_double() -> None:
    assert SECONDS[0] == 0.0001 and SECONDS[-1] > 10
    assert all(abs(later / earlier - 2) < 0.01 for earlier, later in pairwise(SECONDS))
