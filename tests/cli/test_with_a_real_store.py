"""The commands on a real client and a real node with its LevelDB, inside this process."""

from __future__ import annotations

import base64
import json
from functools import partial
from pathlib import Path

import pytest

from kvclient.bench import worker
from kvclient.bench.loop import run_closed_loop
from tests.bench_generator.clocks import Ticks
from tests.cli.conftest import Kv


def test_values_live_from_one_command_to_the_next(kv_here: Kv) -> None:
    assert kv_here("put", "alice", "hello").code == 0
    assert kv_here("get", "alice").stdout == b"hello\n"
    assert kv_here("del", "alice").code == 0
    assert kv_here("get", "alice").code == 3


def test_siblings_are_resolved_as_the_command_says(kv_here: Kv) -> None:
    kv_here("put", "cart", "apples")
    assert "now has 2 siblings" in kv_here("put", "cart", "pears", "--context", "").stderr
    got = kv_here("get", "cart")
    assert got.code == 4
    assert sorted(line.split("\t")[2] for line in got.text.splitlines()) == ["apples", "pears"]
    resolve = got.stderr.splitlines()[-1].removeprefix("resolve them with: kv ").replace("VALUE", "both").split()
    assert kv_here(*resolve).code == 0
    assert kv_here("get", "cart").stdout == b"both\n"


def test_many_puts_in_a_row_never_show_a_sibling(kv_here: Kv) -> None:
    for number in range(20):
        assert kv_here("put", "counter", str(number)).stderr == ""
    assert kv_here("get", "counter").stdout == b"19\n"


def test_a_dump_comes_back_with_siblings_and_expiry(kv_here: Kv, tmp_path: Path) -> None:
    kv_here("put", "bytes", "-", stdin=b"\xff\x00")
    kv_here("put", "brief", "soon gone", "--ttl", "3600")
    kv_here("put", "cart", "apples")
    kv_here("put", "cart", "pears", "--context", "")
    file = tmp_path / "dump.jsonl"
    assert kv_here("dump", str(file)).text == f"dumped 3 keys to {file}\n"
    lines = {json.loads(line).get("key"): json.loads(line) for line in file.read_text().splitlines()}
    assert base64.b64decode(lines["bytes"]["value_base64"]) == b"\xff\x00"
    assert kv_here("del", "bytes", "brief", "cart").code == 0
    assert kv_here("scan").stdout == b""
    assert kv_here("load", str(file)).text == "loaded 3 keys\n"
    again = {row["key"]: row for row in kv_here("dump").rows}
    assert again["bytes"] == lines["bytes"]
    assert sorted(sibling["value"] for sibling in again["cart"]["siblings"]) == ["apples", "pears"]
    assert again["brief"]["expires_at"] == pytest.approx(lines["brief"]["expires_at"], abs=5)


def test_status_ring_and_an_unknown_namespace(kv_here: Kv) -> None:
    (row,) = kv_here("status", "-o", "json", "--wait", "converged").rows
    assert row["state"] == "alive"
    assert kv_here("ring", "-o", "json").rows[0]["share"] == 1.0
    unknown = kv_here("get", "a", "-n", "nowhere", "-o", "json")
    assert (unknown.code, unknown.error["code"], unknown.error["subject"]) == (2, "UNKNOWN_NAMESPACE", "nowhere")


@pytest.mark.parametrize("condition", [["--if-absent"], ["--if-version", "00" * 20]])
def test_a_condition_is_refused_with_what_it_needs(kv_here: Kv, condition: list[str]) -> None:
    refused = kv_here("put", "a", "1", *condition, "-o", "json")
    assert (refused.code, refused.error["code"]) == (2, "WRONG_MODE")
    assert "linearizable namespace" in refused.error["message"]
    assert kv_here("get", "a").code == 3


def test_a_short_benchmark_runs_without_an_error(kv_here: Kv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "run_closed_loop", partial(run_closed_loop, clock=Ticks()))
    options = ("--in-flight", "8", "--seconds", "0.2", "--warm-up", "0.05", "--keys", "100")
    (row,) = kv_here("bench", "run", "--workload", "mix", *options, "-o", "json").rows
    assert row["errors"] == {}
    assert row["latency"]["all"]["ops"] > 0
