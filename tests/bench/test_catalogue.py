from __future__ import annotations

import math

import pytest

from tests.bench import throughput
from tests.bench.catalogue import COMPARISONS, GROUPS, LINES, NATIVE, Load, choose
from tests.bench.client_handle import Figures
from tests.bench.client_process import SIDES

BY_NAME = {line.name: line for line in LINES}


def figures(rate_per_s: float, p50_ms: float | None = 1.0) -> Figures:
    return Figures(rate_per_s, 100, {}, p50_ms, 2.0, 3.0)


def test_every_line_has_a_name_of_its_own_a_group_and_a_positive_bar_if_any() -> None:
    assert len(BY_NAME) == len(LINES)
    assert all(line.groups for line in LINES)
    assert all(line.bar is None or line.bar > 0 for line in LINES)
    assert not set(GROUPS) & set(BY_NAME), "what is asked for means one thing"


def test_every_comparison_and_native_load_belongs_to_a_line_and_a_side_that_there_is() -> None:
    assert set(COMPARISONS) <= set(BY_NAME)
    assert set(NATIVE) <= set(COMPARISONS)
    assert {source.side for one in COMPARISONS.values() for source in (one.ours, one.other)} == {*SIDES, "raw"}
    assert all(NATIVE[name].side == COMPARISONS[name].other.side for name in NATIVE)


def test_lines_are_chosen_by_name_or_group_in_their_own_order() -> None:
    assert choose([]) == list(LINES)
    assert [line.name for line in choose(["million", "put-1"])] == [
        "put-1",
        "load-speed",
        "load-memory",
        "load-peak",
        "mixed-memory",
    ]
    with pytest.raises(ValueError, match="cassandra is no line"):
        choose(["put-1", "cassandra"])


def test_a_round_measures_each_load_once_and_only_where_a_line_needs_it() -> None:
    plan = throughput.plan_round(choose(["put-256", "put-256-raw", "put-256-redis", "get-1-redis"]), SIDES)
    assert plan == {Load("put", 256): ["etcd", "ours", "redis"], Load("get", 1): ["ours", "redis-alone"]}
    assert throughput.plan_round(choose(["put-256-redis"]), ["ours"]) == {Load("put", 256): ["ours"]}
    assert throughput.plan_round(choose(["start"]), SIDES) == {}


def test_a_rounds_pairs_are_read_from_the_figures_their_lines_name() -> None:
    done = throughput.Round(raw_puts_per_s=50_000.0)
    done.figures["ours"][Load("put", 256)] = figures(20_000.0)
    done.figures["redis"][Load("put", 256)] = figures(10_000.0)
    done.figures["ours"][Load("get", 1)] = figures(700.0, 1.5)
    done.figures["redis-alone"][Load("get", 1)] = figures(9_000.0, 0.1)
    pairs = throughput.pairs_of(done, choose(["put-256", "put-256-raw", "put-256-redis", "get-1-redis", "start"]))
    assert pairs["put-256-redis"].ratio == 2.0
    assert pairs["put-256-raw"].ratio == 1.2, "every put is written three times"
    assert pairs["get-1-redis"].ratio == pytest.approx(15.0)
    assert math.isnan(pairs["put-256"].ratio), "etcd was not measured"
    assert "start" not in pairs
