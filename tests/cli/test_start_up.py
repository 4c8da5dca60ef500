"""What a `kv` command costs before and behind its work, held against what it cannot do without: an interpreter and gRPC."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

import pytest

from tests.support.kv_processes import KV, DevCluster, environment, run_kv

ROUNDS = 5


def seconds(command: Sequence[str], variables: dict[str, str]) -> float:
    began_s = time.perf_counter()
    subprocess.run(command, env=variables, stdout=subprocess.DEVNULL, check=True, timeout=60)
    return time.perf_counter() - began_s


def medians(*commands: Sequence[str], at: str) -> list[float]:
    """Of alternating runs, so that whatever else the machine does meets all of them."""
    told = environment(KV_AT=at)
    runs = [[seconds(command, told) for command in commands] for _ in range(ROUNDS)]
    return [statistics.median(column) for column in zip(*runs, strict=True)]


def test_a_get_takes_at_most_a_few_times_what_importing_grpc_takes(cluster: DevCluster, capsys: pytest.CaptureFixture[str]) -> None:
    run_kv("--at", cluster.at, "put", "start", "up")
    grpc, get, helped = medians([sys.executable, "-c", "import grpc"], [*KV, "get", "start"], [*KV, "--help"], at=cluster.at)
    with capsys.disabled():
        print(f"\nimport grpc {grpc * 1000:.0f} ms, kv get {get / grpc:.1f} times that, kv --help {helped / grpc:.1f} times")
    # Measured on an idle machine: 2.4 and 1.2.
    assert get < 4 * grpc
    assert helped < 3 * grpc


def test_a_get_imports_nothing_that_it_does_not_need() -> None:
    code = (
        "import sys; from kvclient.cli import main; main.main(['--at', '127.0.0.1:1', '--timeout', '0.01', 'get', 'k']);"
        "print(*sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True, timeout=60)
    modules = set(done.stdout.split())
    assert "grpc" in modules
    unwanted = {
        "rich",
        "prompt_toolkit",
        "importlib.metadata",
        "uvloop",
        "msgspec",
        "hdrh",
        "kvstore",
        "kvclient.blocking",
    }
    assert unwanted & modules == set()


def test_a_node_imports_nothing_that_draws() -> None:
    """structlog would load rich, and that pygments, for tracebacks that a node writes plainly."""
    code = "import sys, kvstore.commands.serve, kvstore.assembly; print(*sorted(sys.modules)); import rich.table"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True, timeout=60)
    modules = set(done.stdout.split())
    assert {"structlog", "grpc", "kvstore.telemetry.logs"} <= modules
    assert {"rich", "pygments", "prompt_toolkit", "matplotlib"} & modules == set()
