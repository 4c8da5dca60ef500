"""What a table has to say about where and how it was measured, so that two tables are not compared by mistake."""

from __future__ import annotations

import importlib.metadata
import os
import platform
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
        "client": f"Python {platform.python_version()}, "
        + ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("grpcio", "protobuf", "uvloop", "redis", "hiredis"))
        + "; one process a side; the sides not measured idle",
    }


def filesystem(folder: Path, mounts: str) -> str:
    """The type of the filesystem that holds `folder`, by the longest mount point in the text of /proc/mounts above it."""
    best, kind = -1, "an unknown filesystem"
    for line in mounts.splitlines():
        _, point, this_kind, *_ = line.split(" ")
        if folder.resolve().is_relative_to(point) and len(point) > best:
            best, kind = len(point), this_kind
    return kind
