"""Finds etcd's own load tool, `benchmark`: the binary named by KV_BENCH_ETCD_BENCHMARK, or one built once with Go.

It is part of etcd's root module, of which fewer versions are published than of its server; the newest of the same minor is taken.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from kvchaos.targets.etcd_binary import cache_folder
from tests.bench.processes import BenchError

VERSION = "3.6.8"
PACKAGE = "go.etcd.io/etcd/v3/tools/benchmark"
GO_MOD = f"module kvstore-bench/etcd-benchmark\n\ngo 1.24.0\n\nrequire go.etcd.io/etcd/v3 v{VERSION}\n"
BUILD_TIMEOUT_S = 900


def find_etcd_benchmark() -> Path:
    """See the module's text. Raises `BenchError` when there is none and none can be built."""
    if named := os.environ.get("KV_BENCH_ETCD_BENCHMARK"):
        return Path(named)
    built = cache_folder().parent / f"etcd-benchmark-{VERSION}" / "benchmark"
    if not built.exists():
        if not shutil.which("go"):
            raise BenchError(f"etcd's benchmark: no Go to build {VERSION} with; KV_BENCH_ETCD_BENCHMARK can name a binary")
        build(built)
    return built


def build(binary: Path) -> None:
    """Builds the tool and puts it at `binary` in one step, so that an interrupted build leaves nothing that looks done."""
    print(f"building etcd's benchmark {VERSION} (once, a minute or two)", file=sys.stderr)
    binary.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=binary.parent) as scratch:
        (Path(scratch) / "go.mod").write_text(GO_MOD)
        command = ["go", "build", "-mod=mod", "-trimpath", "-o", "benchmark", PACKAGE]
        try:
            done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            raise BenchError(f"etcd's benchmark: building {VERSION} took more than {BUILD_TIMEOUT_S} s") from None
        if done.returncode:
            raise BenchError(f"etcd's benchmark: building {VERSION} failed: {done.stderr.strip().splitlines()[-1:]}")
        os.replace(Path(scratch) / "benchmark", binary)
