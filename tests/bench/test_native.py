from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path

import pytest

from tests.bench import etcd_benchmark_build, million, native, starts
from tests.bench.catalogue import NATIVE, NativeLoad, choose
from tests.bench.client_handle import ClientProcess
from tests.bench.processes import BenchError
from tests.bench.test_machinery import executable
from tests.bench.throughput import Side

LOAD = NativeLoad("redis", "put", 64, 1_000, 16)
CSV = '"test","rps","avg_latency_ms"\n"SET","15337.42","1.2"\n'
ETCD = "Summary:\n  Total:\t1.2 secs.\n  Requests/sec:\t8123.45\n"


async def test_redis_benchmark_is_asked_for_the_same_keys_and_values_and_its_rate_is_read(tmp_path: Path) -> None:
    tool = executable(tmp_path / "redis-benchmark", f"echo \"$@\" > {tmp_path}/asked\ncat <<'END'\n{CSV}END")
    assert await native.run_redis_benchmark(tool, "127.0.0.1:7", LOAD, operations=3_000) == 15_337.42
    asked = (tmp_path / "asked").read_text().split()
    options = dict(zip(asked[asked.index("-c") :: 2], asked[asked.index("-c") + 1 :: 2], strict=True))
    assert options == {"-c": "64", "-P": "16", "-r": "100000", "-d": "100"}
    assert asked[asked.index("-n") + 1] == "3000"


async def test_etcds_tool_is_asked_for_as_many_clients_and_its_rate_is_read(tmp_path: Path) -> None:
    tool = executable(tmp_path / "benchmark", f"echo \"$@\" > {tmp_path}/asked\ncat <<'END'\n{ETCD}END")
    assert await native.run_etcd_benchmark(tool, ["a:1", "b:2"], LOAD, operations=500) == 8_123.45
    asked = (tmp_path / "asked").read_text()
    assert asked.startswith("put ") and "--endpoints a:1,b:2 --clients 64" in asked and "--total 500" in asked


@pytest.mark.parametrize("text", ["", "hello", '"SET","fast"'])
def test_a_tool_that_names_no_rate_is_no_measurement(text: str) -> None:
    with pytest.raises(BenchError, match="nothing of a rate"):
        native.read_redis_rate(text)
    with pytest.raises(BenchError, match="nothing of a rate"):
        native.read_etcd_rate(text)


def test_a_run_of_etcds_tool_in_which_operations_failed_is_none() -> None:
    with pytest.raises(BenchError, match="failed"):
        native.read_etcd_rate(ETCD + "Error distribution:\n  [3] etcdserver: request timed out\n")


async def test_a_tool_that_fails_is_quoted(tmp_path: Path) -> None:
    tool = executable(tmp_path / "redis-benchmark", "echo refused >&2; exit 3")
    with pytest.raises(BenchError, match=r"redis-benchmark: ended with 3 \(refused\)"):
        await native.run_redis_benchmark(tool, "127.0.0.1:7", LOAD, operations=1)


async def test_kv_bench_runs_once_for_a_load_and_what_is_missing_is_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the lines of redis two have the same load on kvstore; etcd and its tool are not there."""
    report = json.dumps({"ops_per_s": 4_000.0})
    asked = tmp_path / "asked"
    kv = executable(tmp_path / "kv", f"echo \"$@\" >> {asked}\necho '{report}' > {tmp_path}/kv-bench.json")
    monkeypatch.setattr(native, "KV", kv)
    tool = executable(tmp_path / "redis-benchmark", f"cat <<'END'\n{CSV}END")
    nothing: ClientProcess = None  # type: ignore[assignment]
    sides = {name: Side(nothing, (), ("127.0.0.1:7",)) for name in ("ours", "redis", "redis-alone")}
    tools = native.NativeTools(sides, tmp_path, redis=tool)
    pairs, problems = await tools.measure_round(choose(["put-256", "put-256-redis", "put-many-redis", "get-256-redis"]), seconds=1)
    assert not problems
    assert (pairs["put-256-redis"].ours, pairs["put-256-redis"].other) == (4_000.0, 15_337.42)
    assert math.isnan(pairs["put-256"].other) and pairs["put-256"].ours == 4_000.0
    assert math.isnan(pairs["put-many-redis"].ours), "kv bench has no pipelines"
    runs = asked.read_text().splitlines()
    assert len(runs) == 2
    assert "--workload put" in runs[0] and "--no-load" in runs[0]
    assert "--workload get" in runs[1] and "--load" in runs[1].split()
    await tools.measure_round(choose(["get-256-redis"]), seconds=1)
    assert "--no-load" in asked.read_text().splitlines()[-1], "the keys are there from the first time"


def test_every_side_with_a_native_load_says_what_its_tool_does() -> None:
    assert {load.side for load in NATIVE.values()} == set(native.NOTES)


def test_etcds_tool_is_named_built_or_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KV_BENCH_ETCD_BENCHMARK", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(BenchError, match="no Go to build"):
        etcd_benchmark_build.find_etcd_benchmark()
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setenv("PATH", f"{executable(tmp_path / 'bin' / 'go', 'echo no network >&2; exit 1').parent}:{os.environ['PATH']}")
    with pytest.raises(BenchError, match="no network"):
        etcd_benchmark_build.find_etcd_benchmark()
    executable(tmp_path / "bin" / "go", 'while [ "$1" != -o ]; do shift; done; echo > "$2"')
    built = etcd_benchmark_build.find_etcd_benchmark()
    assert built.exists() and [path.name for path in built.parent.iterdir()] == ["benchmark"]
    monkeypatch.setenv("KV_BENCH_ETCD_BENCHMARK", "other")
    assert etcd_benchmark_build.find_etcd_benchmark() == Path("other")


class Filler:
    """A client process that loads ever slower."""

    def __init__(self) -> None:
        self.filled: list[int] = []

    async def fill(self, *, first: int, keys: int) -> float:
        self.filled.append(first)
        return 1_000.0 - len(self.filled) * 50

    async def filled_mix(self, *, keys: int, in_flight: int, seconds: float) -> float:
        return 10.0


async def test_a_million_keys_are_judged_by_first_and_last_step_and_the_largest_node() -> None:
    client, said = Filler(), list[str]()
    filling = await million.measure_million(client, [os.getpid()], progress=said.append, keys=1_000, mixed_s=0.0)  # type: ignore[arg-type]
    assert client.filled == list(range(0, 1_000, 100))
    assert len(said) == 10
    assert (filling.pairs["load-speed"].ours, filling.pairs["load-speed"].other) == (500.0, 950.0)
    assert filling.pairs["load-memory"].other == 250.0
    if Path("/proc/self/status").exists():
        assert filling.pairs["load-memory"].ours > 10.0
        assert filling.pairs["mixed-memory"].ratio == pytest.approx(1.0, rel=0.2)
        assert 0 < million.memory_of(os.getpid()).own_mb < million.memory_of(os.getpid()).resident_mb
    assert math.isnan(million.largest([2**22 + 1]).resident_mb)
    assert math.isnan(million.largest([]).resident_mb)


async def test_a_million_keys_that_fail_midway_say_how_far_they_came(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(Filler):
        async def fill(self, *, first: int, keys: int) -> float:
            if first == 200:
                raise BenchError("the disk is full")
            return await super().fill(first=first, keys=keys)

    with pytest.raises(BenchError, match=r"950/s .*, 900/s .*, and then the disk is full"):
        await million.measure_million(Failing(), [os.getpid()], progress=lambda _: None, keys=1_000)  # type: ignore[arg-type]


async def test_a_commands_start_is_measured_to_its_exit_and_one_that_fails_is_no_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starts, "TIMES", 1)
    monkeypatch.setattr(starts, "KV", executable(tmp_path / "kv", "exit 0"))
    monkeypatch.setattr(starts.sys, "executable", str(executable(tmp_path / "python", "exit 0")))  # type: ignore[attr-defined]
    ratio, bar = await starts.measure_start(["h:1", "h:2"])
    assert ratio.ours == bar.ours > 0
    assert bar.other == 0.35
    executable(tmp_path / "kv", "exit 5")
    with pytest.raises(BenchError, match="ended with 5"):
        await starts.measure_start(["h:1"])
