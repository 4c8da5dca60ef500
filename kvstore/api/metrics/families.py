"""Shapes that every metric here has: a family, with rows of label values. Names have the prefix `kv_` and base units; label values
are from sets that no client can make larger.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from kvstore.telemetry.histogram import Histogram

Row = tuple[Sequence[str], float]
"""Label values, and the number."""


def counter(name: str, text: str, labels: Sequence[str], rows: Iterable[Row]) -> Metric:
    """A number that only grows; `name` without `_total`."""
    family = CounterMetricFamily(name, text, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family


def gauge(name: str, text: str, labels: Sequence[str], rows: Iterable[Row]) -> Metric:
    """A number that goes up and down."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family


def histogram(name: str, text: str, labels: Sequence[str], rows: Iterable[tuple[Sequence[str], Histogram]]) -> Metric:
    """Values in buckets."""
    family = HistogramMetricFamily(name, text, labels=labels)
    for values, counts in rows:
        buckets = [("+Inf" if bound == float("inf") else str(bound), number) for bound, number in counts.cumulative()]
        family.add_metric(values, buckets, sum_value=counts.total)
    return family
