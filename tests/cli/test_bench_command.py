"""`kv bench run` against a store in memory: what it does to the store, and what it reports."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from kvclient.bench import worker
from kvclient.bench.histogram import Latencies
from kvclient.bench.kv_operations import bench_key, bench_values, open_operations
from kvclient.bench.loop import run_closed_loop
from kvproto.columns import Level
from kvproto.errors import QuorumUnreachable, RecordLost
from tests.bench_generator.clocks import Ticks
from tests.cli.conftest import Kv
from tests.cli.fake_store import RECEIPT, FakeClient


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


@pytest.mark.parametrize("workload", ["put", "get", "d", "f"])
def test_bug_a_run_of_writes_that_one_replica_took_looked_like_any_other(kv: Kv, store: FakeClient, workload: str) -> None:
    """Two of three nodes failed at every write and a preset degraded: that is fast, and nothing in the report said so."""
    store.default.receipt = replace(RECEIPT, level=Level.ONE, acknowledged=("n1",), degraded=True)
    ran = kv("bench", "run", "--workload", workload, *QUICK, "-o", "json")
    assert ran.rows[0]["degraded"] >= ran.rows[0]["ops"] > 0
    assert "were degraded" in ran.stderr
    store.default.receipt = RECEIPT
    ran = kv("bench", "run", "--workload", workload, *QUICK, "-o", "json")
    assert ran.rows[0]["degraded"] == 0 and "degraded" not in ran.stderr


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
        "value_bytes": (1, 1),
        "distribution": "uniform",
        "seed": 0,
        "timeout_s": None,
        "level": None,
    }
    async with open_operations(parameters) as operations:
        with pytest.raises(RecordLost, match="was loaded and is not found"):
            await operations.op(0)


def test_values_have_their_sizes_and_depend_on_the_seed() -> None:
    assert [{len(value) for value in bench_values((size, size), Random(1))} for size in (0, 1, 100)] == [{0}, {1}, {100}]
    assert bench_values((20, 20), Random(1)) == bench_values((20, 20), Random(1)) != bench_values((20, 20), Random(2))
    sizes = {len(value) for value in bench_values((10, 19), Random(1))}
    assert sizes == set(range(10, 20))
    assert len(bench_values((1 << 20, 1 << 20), Random(1))) == 8, "large values do not fill the memory"


def test_workload_e_scans_short_ranges_and_inserts_new_keys(kv: Kv, store: FakeClient) -> None:
    ran = kv("bench", "run", "--workload", "e", *QUICK, "--seconds", "0.2", "-o", "json")
    (row,) = ran.rows
    assert row["errors"] == {}
    assert (row["distribution"], list(row["latency"])) == ("zipfian", ["scan", "insert", "all"])
    assert row["latency"]["scan"]["ops"] > 5 * row["latency"]["insert"]["ops"] > 0
    limits = {options["limit"] for name, options in store.default.calls if name == "scan"}
    assert min(limits) >= 1 and 50 < max(limits) <= 100
    assert set(store.default.cells) > {bench_key(number) for number in range(50)}, "new keys follow the loaded ones"


def test_workload_d_reads_mostly_what_was_inserted_last(kv: Kv, store: FakeClient) -> None:
    (row,) = kv("bench", "run", "--workload", "d", *QUICK, "--seconds", "0.2", "-o", "json").rows
    assert row["errors"] == {}, "nothing is read before it was acknowledged"
    assert row["distribution"] == "latest"
    assert row["latency"]["get"]["ops"] > 5 * row["latency"]["insert"]["ops"] > 0


def test_workload_f_writes_with_the_context_that_it_read(kv: Kv, store: FakeClient) -> None:
    (row,) = kv("bench", "run", "--workload", "f", *QUICK, "-o", "json").rows
    assert row["errors"] == {}
    assert set(row["latency"]) == {"get", "rmw", "all"}
    assert all(options["context"] for name, options in store.default.calls if name == "put")


def test_keys_that_are_there_need_no_loading(kv: Kv, store: FakeClient) -> None:
    filled = kv("bench", "run", "--workload", "put", *QUICK)
    assert (filled.code, len(store.default.cells)) == (0, 50), filled.stderr
    (row,) = kv("bench", "run", "--workload", "get", *QUICK, "--no-load", "-o", "json").rows
    assert row["errors"] == {}
    assert "put_many" not in {name for name, _ in store.default.calls}


def test_with_a_rate_operations_begin_when_they_are_due(kv: Kv) -> None:
    ran = kv("bench", "run", "--workload", "mix", *QUICK, "--rate", "1000", "--seconds", "0.1", "-o", "json")
    (row,) = ran.rows
    # Where the machine stands still at the window's end some are due and not begun, which is told and is no other error.
    assert row["errors"].keys() <= {"NOT_BEGUN"}
    assert row["latency"]["all"]["ops"] + row["errors"].get("NOT_BEGUN", 0) == 100
    assert row["latency"]["all"]["ops"] > 50
    assert row["rate_per_s"] == 1000


def test_value_sizes_may_be_a_range_and_what_is_none_is_refused(kv: Kv, store: FakeClient) -> None:
    (row,) = kv("bench", "run", "--workload", "put", *QUICK, "--value-bytes", "5-9", "-o", "json").rows
    assert row["value_bytes"] == [5, 9]
    for wrong in ("9-5", "many", "-5"):
        assert kv("bench", "run", "--workload", "put", "--value-bytes", wrong).code == 2


def test_a_missed_bar_ends_8_and_a_met_one_0(kv: Kv) -> None:
    missed = kv("bench", "run", "--workload", "put", *QUICK, "--min-rate", "1e12", "--max-p99-ms", "60000", "-o", "json")
    assert missed.code == 8
    assert [(gate["name"], gate["met"]) for gate in missed.rows[0]["gates"]] == [("min_rate", False), ("max_p99_ms", True)]
    assert "bar missed" in missed.stderr and "at least 1,000,000,000,000" in missed.stderr
    assert kv("bench", "run", "--workload", "put", *QUICK, "--min-rate", "1", "--max-p99-ms", "60000").code == 0


def test_where_much_failed_it_says_so_and_no_bar_is_judged(kv: Kv, store: FakeClient) -> None:
    store.default.failing = {bench_key(number): QuorumUnreachable("1 of 2 answered") for number in range(25)}
    ran = kv("bench", "run", "--workload", "put", *QUICK, "--min-rate", "1")
    assert ran.code == 9
    assert "the figures say little" in ran.stderr


def test_the_table_for_people_names_the_generators_own_cost(kv: Kv) -> None:
    assert "the generator alone:" in kv("bench", "run", "--workload", "a", *QUICK).stderr


def test_ctrl_c_shows_what_was_measured_and_ends_130(kv: Kv, store: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    put, calls = store.default.put, 0

    async def interrupting(key: bytes, value: bytes, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        if calls == 2_000:
            os.kill(os.getpid(), signal.SIGINT)
        return await put(key, value, **options)

    monkeypatch.setattr(store.default, "put", interrupting)
    ran = kv("bench", "run", "--workload", "put", *QUICK, "--seconds", "600", "-o", "json")
    assert ran.code == 130
    assert ran.rows[0]["interrupted"] and ran.rows[0]["ops"] > 100
    assert "interrupted: these figures are of" in ran.stderr
