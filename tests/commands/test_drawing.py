"""The latency picture: right numbers, and lines that fit."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.commands.drawing import ROWS_MAX, bucket_edges, draw_bar, draw_latencies, percentile

LATENCIES_S = st.lists(st.floats(1e-6, 50.0), min_size=1, max_size=200)


@pytest.mark.parametrize(("percent", "expected"), [(50.0, 5), (90.0, 9), (99.0, 10), (100.0, 10), (0.0, 1), (10.0, 1), (11.0, 2)])
def test_a_percentile_is_the_nearest_rank(percent: float, expected: float) -> None:
    assert percentile(list(range(1, 11)), percent) == expected


@pytest.mark.parametrize(
    ("share", "blocks", "bar"),
    [(0.0, True, ""), (1.0, True, "██████"), (0.5, True, "███"), (0.25, True, "█▌"), (0.0001, True, "▏"), (0.001, False, "#")],
)
def test_a_bar_is_as_long_as_its_share_and_never_vanishes(share: float, blocks: bool, bar: str) -> None:
    assert draw_bar(share, 6, blocks=blocks) == bar


def test_edges_are_round_and_enclose_what_was_measured() -> None:
    assert bucket_edges(0.8, 9.0) == [1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0]
    assert bucket_edges(1.0, 1.2) == [1.5]


@given(LATENCIES_S, LATENCIES_S)
def test_any_latencies_give_a_picture_that_fits_and_counts_each_once(puts: list[float], gets: list[float]) -> None:
    lines = draw_latencies({"put": puts, "get": gets}, width=76)
    assert all(len(line) <= 76 for line in lines)
    assert len(lines) <= 1 + ROWS_MAX + 1 + 4
    buckets = [line for line in lines[1:] if not line.lstrip().startswith("p")]
    figures = [int(word.replace(",", "")) for line in buckets for word in line[11:].split() if word[0].isdecimal()]
    assert sum(figures) == len(puts) + len(gets)


def test_the_percentiles_stand_below_in_milliseconds() -> None:
    lines = draw_latencies({"put": [0.001] * 99 + [0.5], "get": [0.002]})
    assert [line.split() for line in lines if line.lstrip().startswith("p50")] == [["p50", "1.00", "ms", "2.00", "ms"]]
    assert [line.split() for line in lines if line.lstrip().startswith("p99.9")] == [["p99.9", "500.00", "ms", "2.00", "ms"]]


def test_without_blocks_the_picture_is_ascii_but_for_its_labels() -> None:
    lines = draw_latencies({"put": [0.001, 0.002], "get": [0.001]}, blocks=False)
    assert "#" in "".join(lines)
    assert not set("".join(lines)) & set("▏▎▍▌▋▊▉█")


@given(st.floats(1e-3, 1e4), st.floats(1e-3, 1e4))
def test_edges_rise(one: float, two: float) -> None:
    fastest, slowest = sorted((one, two))
    edges = bucket_edges(fastest, slowest)
    assert edges == sorted(set(edges))
    assert edges[0] > fastest or math.isclose(edges[0], fastest)
    assert len(edges) <= ROWS_MAX
