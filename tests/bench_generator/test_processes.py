"""Histograms, and several processes measuring as one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kvclient.bench import processes
from kvclient.bench.histogram import LATENCY_NS_MAX, PERCENTILES, Latencies
from kvclient.bench.processes import measure_in_processes
from kvclient.bench.worker import Measured, Share
from kvproto.errors import KvError, Overloaded
from tests.bench_generator.targets import THIS


@settings(max_examples=50)  # a histogram is made in some 10 ms
@given(st.lists(st.integers(1, LATENCY_NS_MAX), min_size=1, max_size=50), st.floats(0, 100))
@example([16031, 16031, 16031], 34.0)
def test_percentiles_are_right_to_three_digits(latencies_ns: list[int], percentile: float) -> None:
    recorded = Latencies(latencies_ns)
    below = sum(
        1 for latency_ns in latencies_ns if latency_ns <= recorded.percentile_us(percentile) * 1000 * (1 + 1e-9)
    )  # microseconds as floats
    assert below >= round(percentile / 100 * len(latencies_ns) - 0.5)
    nearest = min(latencies_ns, key=lambda latency_ns: abs(latency_ns - recorded.percentile_us(percentile) * 1000))
    assert recorded.percentile_us(percentile) * 1000 == pytest.approx(nearest, rel=0.001)


@settings(max_examples=50)
@given(st.lists(st.lists(st.integers(1, LATENCY_NS_MAX), max_size=20), min_size=1, max_size=3))
def test_merging_is_recording_together_and_survives_the_coding(parts: list[list[int]]) -> None:
    merged = Latencies()
    for part in parts:
        merged.merge(Latencies.decode(Latencies(part).encode()))
    together = Latencies(latency_ns for part in parts for latency_ns in part)
    assert merged.count == together.count == sum(map(len, parts))
    for percentile in (50.0, 99.0, 100.0):
        assert merged.percentile_us(percentile) == together.percentile_us(percentile)


def test_a_summary_has_every_figure_and_nothing_recorded_is_zeros() -> None:
    random = Random(1)
    summary = Latencies(random.randrange(1_000, 2_000_000) for _ in range(5_000)).summary()
    assert set(summary) == {*PERCENTILES, "mean_us"}
    assert summary["p50_us"] < summary["p90_us"] < summary["p99_us"] < summary["p99_9_us"] <= summary["max_us"]
    assert summary["mean_us"] == pytest.approx(1000, rel=0.05)
    assert set(Latencies().summary().values()) == {0.0}


def test_latencies_out_of_range_are_kept_at_its_ends() -> None:
    assert Latencies([0, LATENCY_NS_MAX * 2]).count == 2


def test_one_process_measures_each_kind_apart() -> None:
    measured = measure_in_processes(Share(f"{THIS}:yielding", {"fail_each": 5}, 4, 0.3), 1)
    assert set(measured.latencies) == {"even", "odd"}
    assert measured.errors.keys() == {"OVERLOADED"}
    assert 0 < measured.completed <= sum(latencies.count for latencies in measured.latencies.values())


def test_several_processes_measure_together(monkeypatch: pytest.MonkeyPatch) -> None:
    parts: list[Measured] = []
    from_row = Measured.from_row

    def keep(row: Mapping[str, Any]) -> Measured:
        parts.append(from_row(row))
        return parts[-1]

    monkeypatch.setattr(Measured, "from_row", keep)
    measured = measure_in_processes(Share(f"{THIS}:yielding", {"fail_each": 5}, 5, 0.5), 2)
    assert len(parts) == 2
    assert measured is parts[0]
    assert measured.completed > parts[1].completed > 0
    assert measured.errors["OVERLOADED"] > parts[1].errors["OVERLOADED"] > 0
    assert measured.latencies["odd"].count > parts[1].latencies["odd"].count > 0


@pytest.mark.parametrize("processes_count", [1, 2])
def test_an_interrupt_ends_the_run_with_what_was_measured_until_then(processes_count: int) -> None:
    share = Share(f"{THIS}:interrupting", {"starter": os.getpid()}, 4, 60)
    measured = measure_in_processes(share, processes_count)
    assert measured.interrupted
    assert 0 < measured.seconds < 60
    assert measured.completed > 400
    assert measured.latencies["any"].count == measured.completed


def test_processes_share_the_rate_of_an_open_loop() -> None:
    measured = measure_in_processes(Share(f"{THIS}:yielding", {}, 100, 0.25, rate_per_s=1_000), 2)
    assert sum(latencies.count for latencies in measured.latencies.values()) + sum(measured.errors.values()) == 250


def test_callers_are_divided_and_their_numbers_never_meet() -> None:
    shares = processes._divide(Share("x:y", {}, 7, 1.0, first=3), 3)
    assert [share.in_flight for share in shares] == [3, 2, 2]
    assert len({share.first >> 40 for share in shares}) == 3
    assert [(share.parameters["process"], share.parameters["processes"]) for share in shares] == [(0, 3), (1, 3), (2, 3)]
    with pytest.raises(ValueError, match="2 callers cannot be divided over 3 processes"):
        processes._divide(Share("x:y", {}, 2, 1.0), 3)


def test_an_error_of_the_store_in_a_worker_is_raised_here_as_it_was() -> None:
    with pytest.raises(Overloaded, match="not now") as raised:
        measure_in_processes(Share(f"{THIS}:refusing", {}, 2, 0.1), 2)
    assert (raised.value.retry_after_s, raised.value.retryable) == (0.5, True)


def test_a_worker_that_dies_is_an_error_and_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[processes.Worker] = []
    popen = subprocess.Popen

    def start(command: list[str], **settings: Any) -> processes.Worker:
        started.append(popen(command, **settings))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    with pytest.raises(KvError, match="ended with code 3"):
        measure_in_processes(Share(f"{THIS}:crashing", {}, 2, 0.1), 2)
    assert len(started) == 2
    assert all(worker.returncode is not None for worker in started)
