"""What a table has to say about where and how it was measured, so that two tables are not compared by mistake."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

from tests.bench.workload import KEYS, VALUE_BYTES

MEMORY_FILESYSTEMS = {"tmpfs", "ramfs"}


def gather_facts(folder: Path, *, rounds: int, seconds: float) -> dict[str, str]:
    """Names and sentences, in the order in which they are printed; `folder` is where the data lies."""
    kind = filesystem(folder, Path("/proc/mounts").read_text() if Path("/proc/mounts").exists() else "")
    memory = ", in memory: an fsync costs nothing there, so puts are not comparable" if kind in MEMORY_FILESYSTEMS else ""
    return {
        "workload": f"{KEYS:,} keys, {VALUE_BYTES}-byte values, uniform; N=3, W=R=2; {seconds:g} s a measurement, rounds: {rounds}",
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, data on {kind}{memory}",
        "wake-up": _say_wake_ups(),
        "client": f"{interpreter(str(sysconfig.get_config_var('CONFIG_ARGS') or ''), sys.base_prefix)}, "
        + ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("grpcio", "protobuf", "uvloop", "redis", "hiredis"))
        + "; one process a side; the sides not measured idle",
    }


def interpreter(config_args: str, base_prefix: str) -> str:
    """Version and kind of build, by how it was configured and where it is installed: without profile-guided optimisation nodes and
    clients do an eighth less. What a distribution ships has it, and does not say so."""
    if "--enable-optimizations" in config_args:
        build = "an optimised build"
    elif base_prefix == "/usr":
        build = "its distribution's build"
    else:
        build = "built without --enable-optimizations: slower than most"
    return f"Python {platform.python_version()} ({build})"


IDLE_S = 0.002
WAKE_UPS = 300
ECHO = "import os\nwhile data := os.read(0, 1):\n    os.write(1, data)"


def _say_wake_ups() -> str:
    """What every hop of a lone operation costs before anything is computed: not the same on all machines."""
    waits_us = measure_wake_ups_us(WAKE_UPS)
    return (
        f"a process that sleeps is woken after {statistics.median(waits_us):.0f} µs, "
        f"one time in ten after {statistics.quantiles(waits_us, n=10)[-1]:.0f} µs or more"
    )


def measure_wake_ups_us(count: int) -> list[float]:
    """How long a byte takes from one process to another that sleeps, with both idle before it: half of there and back."""
    waits_us = []
    with subprocess.Popen([sys.executable, "-c", ECHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as echo:
        assert echo.stdin is not None
        assert echo.stdout is not None
        for _ in range(count):
            time.sleep(IDLE_S)
            started_s = time.perf_counter()
            echo.stdin.write(b"x")
            echo.stdout.read(1)
            waits_us.append((time.perf_counter() - started_s) / 2 * 1e6)
        echo.stdin.close()
    return waits_us


def filesystem(folder: Path, mounts: str) -> str:
    """The type of the filesystem that holds `folder`, by the longest mount point in the text of /proc/mounts above it."""
    best, kind = -1, "an unknown filesystem"
    for line in mounts.splitlines():
        _, point, this_kind, *_ = line.split(" ")
        if folder.resolve().is_relative_to(point) and len(point) > best:
            best, kind = len(point), this_kind
    return kind
