"""`kv bench run` against a store in memory: what it does to the store, and what it reports."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kvclient.bench import worker
from kvclient.bench.histogram import Latencies
from kvclient.bench.kv_operations import bench_key, bench_value, open_operations
from kvclient.bench.loop import run_closed_loop
from kvproto.errors import QuorumUnreachable, RecordLost
from tests.bench_generator.clocks import Ticks
from tests.cli.conftest import Kv
from tests.cli.fake_store import FakeClient


@pytest.fixture(autouse=True)
def a_window_holds_the_same_on_any_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "run_closed_loop", partial(run_closed_loop, clock=Ticks(20)))


QUICK = ("--seconds", "0.05", "--warm-up", "0.01", "--keys", "50", "--in-flight", "4", "--value-bytes", "10")


def test_a_put_run_reports_rate_latencies_and_settings(kv: Kv, store: FakeClient, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    ran = kv("bench", "run", "--workload", "put", *QUICK, "-o", "json", "--json", str(file))
    (row,) = ran.rows
    assert ran.code == 0
    assert json.loads(file.read_text()) == row
    assert (row["workload"], row["in_flight"], row["seconds"], row["value_bytes"], row["keys"]) == ("put", 4, 0.05, 10, 50)
    assert row["ops"] > 0
    assert row["ops_per_s"] == pytest.approx(row["ops"] / 0.05, abs=0.1)
    assert row["errors"] == {}
    figures = row["latency"]["put"]
    assert 0 < figures["p50_us"] <= figures["p99_us"] <= figures["p99_9_us"] <= figures["max_us"]
    assert Latencies.decode(figures["hdr"]).count == figures["ops"] > 0
    assert row["generator"]["overhead_ns_per_op"] > 0
    assert set(store.default.cells) == {bench_key(number) for number in range(50)}
    assert {name for name, _ in store.default.calls} == {"put"}


def test_a_get_run_loads_every_key_first_and_finds_them_all(kv: Kv, store: FakeClient) -> None:
    ran = kv("bench", "run", "--workload", "get", *QUICK, "-o", "json", "-n", "users", "--level", "one")
    calls = store.namespace("users").calls
    assert ran.rows[0]["errors"] == {}
    assert (calls[0][0], calls[0][1]["keys"]) == ("put_many", 50)
    assert {name for name, _ in calls[1:]} == {"get"}
    assert {options["level"] for options in store.connected} == {"one"}


def test_a_mix_is_about_half_reads_and_told_apart(kv: Kv, store: FakeClient) -> None:
    ran = kv("bench", "run", "--workload", "mix", *QUICK, "-o", "json")
    latency = ran.rows[0]["latency"]
    assert list(latency) == ["get", "put", "all"]
    assert latency["all"]["ops"] == latency["get"]["ops"] + latency["put"]["ops"]
    share = latency["get"]["ops"] / latency["all"]["ops"]
    assert 0.35 < share < 0.65


def test_for_people_a_table_without_progress_noise_on_stdout(kv: Kv) -> None:
    ran = kv("bench", "run", "--workload", "mix", *QUICK)
    lines = ran.text.splitlines()
    assert lines[0].startswith("mix, 4 in flight, 10 bytes, 50 keys, 0.05 s")
    assert lines[1].split()[:2] == ["ops", "ops/s"]
    assert [line.split()[0] for line in lines[2:]] == ["get", "put", "all"]
    assert "loading 50 keys" in ran.stderr


def test_a_run_without_a_success_ends_5(kv: Kv, store: FakeClient) -> None:
    store.default.failing = {bench_key(number): QuorumUnreachable("1 of 2 answered") for number in range(50)}
    ran = kv("bench", "run", "--workload", "put", *QUICK)
    assert ran.code == 5
    assert "operations failed with QUORUM_UNREACHABLE" in ran.stderr
    assert "no operation succeeded" in ran.stderr


def test_more_processes_than_callers_are_refused(kv: Kv) -> None:
    refused = kv("bench", "run", "--workload", "put", "--in-flight", "2", "--processes", "3")
    assert (refused.code, refused.stdout) == (2, b"")


async def test_a_key_that_was_loaded_and_is_gone_is_an_error(store: FakeClient) -> None:
    parameters: dict[str, Any] = {
        "at": "x",
        "namespace": "default",
        "workload": "get",
        "keys": 3,
        "value_bytes": 1,
        "seed": 0,
        "timeout_s": None,
        "level": None,
    }
    async with open_operations(parameters) as operations:
        with pytest.raises(RecordLost, match="was loaded and is not found"):
            await operations.op(0)


def test_values_have_their_size_and_depend_on_the_seed() -> None:
    assert [len(bench_value(size)) for size in (0, 1, 100)] == [0, 1, 100]
    assert bench_value(20, 1) == bench_value(20, 1) != bench_value(20, 2)
